// Which pare this is.
#pragma once

namespace pare::pipeline {

[[nodiscard]] const char* version();  // "0.1.0", the project's version

}  // namespace pare::pipeline
