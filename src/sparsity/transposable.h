// Transposable 2:4 masks: 2:4 along the rows and along the columns, so that a weight and its transpose both have the
// pattern, and the products of a forward and of a backward pass alike. On plain memory.
//
// A weight is cut into tiles of 4 x 4; of a tile's 16 elements 8 stay, two in each row and two in each column. There
// are 90 such patterns. Hubara et al., "Accelerated Sparse Neural Training" (arXiv 2102.08124) have the idea; Hu et al.
// (arXiv 2404.01847) the search over all 90, which is exact where torch's (torch.sparse.SparseSemiStructuredTensor,
// under torchao's SemiSparseLinear) takes the greatest first and may end short of the best sum.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace pare::sparsity {

inline constexpr std::int64_t kTileExtent = 4;
inline constexpr std::size_t kTransposablePatterns = 90;

// Bit 4 * row + column is set where a pattern keeps. In an order in which, of two patterns, the one that keeps the
// first position in which they differ comes first.
[[nodiscard]] const std::array<std::uint16_t, kTransposablePatterns>& transposable_patterns();

// Writes the masks of tiles, some at a time. For each the pattern is chosen that keeps most: the greatest sum of
// |w|^norm, the first pattern among equals. What lies past an edge counts as 0, so rows and columns of a smaller tile
// keep at most two as well, not always exactly two. A NaN counts more than any number, an infinity more than any other.
class TransposableMasker {
 public:
  // Both of the same size, rows of `stride` elements; must not overlap and must outlive the masker. norm: 1 or 2.
  TransposableMasker(const float* weight, std::int64_t stride, int norm, float* mask)
      : weight_(weight), stride_(stride), norm_(norm), mask_(mask) {}

  // The tile of rows x cols, each 1 to 4, whose first element is `first`. Its mask may be written later: by finish().
  void add(std::int64_t first, std::int64_t rows, std::int64_t cols);
  void finish();

 private:
  // So many that the search over patterns runs in vector registers.
  static constexpr std::size_t kBatch = 8;
  struct Tile {
    std::int64_t first;
    std::int64_t rows;
    std::int64_t cols;
  };

  const float* weight_;
  std::int64_t stride_;
  int norm_;
  float* mask_;
  std::size_t count_ = 0;
  std::array<Tile, kBatch> tiles_{};
  // Sums of two elements: of each row (4), for each of its six pairs of columns.
  std::array<std::array<double, kBatch>, 24> pairs_{};
};

// Whether every tile of the mask [rows, cols] (row-major, tiles from its first element on) has at most two elements in
// each row and in each column that are not 0.
[[nodiscard]] bool is_transposable(const float* mask, std::int64_t rows, std::int64_t cols);

}  // namespace pare::sparsity
