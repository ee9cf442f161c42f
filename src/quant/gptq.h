// GPTQ (Frantar et al., arXiv 2210.17323): which codes a weight rounds to, so that its layer's outputs change least.
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "pare/format/affine.h"
#include "pare/sparsity/obs_columns.h"

namespace pare::quant {

// The values that a weight [rows, k] may take: code * scale, code in `range`, zero point 0. `group_elems` consecutive
// columns of a row share a scale (the last group may be shorter): k of them for a scale a row, 32 for int4 in groups.
struct WeightGrid {
  torch::Tensor scales;  // float32 [rows, ceil(k / group_elems)], finite and not negative; 0 leaves only the code 0
  std::int64_t group_elems = 0;
  format::QuantRange range = format::kInt8WeightRange;
  // Throws kInvalidArgument.
  void validate(std::int64_t rows, std::int64_t k) const;
};

struct GptqResult {
  torch::Tensor codes;   // int8 [rows, k], 0 where masked
  torch::Tensor weight;  // float32 [rows, k], code * scale: format::quantize gives the codes again
  double error = 0.0;    // sum over outputs of the squared error that the paper's objective expects, ||W X - W' X||^2
};

// Rounds weight [rows, k] to the grid to minimize ||W X - W' X||^2, hessian = X X^T [k, k] of the layer's inputs X
// [k, samples]; both float32. Columns go from left to right, each to the nearest code; what rounding leaves as an error
// is spread over the columns to its right (sparsity/obs_columns.h). Scales are given and stay ("static groups").
//
// mask: float32 [rows, k], 0 = masked; undefined for none. A masked weight has only the code 0: whatever columns to its
// left spread to it, it hands on. Inputs that were never anything but 0 (an empty column of the Hessian) tell nothing:
// their weights are rounded to the nearest.
//
// Throws kInvalidArgument for shapes that do not fit, kNumeric for NaN or infinity, and for a Hessian that stays
// singular with this damping.
[[nodiscard]] GptqResult gptq(const torch::Tensor& weight, const torch::Tensor& mask, const torch::Tensor& hessian,
                              const WeightGrid& grid, const sparsity::ObsOptions& options = {});

}  // namespace pare::quant
