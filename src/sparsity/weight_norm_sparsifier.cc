#include "pare/sparsity/weight_norm_sparsifier.h"

#include "pare/base/error.h"
#include "pare/sparsity/taps.h"

namespace pare::sparsity {

torch::Tensor weight_norm_mask(const torch::Tensor& weight, const MaskConfig& config) {
  config.validate();
  if (!weight.defined() || weight.scalar_type() != torch::kFloat32 || (weight.dim() != 2 && weight.dim() != 4)) {
    throw Error(ErrorCategory::kInvalidArgument, "masks are made for float32 weights [n, k] and [O, I, kh, kw] only",
                "weight_norm_mask", "leave other tensors out of the sparsifier's configuration");
  }
  const torch::NoGradGuard no_grad;
  const torch::Tensor taps = to_taps(weight);
  torch::Tensor mask = torch::empty_like(taps);
  const MaskShape shape{.rows = taps.size(1), .cols = taps.size(2), .matrices = taps.size(0)};
  weight_norm_mask(taps.data_ptr<float>(), shape, config, mask.data_ptr<float>());
  return from_taps(mask, weight);
}

}  // namespace pare::sparsity
