#include "pare/sparsity/semi_sparse.h"

#include <set>
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

using Weights = std::vector<std::shared_ptr<train::WeightPipeline>>;

// In graph order.
Weights linear_weights(const train::Model& model, const std::vector<std::string>& names, const char* where) {
  std::set<std::string> chosen;
  for (const std::string& name : names) {
    for (const auto& weight : model.weights_matching(name)) {
      if (!is_linear(*weight)) {
        throw Error(ErrorCategory::kInvalidArgument, str_cat("'", weight->fqn(), "' is the weight of a convolution"),
                    where,
                    str_cat("name linear layers, or prepare a WeightNormSparsifier with the pattern \"",
                            kTransposablePattern, "\""));
      }
      chosen.insert(weight->fqn());
    }
  }
  Weights weights;
  for (const auto& weight : model.weights()) {
    if (names.empty() ? is_linear(*weight) : chosen.contains(weight->fqn())) {
      weights.push_back(weight);
    }
  }
  return weights;
}

class SemiStructuredSparsify : public torch::autograd::Function<SemiStructuredSparsify> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* /*context*/, const torch::Tensor& x) {
    const torch::Tensor mask = weight_norm_mask(x, MaskConfig::from_pattern(kTransposablePattern));
    return torch::where(mask != 0, x, torch::zeros({}, x.options()));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* /*context*/,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0)};
  }
};

}  // namespace

std::unique_ptr<Sparsifier> swap_linear_with_semi_sparse_linear(train::Model& model,
                                                                const SemiSparseLinearConfig& config) {
  std::vector<SparseLayerConfig> layers;
  for (const auto& weight : linear_weights(model, config.tensor_fqns, "swap_linear_with_semi_sparse_linear")) {
    SparseLayerConfig layer;
    layer.tensor_fqn = weight->fqn();
    layers.push_back(std::move(layer));
  }
  auto sparsifier = std::make_unique<WeightNormSparsifier>(MaskConfig::from_pattern(kTransposablePattern));
  sparsifier->prepare(model, layers, /*layers_only=*/true);
  sparsifier->step();
  return sparsifier;
}

torch::Tensor semi_structured_sparsify(const torch::Tensor& x) {
  if (!x.defined() || x.dim() != 2 || x.scalar_type() != torch::kFloat32) {
    throw Error(ErrorCategory::kInvalidArgument,
                x.defined() ? str_cat("a tensor of shape ", x.sizes(), " and type ", x.scalar_type()) : "no tensor",
                "semi_structured_sparsify", "it takes float32 [rows, cols]");
  }
  return SemiStructuredSparsify::apply(x);
}

std::vector<std::string> swap_linear_with_semi_sparse_activation_linear(train::Model& model,
                                                                        const SemiSparseLinearConfig& config) {
  std::vector<std::string> swapped;
  for (const auto& weight :
       linear_weights(model, config.tensor_fqns, "swap_linear_with_semi_sparse_activation_linear")) {
    model.set_row_transform(model.graph().consumers_of(weight->fqn()).at(0)->name, semi_structured_sparsify);
    swapped.push_back(weight->fqn());
  }
  return swapped;
}

std::vector<std::string> swap_semi_sparse_linear_with_linear(train::Model& model) {
  std::set<std::string> swapped;
  for (const std::string& node : model.row_transforms()) {
    model.set_row_transform(node, {});
    swapped.insert(model.graph().node(node).inputs[1]);
  }
  std::vector<std::string> in_order;
  for (const auto& weight : model.weights()) {
    if (has_transposable_mask(*weight)) {
      weight->clear_mask();
      swapped.insert(weight->fqn());
    }
    if (swapped.contains(weight->fqn())) {
      in_order.push_back(weight->fqn());
    }
  }
  return in_order;
}

}  // namespace pare::sparsity
