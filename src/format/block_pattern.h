// Block sparsity: weights are kept or dropped in blocks of rows x columns. A plain struct, for files that are compiled
// for one instruction set, too.
#pragma once

#include <cstdint>

namespace pare::format {

struct BlockPattern {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  friend bool operator==(const BlockPattern&, const BlockPattern&) = default;

  [[nodiscard]] constexpr std::int64_t elems() const { return rows * columns; }
};

}  // namespace pare::format
