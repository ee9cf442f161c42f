// Which weights of a matrix go: the rule of torch.ao.pruning.WeightNormSparsifier, on plain memory. No LibTorch here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "pare/format/vnm_pattern.h"

namespace pare::sparsity {

// Which elements of a block that is sparsified go.
enum class BlockRule {
  kElements,      // the least in magnitude
  kWholeColumns,  // whole columns, those with the least norm, so that the rows of a block share one mask (V:N:M)
  kTransposable,  // what leaves 2:4 along rows and columns of a 4 x 4 block and keeps most (transposable.h)
};

inline constexpr const char* kTransposablePattern = "2:4t";

// torch.ao.pruning's fields. With sparse_block_shape {1, 4} and zeros_per_block 2, a sparsity_level of 1 is 2:4
// everywhere, and 0.5 is 2:4 in the half of the blocks whose norm is least.
struct MaskConfig {
  double sparsity_level = 0.5;                              // fraction of blocks that are sparsified, in [0, 1]
  std::array<std::int64_t, 2> sparse_block_shape = {1, 4};  // rows x columns of the weight as a matrix
  std::int64_t zeros_per_block = 4;                         // of rows * columns elements, the least in magnitude go
  int norm = 2;                                             // 1 or 2: what the norm of a block is
  BlockRule rule = BlockRule::kElements;

  // "2:4" -> {1.0, {1, 4}, 2}, any "N:M" with 0 < N < M <= 16; "64:2:4" -> {1.0, {64, 4}, 128, whole columns}, any
  // "V:N:M"; "2:4t" -> {1.0, {4, 4}, 8, transposable}; throws kInvalidArgument for anything else.
  [[nodiscard]] static MaskConfig from_pattern(const std::string& pattern);
  // Throws kInvalidArgument: a level outside [0, 1], empty or absurd blocks, more zeros than elements, another norm,
  // zeros that are no whole columns where those go, blocks other than 4x4 with 8 zeros for transposable masks.
  // `where` names the layer or recipe entry in the error.
  void validate(const std::string& where = "WeightNormSparsifier") const;

  [[nodiscard]] std::int64_t elems_per_block() const { return sparse_block_shape[0] * sparse_block_shape[1]; }
  // Set where every group of the weight keeps n of m (V:N:M, and N:M with v = 1; a transposable mask is 2:4), so that
  // it has a packed form: not with a level below 1, nor with blocks of other shapes.
  [[nodiscard]] std::optional<format::VnmPattern> vnm() const;
  friend bool operator==(const MaskConfig&, const MaskConfig&) = default;
};

// "2:4" for one-row blocks that keep 2 of 4 everywhere; "64:2:4" for blocks of 64 rows that share such a mask; "2:4t";
// "unstructured" for single elements; "block 4x1" for blocks that go as a whole; "block 2x4 keeping 6" otherwise. With
// a level below 1 "2:4 in 0.5 of the blocks": it does not pack.
[[nodiscard]] std::string pattern_name(const MaskConfig& config);

// `matrices` row-major matrices of rows x cols float32, one after another; any extent may be 0. Of a convolution
// [O, I, kh, kw] they are its kh * kw taps [O, I]; blocks stay within one of them.
struct MaskShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t matrices = 1;
};

// Writes mask[i] = 1 (kept) or 0.
//
// 1. round_half_even(sparsity_level * blocks) blocks are sparsified, and never all of them while the level is below 1:
//    those whose mean of |w|^norm is least (a block that reaches past an edge has the mean of what it holds).
// 2. In each of them the zeros_per_block elements that are least in magnitude go. Positions past an edge count as zeros
//    and go first, so a tail of 2 columns under 2:4 keeps both: the pattern holds in the padded form that is stored.
//    With kWholeColumns the zeros_per_block / rows columns go whose sum of |w|^norm is least, likewise. With
//    kTransposable that pattern of the 90 stays whose sum of |w|^norm is greatest.
// Among equals the first in row-major order is kept, in both steps. A NaN ranks above every number.
//
// torch agrees except in two places. Which of several equals goes is whatever its selection happens to do. And it pads
// with NaN, so that a tail loses real weights first; the mask then has the padded shape, and forward fails.
//
// Precondition: config is valid. `weight` and `mask` must not overlap.
void weight_norm_mask(const float* weight, const MaskShape& shape, const MaskConfig& config, float* mask);

}  // namespace pare::sparsity
