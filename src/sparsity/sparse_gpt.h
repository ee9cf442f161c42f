// SparseGPT (Frantar and Alistarh, arXiv 2301.00774): which weights go, and how the others make up for them.
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "pare/sparsity/mask.h"
#include "pare/sparsity/obs_columns.h"

namespace pare::sparsity {

struct SparseGptResult {
  torch::Tensor weight;  // float32 [rows, k]: 0 where masked
  torch::Tensor mask;    // float32 [rows, k], 1 = kept
  double error = 0.0;    // sum over outputs of the squared error that the paper's objective expects, ||W X - W' X||^2
};

// Prunes weight [rows, k] (group order: runs of segment_elems inputs, groups of a pattern run along them; a matrix is
// one run) to minimize ||W X - W' X||^2, hessian = X X^T [k, k] of the layer's inputs X [k, samples]; both float32.
//
// Columns go from left to right. At the start of a group those positions go whose w^2 / c^2 is least, c being the
// diagonal of the Cholesky factor of the inverse Hessian, summed over the rows that share a mask; what a masked weight
// leaves as an error is spread over the columns to its right. Single elements (sparse_block_shape 1x1):
// round_half_even(level * elements) of each block of columns. Inputs that were never anything but 0 (an empty column
// of the Hessian) are masked first. Among equals the first is kept.
//
// Patterns: N:M, V:N:M with level 1, and single elements; kInvalidArgument for others and for shapes that do not fit.
// kNumeric: NaN or infinity, or a Hessian that stays singular with this damping.
[[nodiscard]] SparseGptResult sparse_gpt(const torch::Tensor& weight, const torch::Tensor& hessian,
                                         std::int64_t segment_elems, const MaskConfig& config,
                                         const ObsOptions& options = {});

// Whether sparse_gpt can make masks of this configuration.
[[nodiscard]] bool sparse_gpt_supports(const MaskConfig& config);

}  // namespace pare::sparsity
