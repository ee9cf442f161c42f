// Model: its state, and its way back to a graph.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/train/model.h"
#include "pare/train/model_layers.h"

namespace pare::train {
namespace {

[[noreturn]] void throw_mismatch(const std::string& problem, const std::string& remedy = {}) {
  throw Error(ErrorCategory::kCorruptData, problem, "state of a model",
              remedy.empty() ? "it comes from another model, or from another point of the recipe" : remedy);
}

std::string describe(const torch::Tensor& tensor) {
  return tensor.defined() ? str_cat(tensor.scalar_type(), " ", tensor.sizes()) : "nothing";
}

void check_alike(const std::string& name, const torch::Tensor& given, const torch::Tensor& own) {
  if (!given.defined() || given.sizes() != own.sizes() || given.scalar_type() != own.scalar_type()) {
    throw_mismatch(str_cat("'", name, "' is ", describe(given), " where the model has ", describe(own)));
  }
}

graph::Initializer to_initializer(const torch::Tensor& tensor) {
  const torch::Tensor plain = tensor.detach().to(torch::kCPU).contiguous();
  const float* const data = plain.data_ptr<float>();
  return graph::Initializer::f32(plain.sizes().vec(), std::vector<float>(data, data + plain.numel()));
}

}  // namespace

QatState Model::qat_state() const { return static_cast<QatState>(qat_state_.item<std::int64_t>()); }

void Model::set_qat_state(QatState state) { qat_state_.fill_(static_cast<std::int64_t>(state)); }

graph::Graph Model::to_graph(Weights weights) const {
  graph::Graph graph = graph_;
  for (const graph::Node& node : graph_.nodes) {
    const Layer& layer = *layers_.at(node.name);
    for (const auto* list : {&layer.parameters, &layer.buffers}) {
      for (const auto& [key, tensor] : *list) {
        const bool masked = weights == Weights::kMasked && key == "weight" && layer.weight != nullptr;
        graph.initializers.at(str_cat(node.name, ".", key)) = to_initializer(masked ? layer.weight->masked() : tensor);
      }
    }
  }
  return graph;
}

void Model::require_no_transforms() const {
  if (const std::vector<std::string> nodes = row_transforms(); !nodes.empty()) {
    throw Error(ErrorCategory::kState, str_cat("what '", join(nodes, "', '"), "' reads is still transformed"),
                str_cat("model '", graph_.name, "'"),
                "take the transforms off first (swap_semi_sparse_linear_with_linear, or set_row_transform)");
  }
}

void Model::fold_batch_norm() {
  require_no_transforms();
  bool quantized = !activation_quantizers_.empty() || !row_quantizers_.empty() || qat_state() != QatState::kNone;
  for (const auto& pipeline : weights_) {
    quantized = quantized || pipeline->fake_quantizer() != nullptr;
  }
  if (quantized) {
    throw Error(ErrorCategory::kState, "batch norm cannot be folded once quantizers have seen its outputs",
                str_cat("model '", graph_.name, "'"), "fold before QAT is prepared");
  }
  graph::Graph folded = to_graph(Weights::kDense);
  if (graph::fold_batch_norm(folded).empty()) {
    return;
  }
  const std::vector<std::shared_ptr<WeightPipeline>> before = weights_;
  build(std::move(folded));
  for (const auto& old : before) {
    WeightPipeline& pipeline = weight(old->fqn());
    if (old->mask().defined()) {
      pipeline.set_mask(old->mask());
    }
    pipeline.set_mask_gradient(old->mask_gradient());
    pipeline.set_sr_ste_decay(old->sr_ste_decay());
  }
}

void Model::rebuild(graph::Graph graph) {
  require_no_transforms();
  const bool bare = std::all_of(weights_.begin(), weights_.end(), [](const auto& weight) {
    return !weight->mask().defined() && weight->fake_quantizer() == nullptr;
  });
  if (!bare || !activation_quantizers_.empty() || !row_quantizers_.empty() || qat_state() != QatState::kNone) {
    throw Error(ErrorCategory::kState, "channels cannot change under masks and quantizers",
                str_cat("model '", graph_.name, "'"), "change them first, and choose masks for what comes out");
  }
  build(std::move(graph));
}

std::vector<std::pair<std::string, torch::Tensor>> Model::state() const {
  std::vector<std::pair<std::string, torch::Tensor>> state;
  for (const auto& list : {named_parameters(), named_buffers()}) {
    for (const auto& item : list) {
      state.emplace_back(item.key(), item.value().detach());
    }
  }
  return state;
}

void Model::load_state(const std::map<std::string, torch::Tensor>& state) {
  std::map<std::string, torch::Tensor> own;  // all but masks
  std::vector<std::string> known;
  for (auto& [name, tensor] : this->state()) {
    own[name] = tensor;
  }
  for (const auto& pipeline : weights_) {
    own.erase(pipeline->fqn() + kMaskSuffix);
    known.push_back(pipeline->fqn() + kMaskSuffix);
  }
  for (const auto& [name, tensor] : own) {
    known.push_back(name);
    const auto given = state.find(name);
    if (given == state.end()) {
      throw_mismatch(str_cat("'", name, "' is missing"));
    }
    check_alike(name, given->second, tensor);
  }
  for (const auto& entry : state) {
    if (std::find(known.begin(), known.end(), entry.first) == known.end()) {
      throw_mismatch(str_cat("the model has no '", entry.first, "'"), did_you_mean(entry.first, known));
    }
  }
  const auto qat = state.at("qat_state").item<std::int64_t>();
  if (qat < 0 || qat > static_cast<std::int64_t>(QatState::kFinished)) {
    throw_mismatch(str_cat("'qat_state' is ", qat));
  }

  struct MaskState {
    torch::Tensor mask;
    bool masked_gradient;
    double decay;
  };
  std::vector<MaskState> masks;
  for (const auto& pipeline : weights_) {
    const std::string gradient_name = pipeline->fqn() + kMaskGradientSuffix;
    const torch::Tensor gradient = state.at(gradient_name).to(torch::kCPU).contiguous();
    MaskState loaded{torch::Tensor(), gradient[0].item<double>() == 1.0, gradient[1].item<double>()};
    if ((!loaded.masked_gradient && gradient[0].item<double>() != 0.0) || !(loaded.decay >= 0.0) ||
        !std::isfinite(loaded.decay)) {
      throw_mismatch(str_cat("'", gradient_name, "' holds impossible values"));
    }
    const std::string mask_name = pipeline->fqn() + kMaskSuffix;
    if (const auto given = state.find(mask_name); given != state.end()) {
      loaded.mask = given->second;
      if (!loaded.mask.defined() || loaded.mask.scalar_type() != torch::kFloat32) {
        throw_mismatch(str_cat("'", mask_name, "' is ", describe(loaded.mask), " where a mask is float32"));
      }
      check_alike(mask_name, loaded.mask, pipeline->dense());
      if (!((loaded.mask == 0) | (loaded.mask == 1)).all().item<bool>()) {
        throw_mismatch(str_cat("'", mask_name, "' holds values other than 0 and 1"));
      }
    }
    masks.push_back(std::move(loaded));
  }

  const torch::NoGradGuard no_gradient;
  for (auto& [name, tensor] : own) {
    tensor.copy_(state.at(name));
  }
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (masks[i].mask.defined()) {
      weights_[i]->set_mask(masks[i].mask);
    } else {
      weights_[i]->clear_mask();
    }
    weights_[i]->set_mask_gradient(masks[i].masked_gradient ? MaskGradient::kMasked : MaskGradient::kStraightThrough);
    weights_[i]->set_sr_ste_decay(masks[i].decay);
  }
}

}  // namespace pare::train
