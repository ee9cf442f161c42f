#include "pare/sparsity/global_magnitude_sparsifier.h"

#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {

GlobalMagnitudeSparsifier::GlobalMagnitudeSparsifier(MaskConfig defaults)
    : Sparsifier("GlobalMagnitudeSparsifier", defaults) {
  check(defaults, name());
}

void GlobalMagnitudeSparsifier::check(const MaskConfig& config, const std::string& where) const {
  if (config.sparse_block_shape != std::array<std::int64_t, 2>{1, 1} || config.zeros_per_block != 1) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("a ranking over all layers takes single weights, not the pattern ", pattern_name(config)),
                where, "set sparse_block_shape = [1, 1] and zeros_per_block = 1, or use weight_norm");
  }
}

void GlobalMagnitudeSparsifier::begin_step() {
  const torch::NoGradGuard no_grad;
  ranked_.clear();
  if (groups().empty()) {
    return;
  }
  std::vector<torch::Tensor> weights;
  for (const SparseGroup& group : groups()) {
    if (group.sparsity_level != groups().front().sparsity_level) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("level ", group.sparsity_level, " where '", groups().front().tensor_fqn, "' has ",
                          groups().front().sparsity_level),
                  group.tensor_fqn, "a ranking over all layers has one level: leave layers dense, or use weight_norm");
    }
    weights.push_back(model().weight(group.tensor_fqn).dense().detach().to(torch::kCPU).flatten());
  }
  const torch::Tensor all = torch::cat(weights).contiguous();
  torch::Tensor mask = torch::empty_like(all);
  weight_norm_mask(all.data_ptr<float>(), {1, all.numel()}, unstructured(groups().front().sparsity_level),
                   mask.data_ptr<float>());
  std::int64_t first = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    ranked_[groups()[i].tensor_fqn] = mask.narrow(0, first, weights[i].numel());
    first += weights[i].numel();
  }
}

torch::Tensor GlobalMagnitudeSparsifier::compute_mask(train::WeightPipeline& weight, const MaskConfig& /*config*/) {
  return ranked_.at(weight.fqn()).view(weight.dense().sizes()).to(weight.dense().device());
}

}  // namespace pare::sparsity
