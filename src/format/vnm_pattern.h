// V:N:M: blocks of v rows share one mask that keeps n of every m consecutive elements. A plain struct, for files that
// are compiled for one instruction set, too.
#pragma once

#include <cstdint>

namespace pare::format {

struct VnmPattern {
  std::int64_t v = 0;
  std::int64_t n = 0;
  std::int64_t m = 0;
  friend bool operator==(const VnmPattern&, const VnmPattern&) = default;
};

}  // namespace pare::format
