#include "pare/quant/quantize_config.h"

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/quant/scheme_fake_quantize.h"

namespace pare::quant {
namespace {

constexpr int kInt8AccuracyLevel = 4;  // ONNX Runtime's

void require_int8_accuracy(int accuracy_level) {
  if (accuracy_level != kInt8AccuracyLevel) {
    throw Error(ErrorCategory::kUnsupported, str_cat("accuracy_level ", accuracy_level), "weight-only quantization",
                "the runtime multiplies weights with int8 activations only: accuracy_level = 4");
  }
}

LayerScheme dynamic(std::int64_t group, format::Int4Scale scale = format::Int4Scale::kAmaxOver7) {
  LayerScheme scheme{.activation = ActivationScheme::kDynamicInt8, .int4_group = group, .int4_scale = scale};
  scheme.validate();
  return scheme;
}

// 0 is no group size of TorchAO's: it would mean int8.
LayerScheme int4(std::int64_t group_size, format::Int4Scale scale) {
  return dynamic(group_size == 0 ? -1 : group_size, scale);
}

// The scheme that a prepared layer has.
LayerScheme current_scheme(const train::Model& model, const graph::Node& node) {
  const auto& quantizer = model.weight(node.inputs[1]).fake_quantizer();
  PARE_CHECK(quantizer != nullptr);
  LayerScheme scheme;
  if (model.row_quantizers().contains(node.name)) {
    scheme.activation = ActivationScheme::kDynamicInt8;
  }
  if (const auto* const groups = dynamic_cast<const GroupFakeQuantizer*>(quantizer.get())) {
    scheme.int4_group = groups->group();
    scheme.int4_scale = groups->rule();
  }
  return scheme;
}

void require_fresh(const train::Model& model) {
  bool seen = model.qat_state() == train::QatState::kFinished;
  for (const auto& entry : model.activation_quantizers()) {
    seen = seen || entry.second->calibrated();
  }
  if (seen) {
    throw Error(ErrorCategory::kState, "schemes cannot change once quantizers have seen data",
                str_cat("model '", model.graph().name, "'"),
                "call quantize_ for all layers before training or calibrating");
  }
}

void remove_quantizers(train::Model& model) {
  for (const auto& weight : model.weights()) {
    model.set_weight_quantizer(weight->fqn(), nullptr);
  }
  for (const std::string& node : dynamic_layers(model)) {
    model.set_row_quantizer(node, nullptr);
  }
  const auto quantizers = model.activation_quantizers();
  for (const auto& entry : quantizers) {
    model.set_activation_quantizer(entry.first, nullptr);
  }
  model.set_qat_state(train::QatState::kNone);
}

}  // namespace

LayerScheme scheme_of(const QuantizationConfig& config) {
  struct Visitor {
    LayerScheme operator()(const Int8StaticActivationInt8WeightConfig&) const { return {}; }
    LayerScheme operator()(const Int8DynamicActivationInt8WeightConfig&) const { return dynamic(0); }
    LayerScheme operator()(const Int8DynamicActivationInt4WeightConfig& c) const { return int4(c.group_size, c.scale); }
    LayerScheme operator()(const Int4WeightOnlyConfig& c) const {
      require_int8_accuracy(c.accuracy_level);
      return int4(c.group_size, c.scale);
    }
    LayerScheme operator()(const Int8WeightOnlyConfig& c) const {
      require_int8_accuracy(c.accuracy_level);
      return dynamic(0);
    }
  };
  return std::visit(Visitor{}, config);
}

LayerScheme scheme_of(const IntxFakeQuantizeConfig& activation, const IntxFakeQuantizeConfig& weight) {
  using Type = IntxFakeQuantizeConfig::Type;
  const auto refuse = [](const char* problem, const char* remedy) {
    throw Error(ErrorCategory::kUnsupported, problem, "IntxFakeQuantizeConfig", remedy);
  };
  const bool static_uint8 = activation.dtype == Type::kUint8 && !activation.is_symmetric && !activation.is_dynamic;
  const bool dynamic_int8 = activation.dtype == Type::kInt8 && activation.is_symmetric && activation.is_dynamic;
  if ((!static_uint8 && !dynamic_int8) || activation.group_size != 0) {
    refuse("no kernel takes such activations",
           "they are static affine uint8 per tensor, or dynamic symmetric int8 per row");
  }
  const bool int4_weight = weight.dtype == Type::kInt4;
  if (weight.dtype == Type::kUint8 || !weight.is_symmetric || int4_weight != (weight.group_size != 0)) {
    refuse("no kernel takes such weights",
           "they are symmetric: int8 per channel (group_size = 0), or int4 in groups of 32, 64, 128 or 256");
  }
  LayerScheme scheme;
  scheme.activation = dynamic_int8 ? ActivationScheme::kDynamicInt8 : ActivationScheme::kUint8;
  scheme.int4_group = weight.group_size;
  scheme.validate();
  return scheme;
}

void quantize_(train::Model& model, const QuantizationConfig& config,
               const std::function<bool(const std::string& tensor_fqn)>& filter_fn, const QATConfig& options) {
  const LayerScheme scheme = scheme_of(config);
  QATConfig next = options;
  next.scheme = {};
  next.layers.clear();
  const bool prepared = model.qat_state() != train::QatState::kNone;
  if (prepared) {
    require_fresh(model);
  }
  bool any = false;
  for (const graph::Node& node : model.graph().nodes) {
    if (!node.has_weight()) {
      continue;
    }
    const bool chosen = !filter_fn || filter_fn(node.inputs[1]);
    any = any || chosen;
    if (node.op_type == "Gemm") {
      const LayerScheme kept = prepared ? current_scheme(model, node) : LayerScheme{};
      next.layers.push_back({node.inputs[1], chosen ? scheme : kept});
    }
  }
  if (!any) {
    throw Error(ErrorCategory::kNotFound, "the filter accepts no weight", str_cat("model '", model.graph().name, "'"),
                "it is asked with names such as \"fc1.weight\"");
  }
  if (prepared) {
    remove_quantizers(model);
  }
  prepare_qat(model, next);
}

}  // namespace pare::quant
