#include "pare/quant/qat.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/quant/integer_plan.h"
#include "pare/quant/learned_step.h"
#include "pare/quant/scheme_fake_quantize.h"

namespace pare::quant {
namespace {

std::string label(const train::Model& model) { return str_cat("model '", model.graph().name, "'"); }

bool has_batch_norm(const graph::Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const graph::Node& node) { return node.op_type == "BatchNormalization"; });
}

std::shared_ptr<train::FakeQuantizer> weight_quantizer(const train::WeightPipeline& pipeline, const LayerScheme& scheme,
                                                       bool learned_steps) {
  const torch::Tensor& weight = pipeline.dense();
  if (scheme.is_int4()) {
    return std::make_shared<GroupFakeQuantizer>(pipeline.fqn(), weight.size(0), weight.size(1), scheme.int4_group,
                                                scheme.int4_scale);
  }
  if (!learned_steps) {
    return std::make_shared<WeightFakeQuantizer>(pipeline.fqn(), weight.size(0));
  }
  auto quantizer = std::make_shared<LearnedFakeQuantizer>(pipeline.fqn(), LearnedFakeQuantizer::Of::kWeight,
                                                          weight.size(0), format::kInt8WeightRange);
  quantizer->begin(pipeline.masked().cpu());
  return quantizer;
}

std::shared_ptr<train::FakeQuantizer> activation_quantizer(const std::string& value, const QATConfig& config) {
  if (!config.learned_steps) {
    return std::make_shared<ActivationFakeQuantizer>(value, config.observer);
  }
  return std::make_shared<LearnedFakeQuantizer>(value, LearnedFakeQuantizer::Of::kActivation, 1, format::kUint8Range);
}

void require_prepared(const train::Model& model, const std::string& act) {
  if (model.qat_state() == train::QatState::kNone) {
    throw Error(ErrorCategory::kState, str_cat(act, " before QAT was prepared"), label(model),
                "call prepare_qat first");
  }
}

}  // namespace

void prepare_qat(train::Model& model, const QATConfig& config) {
  config.observer.validate();
  if (model.qat_state() != train::QatState::kNone) {
    throw Error(ErrorCategory::kState, "QAT is prepared already", label(model),
                "prepare a model once; a later stage goes on with the quantizers that are there");
  }
  graph::Graph folded = model.graph();
  if (has_batch_norm(folded)) {
    if (!config.fold_batch_norm) {
      throw Error(ErrorCategory::kInvalidArgument, "batch norm is there and must not be folded", label(model),
                  "set fold_batch_norm = true: integers have no batch norm");
    }
    (void)graph::fold_batch_norm(folded);
  }
  const std::map<std::string, PlannedScheme> schemes = plan_schemes(folded, config.scheme, config.layers);
  std::set<std::string> dynamic;
  for (const graph::Node& node : folded.nodes) {
    if (node.has_weight() && schemes.at(node.inputs[1]).scheme.is_dynamic()) {
      dynamic.insert(node.name);
    }
  }
  const IntegerPlan plan = plan_integer_graph(folded, dynamic);

  model.fold_batch_norm();
  for (const auto& pipeline : model.weights()) {
    model.set_weight_quantizer(pipeline->fqn(),
                               weight_quantizer(*pipeline, schemes.at(pipeline->fqn()).scheme, config.learned_steps));
  }
  for (const std::string& node : dynamic) {
    model.set_row_quantizer(node, std::make_shared<RowFakeQuantizer>(node));
  }
  for (const std::string& value : plan.quantized_values) {
    model.set_activation_quantizer(value, activation_quantizer(value, config));
  }
  model.train(model.is_training());
  model.set_qat_state(train::QatState::kPrepared);
}

void freeze_observers(train::Model& model) {
  require_prepared(model, "observers cannot be frozen");
  for (const auto& entry : model.activation_quantizers()) {
    entry.second->enable_observer(false);
  }
  for (const auto& weight : model.weights()) {
    if (auto* const learned = dynamic_cast<LearnedFakeQuantizer*>(weight->fake_quantizer().get())) {
      learned->enable_observer(false);
    }
  }
}

void finish_qat(train::Model& model) {
  require_prepared(model, "QAT cannot be finished");
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    if (!quantizer->calibrated()) {
      throw Error(ErrorCategory::kState,
                  str_cat("QAT cannot be finished: the quantizer of '", value, "' has seen no data"), label(model),
                  "train at least one batch in training mode after prepare_qat");
    }
  }
  freeze_observers(model);
  model.set_qat_state(train::QatState::kFinished);
}

std::map<std::string, std::string> quantized_values(const graph::Graph& graph) {
  const IntegerPlan plan = plan_integer_graph(graph);
  // MaxPool and Flatten hand on the codes of the value that was quantized.
  std::map<std::string, std::string> source = {{kQuantizedInputValue, graph.input}};
  std::map<std::string, std::string> readers;
  for (const std::string& value : plan.quantized_values) {
    source[value] = value;
    readers[value];
  }
  for (const IntegerLayer& layer : plan.layers) {
    if (layer.kind != IntegerLayer::Kind::kLayer) {
      continue;
    }
    const std::string& op_type = graph.node(layer.node).op_type;
    if (op_type == "MaxPool" || op_type == "Flatten") {
      source[layer.output] = source.at(layer.inputs[0]);
      continue;
    }
    for (const std::string& input : layer.inputs) {
      std::string& list = readers[source.at(input)];
      list += list.empty() ? layer.node : str_cat(", ", layer.node);
    }
  }
  return readers;
}

std::set<std::string> dynamic_layers(const train::Model& model) {
  std::set<std::string> names;
  for (const auto& entry : model.row_quantizers()) {
    names.insert(entry.first);
  }
  return names;
}

}  // namespace pare::quant
