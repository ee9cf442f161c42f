// A weight as the matrices that masks are made for: one tap [O, I] after another, so that groups run along the inputs.
#pragma once

#include <torch/torch.h>

namespace pare::sparsity {

// [O, I, kh, kw] -> [kh * kw, O, I]; [n, k] -> [1, n, k]. Contiguous, on the CPU. Precondition: 2 or 4 dimensions.
[[nodiscard]] inline torch::Tensor to_taps(const torch::Tensor& weight) {
  const torch::Tensor host = weight.detach().to(torch::kCPU);
  return host.dim() == 2 ? host.contiguous().unsqueeze(0) : host.flatten(2).permute({2, 0, 1}).contiguous();
}

// The reverse, in the shape and on the device of `like`.
[[nodiscard]] inline torch::Tensor from_taps(const torch::Tensor& taps, const torch::Tensor& like) {
  const torch::Tensor weight = like.dim() == 2 ? taps.squeeze(0) : taps.permute({1, 2, 0}).reshape(like.sizes());
  return weight.contiguous().to(like.device());
}

// The weight as the matrix [O, taps * I] whose columns train::for_layer_inputs gives the inputs of, and back.
[[nodiscard]] inline torch::Tensor to_matrix(const torch::Tensor& weight) {
  return to_taps(weight).permute({1, 0, 2}).flatten(1).contiguous();
}
[[nodiscard]] inline torch::Tensor from_matrix(const torch::Tensor& matrix, const torch::Tensor& like) {
  return from_taps(matrix.view({like.size(0), -1, like.size(1)}).permute({1, 0, 2}), like);
}

}  // namespace pare::sparsity
