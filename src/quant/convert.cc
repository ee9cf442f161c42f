#include "pare/quant/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/two_four.h"
#include "pare/graph/weights.h"
#include "pare/quant/integer_plan.h"

namespace pare::quant {
namespace {

graph::Quantization quantization_of(const train::FakeQuantizer& quantizer) {
  const torch::Tensor scale = quantizer.scale().cpu().contiguous();
  const float* const scales = scale.data_ptr<float>();
  return {.scales = std::vector<float>(scales, scales + scale.numel()),
          .zero_point = quantizer.zero_point(),
          .axis = quantizer.axis()};
}

graph::Initializer weight_initializer(const train::WeightPipeline& pipeline) {
  // codes() settles the scales of the weight as it is now, so it goes first.
  const torch::Tensor codes = pipeline.codes().to(torch::kCPU, torch::kInt8).contiguous();
  const std::int8_t* const data = codes.data_ptr<std::int8_t>();
  graph::Initializer weight;
  weight.dtype = DType::kS8;
  weight.shape = codes.sizes().vec();
  weight.data = graph::Buffer::copy_of(std::span<const std::int8_t>(data, static_cast<std::size_t>(codes.numel())));
  weight.quantization = quantization_of(*pipeline.fake_quantizer());
  return weight;
}

// `real`: undefined for a layer without a bias.
graph::Initializer bias_initializer(const std::string& node, const torch::Tensor& real, float input_scale,
                                    const std::vector<float>& weight_scales) {
  std::vector<std::int32_t> codes(weight_scales.size(), 0);
  if (real.defined()) {
    const torch::Tensor host = real.detach().cpu().contiguous();
    for (std::size_t channel = 0; channel < codes.size(); ++channel) {
      const float value = host.data_ptr<float>()[channel];
      if (!std::isfinite(value)) {
        throw Error(ErrorCategory::kNumeric, str_cat("the bias of channel ", channel, " is ", value),
                    str_cat("node '", node, "'"), "training has diverged: lower the learning rate");
      }
      codes[channel] = format::quantize_bias(value, format::accumulator_scale(input_scale, weight_scales[channel]));
    }
  }
  graph::Initializer bias;
  bias.dtype = DType::kS32;
  bias.shape = {static_cast<std::int64_t>(codes.size())};
  bias.data = graph::Buffer::copy_of(codes);
  return bias;
}

bool is_weight(const graph::Graph& graph, const std::string& name) {
  const std::vector<std::string> weights = graph.weight_names();
  return std::find(weights.begin(), weights.end(), name) != weights.end();
}

std::string describe_violation(const Shape& shape, const format::PatternViolation& violation) {
  const format::TwoFourLayout layout = graph::two_four_layout(shape);
  const std::int64_t first = 4 * (violation.group % layout.groups_per_segment());
  const std::int64_t last = std::min(first + 3, layout.segment_elems - 1);
  std::string tap;
  if (shape.size() == 4) {
    const std::int64_t segment = violation.group / layout.groups_per_segment();
    tap = str_cat(" at kernel position (", segment / shape[3], ", ", segment % shape[3], ")");
  }
  return str_cat(violation.violations, violation.violations == 1 ? " group breaks" : " groups break",
                 " 2:4, the first in output channel ", violation.row, ", input channels ", first, " to ", last, tap);
}

}  // namespace

graph::Graph quantize_(const train::Model& model) {
  const graph::Graph& source = model.graph();
  const std::string where = str_cat("model '", source.name, "'");
  if (model.qat_state() != train::QatState::kFinished) {
    const bool prepared = model.qat_state() == train::QatState::kPrepared;
    throw Error(ErrorCategory::kState,
                prepared ? "conversion while QAT is not finished" : "conversion before quantization-aware training",
                where, prepared ? "call finish_qat when training is done" : "call prepare_qat, train, then finish_qat");
  }
  const IntegerPlan plan = plan_integer_graph(source);
  const auto& quantizers = model.activation_quantizers();

  graph::Graph result;
  result.name = source.name;
  result.input = source.input;
  result.output = source.output;
  result.values[source.input] = source.values.at(source.input);
  const auto declare_codes = [&](const std::string& value, const std::string& quantizer) {
    result.values[value] = {
        .dtype = DType::kU8, .shape = {}, .quantization = quantization_of(*quantizers.at(quantizer))};
  };

  declare_codes(kQuantizedInputValue, source.input);
  result.nodes.push_back({.name = kQuantizeInputNode,
                          .op_type = "QuantizeLinear",
                          .inputs = {source.input},
                          .output = kQuantizedInputValue,
                          .attributes = {}});
  for (const IntegerLayer& layer : plan.layers) {
    graph::Node node = source.node(layer.node);
    node.inputs[0] = layer.input;
    node.output = layer.output;
    if (!node.has_weight()) {
      // Codes pass through with their quantization; infer_shapes would work it out only in the end.
      result.values[node.output] = {
          .dtype = DType::kU8, .shape = {}, .quantization = result.values.at(layer.input).quantization};
      result.nodes.push_back(std::move(node));
      continue;
    }
    graph::Initializer weight = weight_initializer(model.weight(node.inputs[1]));
    const float input_scale = result.values.at(layer.input).quantization->scales[0];
    graph::Initializer bias =
        bias_initializer(node.name, model.bias(node.name), input_scale, weight.quantization->scales);
    node.op_type = node.op_type == "Conv" ? "QLinearConv" : "QGemm";
    node.inputs = {layer.input, str_cat(node.name, ".weight"), str_cat(node.name, ".bias")};
    if (layer.relu) {
      node.attributes["fused_activation"] = std::string("Relu");
    }
    result.initializers[node.inputs[1]] = std::move(weight);
    result.initializers[node.inputs[2]] = std::move(bias);
    if (layer.output != source.output) {
      declare_codes(layer.output, layer.output);
    }
    result.nodes.push_back(std::move(node));
  }
  graph::infer_shapes(result);
  return result;
}

std::vector<LayerDecision> sparsify_(graph::Graph& graph, const SemiSparseWeightConfig& config,
                                     const std::vector<std::string>& expected,
                                     const std::function<bool(const std::string& weight)>& filter) {
  if (config.pattern != "2:4") {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("pattern \"", config.pattern, "\""), "sparsify_",
                "the one pattern that weights can be packed in is \"2:4\"");
  }
  for (const std::string& name : expected) {
    if (!is_weight(graph, name)) {
      throw Error(ErrorCategory::kNotFound, str_cat("there is no weight '", name, "'"), "sparsify_",
                  did_you_mean(name, graph.weight_names()));
    }
  }
  std::vector<LayerDecision> decisions;
  std::map<std::string, graph::Initializer> packed;
  for (const std::string& name : graph.weight_names()) {
    const graph::Initializer& weight = graph.initializer(name);
    const format::TwoFourLayout layout = graph::two_four_layout(weight.shape);
    const bool is_expected = std::find(expected.begin(), expected.end(), name) != expected.end();
    const auto decide = [&](const char* pattern, std::string note) {
      decisions.push_back({.weight = name, .pattern = pattern, .note = std::move(note)});
    };
    if (weight.dtype != DType::kS8) {
      throw Error(ErrorCategory::kState, "only int8 weights can be packed", str_cat("weight '", name, "'"),
                  "call quantize_ first");
    }
    if (weight.encoding == graph::Encoding::kTwoFour) {
      decide("2:4", "");
      continue;
    }
    const std::vector<std::int8_t> codes = graph::codes_in_group_order(weight);
    const format::PatternViolation violation = format::find_two_four_violation(codes, layout);
    if (violation.violations > 0) {
      const std::string description = describe_violation(weight.shape, violation);
      if (is_expected) {
        throw Error(ErrorCategory::kVerification, description, str_cat("weight '", name, "'"),
                    "its mask was not 2:4, or was squashed before QAT had finished");
      }
      decide("dense", "does not obey 2:4");
    } else if (layout.segment_elems < 4) {
      decide("dense", str_cat(layout.segment_elems, weight.shape.size() == 4 ? " input channel" : " input",
                              layout.segment_elems == 1 ? "" : "s", ": too few for groups of 4"));
    } else if (!is_expected && filter && !filter(name)) {
      decide("dense", "left dense by configuration");
    } else {
      packed[name] = graph::encode_two_four(weight);
      decide("2:4", "");
    }
  }
  for (auto& [name, weight] : packed) {
    graph.initializers[name] = std::move(weight);
  }
  graph::infer_shapes(graph);
  return decisions;
}

graph::Artifact make_artifact(graph::Graph graph, const std::vector<LayerDecision>& decisions,
                              graph::Preprocessing preprocessing, std::vector<std::string> class_names,
                              std::map<std::string, std::string> provenance) {
  graph::Artifact artifact;
  artifact.promises = graph::derive_promises(graph);
  for (graph::LayerPromise& promise : artifact.promises) {
    for (const LayerDecision& decision : decisions) {
      if (decision.weight == promise.weight) {
        PARE_CHECK(decision.pattern == promise.pattern);
        promise.note = decision.note;
      }
    }
  }
  artifact.graph = std::move(graph);
  artifact.preprocessing = std::move(preprocessing);
  artifact.class_names = std::move(class_names);
  artifact.provenance = std::move(provenance);
  return artifact;
}

}  // namespace pare::quant
