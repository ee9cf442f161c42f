// Which rows of a kernel table this machine can run. Test-only.
#pragma once

#include <algorithm>
#include <vector>

#include "pare/base/cpu.h"

namespace pare::kernels::testing {

[[nodiscard]] inline bool runs_here(Isa isa) {
  static const std::vector<Isa> here = supported_isas();
  return std::find(here.begin(), here.end(), isa) != here.end();
}

}  // namespace pare::kernels::testing
