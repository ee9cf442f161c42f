// A recipe as canonical TOML.
#pragma once

#include <string>

#include "pare/pipeline/recipe.h"

namespace pare::pipeline {

// Every key with its value, defaults included, one a line, in a fixed order. Paths are absolute. Numbers are written so
// that they read back to the same double.
[[nodiscard]] std::string canonical_text(const Recipe& recipe);

}  // namespace pare::pipeline
