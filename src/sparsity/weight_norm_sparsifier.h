// WeightNormSparsifier: masks by the norm of weights, with torch.ao.pruning.WeightNormSparsifier's meaning.
#pragma once

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// The mask (1 = kept) of a weight under a configuration (mask.h has the rule); both float32, same shape and
// device.
//   Linear [n, k]: blocks over the matrix as it is.
//   Conv2d [O, I, kh, kw]: blocks over each tap's matrix [O, I], so that they run along the input channels.
// Throws kInvalidArgument for another dtype or number of dimensions.
[[nodiscard]] torch::Tensor weight_norm_mask(const torch::Tensor& weight, const MaskConfig& config);

class WeightNormSparsifier final : public Sparsifier {
 public:
  explicit WeightNormSparsifier(MaskConfig defaults = {}) : Sparsifier("WeightNormSparsifier", defaults) {}

 protected:
  [[nodiscard]] torch::Tensor compute_mask(train::WeightPipeline& weight, const MaskConfig& config) override {
    return weight_norm_mask(weight.dense(), config);
  }
};

}  // namespace pare::sparsity
