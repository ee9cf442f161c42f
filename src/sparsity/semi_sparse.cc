#include "pare/sparsity/semi_sparse.h"

#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/sparsity/transposable.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

bool is_linear(const train::WeightPipeline& weight) { return weight.dense().dim() == 2; }

bool has_transposable_mask(const train::WeightPipeline& weight) {
  if (!is_linear(weight) || !weight.mask().defined()) {
    return false;
  }
  const torch::Tensor mask = weight.mask().to(torch::kCPU).contiguous();
  // A sparser mask may happen to break no rule, but a whole tile of a transposable one keeps all eight.
  const std::int64_t whole_tiles = (mask.size(0) / kTileExtent) * (mask.size(1) / kTileExtent);
  return mask.count_nonzero().item<std::int64_t>() >= 8 * whole_tiles &&
         is_transposable(mask.data_ptr<float>(), mask.size(0), mask.size(1));
}

}  // namespace

std::unique_ptr<Sparsifier> swap_linear_with_semi_sparse_linear(train::Model& model,
                                                                const SemiSparseLinearConfig& config) {
  std::vector<SparseLayerConfig> layers;
  const auto take = [&layers](const std::string& tensor_fqn) {
    SparseLayerConfig layer;
    layer.tensor_fqn = tensor_fqn;
    layers.push_back(std::move(layer));
  };
  for (const std::string& name : config.tensor_fqns) {
    for (const auto& weight : model.weights_matching(name)) {
      if (!is_linear(*weight)) {
        throw Error(ErrorCategory::kInvalidArgument, str_cat("'", weight->fqn(), "' is the weight of a convolution"),
                    "swap_linear_with_semi_sparse_linear",
                    str_cat("name linear layers, or prepare a WeightNormSparsifier with the pattern \"",
                            kTransposablePattern, "\""));
      }
      take(weight->fqn());
    }
  }
  if (config.tensor_fqns.empty()) {
    for (const auto& weight : model.weights()) {
      if (is_linear(*weight)) {
        take(weight->fqn());
      }
    }
  }
  auto sparsifier = std::make_unique<WeightNormSparsifier>(MaskConfig::from_pattern(kTransposablePattern));
  sparsifier->prepare(model, layers, /*layers_only=*/true);
  sparsifier->step();
  return sparsifier;
}

std::vector<std::string> swap_semi_sparse_linear_with_linear(train::Model& model) {
  std::vector<std::string> swapped;
  for (const auto& weight : model.weights()) {
    if (has_transposable_mask(*weight)) {
      weight->clear_mask();
      swapped.push_back(weight->fqn());
    }
  }
  return swapped;
}

}  // namespace pare::sparsity
