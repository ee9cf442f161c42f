// WandaSparsifier: masks by |weight| times the norm of the input that it multiplies, in one shot.
#pragma once

#include <map>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// torchao's WandaSparsifier (Sun et al., arXiv 2306.11695): the score of w[o][i] is |w[o][i]| * ||x[i]||_2, x[i] being
// all values of input i over the calibration set. Weights are compared within an output: N:M per group; of single
// elements (sparse_block_shape 1x1) round_half_even(level * k) go in every row; of blocks and V:N:M the norm of scores
// counts. Weights do not change. In a convolution each tap's input channel is an input.
class WandaSparsifier final : public Sparsifier {
 public:
  explicit WandaSparsifier(MaskConfig defaults = {}) : Sparsifier("WandaSparsifier", defaults) {}

  // One pass over the set for each weight.
  void calibrate(const train::CalibrationSet& set) override;
  [[nodiscard]] bool needs_calibration() const override { return true; }

 protected:
  [[nodiscard]] torch::Tensor compute_mask(train::WeightPipeline& weight, const MaskConfig& config) override;

 private:
  std::map<std::string, torch::Tensor> input_norms_;  // by weight: float32 [k], group order
};

}  // namespace pare::sparsity
