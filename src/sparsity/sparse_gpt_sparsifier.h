// SparseGptSparsifier: masks and new values by SparseGPT, layer by layer, in one shot.
#pragma once

#include "pare/sparsity/sparse_gpt.h"
#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// Frantar and Alistarh, arXiv 2301.00774; sparse_gpt.h has the algorithm. Layers go in graph order, each for the inputs
// that the layers pruned before it produce; one Hessian is in memory at a time. Kept weights change in the model.
// (Masked ones keep their old value underneath, as everywhere.)
class SparseGptSparsifier final : public Sparsifier {
 public:
  explicit SparseGptSparsifier(MaskConfig defaults = MaskConfig::from_pattern("2:4"), ObsOptions options = {});

  // Keeps the set until step() is through.
  void calibrate(const train::CalibrationSet& set) override;
  [[nodiscard]] bool needs_calibration() const override { return true; }

 protected:
  [[nodiscard]] torch::Tensor compute_mask(train::WeightPipeline& weight, const MaskConfig& config) override;
  void check(const MaskConfig& config, const std::string& where) const override;

 private:
  ObsOptions options_;
  train::CalibrationSet set_;
  std::int64_t done_ = 0;  // layers since calibrate()
};

}  // namespace pare::sparsity
