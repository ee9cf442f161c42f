#include "pare/sparsity/wanda_sparsifier.h"

#include "pare/base/error.h"
#include "pare/sparsity/taps.h"

namespace pare::sparsity {

void WandaSparsifier::calibrate(const train::CalibrationSet& set) {
  Sparsifier::calibrate(set);
  std::map<std::string, torch::Tensor> norms;
  std::int64_t done = 0;
  for (const SparseGroup& group : groups()) {
    torch::Tensor squares;
    train::for_layer_inputs(model(), group.tensor_fqn, set, [&](const torch::Tensor& rows) {
      const torch::Tensor sum = rows.to(torch::kFloat64).square().sum(0);
      squares = squares.defined() ? squares + sum : sum;
    });
    norms[group.tensor_fqn] = squares.sqrt().to(torch::kCPU, torch::kFloat32);
    if (set.progress) {
      set.progress(++done, static_cast<std::int64_t>(groups().size()));
    }
  }
  input_norms_ = std::move(norms);
}

torch::Tensor WandaSparsifier::compute_mask(train::WeightPipeline& weight, const MaskConfig& config) {
  const auto norms = input_norms_.find(weight.fqn());
  if (norms == input_norms_.end()) {
    throw Error(ErrorCategory::kState, "the sparsifier has seen no data", weight.fqn(),
                "call calibrate() between prepare() and step()");
  }
  const torch::NoGradGuard no_grad;
  const torch::Tensor taps = to_taps(weight.dense());
  const torch::Tensor scores = (taps.abs() * norms->second.view({taps.size(0), 1, taps.size(2)})).contiguous();
  if (config.elems_per_block() > 1) {
    torch::Tensor mask = torch::empty_like(scores);
    weight_norm_mask(scores.data_ptr<float>(), {scores.size(1), scores.size(2), scores.size(0)}, config,
                     mask.data_ptr<float>());
    return from_taps(mask, weight.dense());
  }
  // [taps, O, I] -> [O, taps * I]: a row is an output with all its inputs.
  const torch::Tensor outputs = scores.permute({1, 0, 2}).contiguous();
  torch::Tensor mask = torch::empty_like(outputs);
  const std::int64_t k_elems = outputs.size(1) * outputs.size(2);
  for (std::int64_t o = 0; o < outputs.size(0); ++o) {
    weight_norm_mask(outputs.data_ptr<float>() + o * k_elems, {1, k_elems}, config,
                     mask.data_ptr<float>() + o * k_elems);
  }
  return from_taps(mask.permute({1, 0, 2}), weight.dense());
}

}  // namespace pare::sparsity
