// Networks small enough for tests of the sparsifier, and what tests ask of them.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "pare/format/two_four.h"
#include "pare/graph/builtin.h"
#include "pare/train/model.h"

namespace pare::sparsity::testing {

// 5 x 6 images: fc1 has 30 input features, so a tail of 2 under 2:4.
inline graph::Graph small_mlp(std::uint64_t seed) { return graph::builtin("mlp", seed, 1, 5, 6, 4); }
// 8 x 8 images of one channel: conv1 cannot be 2:4.
inline graph::Graph small_convnet(std::uint64_t seed) { return graph::builtin("convnet", seed, 1, 8, 8, 4); }

// Groups of a weight [n, k] or [O, I, kh, kw] with more than two non-zeros.
inline std::int64_t two_four_violations(const torch::Tensor& weight) {
  const bool conv = weight.dim() == 4;
  const torch::Tensor ordered = (conv ? weight.permute({0, 2, 3, 1}) : weight).contiguous();
  const torch::Tensor nonzero = (ordered != 0).to(torch::kInt8).contiguous();
  format::TwoFourLayout layout;
  layout.rows = weight.size(0);
  layout.segments = conv ? weight.size(2) * weight.size(3) : 1;
  layout.segment_elems = weight.size(1);
  const auto* data = nonzero.data_ptr<std::int8_t>();
  return format::find_two_four_violation({data, static_cast<std::size_t>(nonzero.numel())}, layout).violations;
}

inline std::int64_t two_four_groups(const torch::Tensor& weight) {
  return weight.numel() / weight.size(1) * ((weight.size(1) + 3) / 4);
}

}  // namespace pare::sparsity::testing
