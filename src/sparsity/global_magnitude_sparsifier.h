// GlobalMagnitudeSparsifier: one ranking over all layers.
#pragma once

#include <map>
#include <string>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// Unstructured: of all weights under its care the round_half_even(level * count) least in magnitude go, wherever they
// are (Han et al., arXiv 1506.02626; torch.nn.utils.prune.global_unstructured with L1Unstructured), never all of them
// while the level is below 1. Among equals the first in graph order is kept. All groups share one level; blocks other
// than 1x1 are refused. Layers with large weights stay denser than others: that is the point.
class GlobalMagnitudeSparsifier final : public Sparsifier {
 public:
  explicit GlobalMagnitudeSparsifier(MaskConfig defaults = unstructured(0.5));
  [[nodiscard]] static MaskConfig unstructured(double level) { return {level, {1, 1}, 1}; }

 protected:
  void begin_step() override;
  [[nodiscard]] torch::Tensor compute_mask(train::WeightPipeline& weight, const MaskConfig& config) override;
  void check(const MaskConfig& config, const std::string& where) const override;

 private:
  std::map<std::string, torch::Tensor> ranked_;  // masks of this step, by weight, flat
};

}  // namespace pare::sparsity
