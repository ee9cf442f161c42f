#include "pare/quant/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/block.h"
#include "pare/format/half.h"
#include "pare/format/int4.h"
#include "pare/format/two_four.h"
#include "pare/format/vnm.h"
#include "pare/graph/weights.h"
#include "pare/quant/integer_plan.h"
#include "pare/quant/qat.h"

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
  // codes() settles the scales of the weight as it is now, unless they are held, so it goes first.
  const torch::Tensor codes = pipeline.codes().to(torch::kCPU, torch::kInt8).contiguous();
  const std::int8_t* const data = codes.data_ptr<std::int8_t>();
  if (const std::int64_t group = pipeline.fake_quantizer()->group(); group != 0) {
    const torch::Tensor scales = pipeline.fake_quantizer()->scale().cpu().contiguous();
    format::Int4Codes int4{{data, data + codes.numel()}, {}};
    const std::int64_t k = codes.size(1);
    const std::int64_t groups = scales.size(1);
    for (std::int64_t i = 0; i < scales.numel(); ++i) {
      // A scale that is held may outlive its group: GPTQ can round all of it to 0, whose scale is 0 (format/int4.h).
      const std::int64_t begin = i % groups * group;
      const std::int8_t* const first = data + i / groups * k + begin;
      const bool zeros =
          std::all_of(first, first + std::min(group, k - begin), [](std::int8_t code) { return code == 0; });
      int4.scales.push_back(zeros ? std::uint16_t{0} : format::half_from_float(scales.data_ptr<float>()[i]));
    }
    return graph::encode_int4(int4, codes.sizes().vec(), graph::Encoding::kInt4, group);
  }
  graph::Initializer weight;
  weight.dtype = DType::kS8;
  weight.shape = codes.sizes().vec();
  weight.data = graph::Buffer::copy_of(std::span<const std::int8_t>(data, static_cast<std::size_t>(codes.numel())));
  weight.quantization = quantization_of(*pipeline.fake_quantizer());
  return weight;
}

[[noreturn]] void throw_bias(const std::string& node, std::int64_t channel, float value) {
  throw Error(ErrorCategory::kNumeric, str_cat("the bias of channel ", channel, " is ", value),
              str_cat("node '", node, "'"), "training has diverged: lower the learning rate");
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
        throw_bias(node, static_cast<std::int64_t>(channel), value);
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

// Of a dynamic layer: a product that quantizes the rows it reads, and its float32 bias if it has one.
void convert_dynamic(const train::Model& model, const IntegerLayer& layer, graph::Node& node, graph::Graph& result) {
  graph::Initializer weight = weight_initializer(model.weight(node.inputs[1]));
  node.attributes.clear();
  node.op_type = "DynamicQuantizeMatMul";
  if (weight.is_int4()) {
    node.op_type = "MatMulNBits";
    node.attributes = {{"bits", std::int64_t{4}}, {"accuracy_level", std::int64_t{4}}};
  }
  if (layer.relu) {
    node.attributes["fused_activation"] = std::string("Relu");
  }
  node.inputs = {layer.inputs[0], str_cat(node.name, ".weight")};
  result.initializers[node.inputs[1]] = std::move(weight);
  const torch::Tensor bias = model.bias(node.name);
  if (!bias.defined()) {
    return;
  }
  const torch::Tensor host = bias.detach().cpu().contiguous();
  const std::vector<float> values(host.data_ptr<float>(), host.data_ptr<float>() + host.numel());
  for (std::size_t channel = 0; channel < values.size(); ++channel) {
    if (!std::isfinite(values[channel])) {
      throw_bias(node.name, static_cast<std::int64_t>(channel), values[channel]);
    }
  }
  node.inputs.push_back(str_cat(node.name, ".bias"));
  result.initializers[node.inputs[2]] = graph::Initializer::f32({host.numel()}, values);
}

bool is_weight(const graph::Graph& graph, const std::string& name) {
  const std::vector<std::string> weights = graph.weight_names();
  return std::find(weights.begin(), weights.end(), name) != weights.end();
}

// "output channel 3, input channels 4 to 7 at kernel position (0, 2)"
std::string describe_group(const Shape& shape, const std::string& rows, std::int64_t group, std::int64_t group_elems) {
  const std::int64_t groups_per_segment = (shape[1] + group_elems - 1) / group_elems;
  const std::int64_t first = group_elems * (group % groups_per_segment);
  const std::int64_t last = std::min(first + group_elems, shape[1]) - 1;
  std::string tap;
  if (shape.size() == 4) {
    const std::int64_t segment = group / groups_per_segment;
    tap = str_cat(" at kernel position (", segment / shape[3], ", ", segment % shape[3], ")");
  }
  return str_cat(rows, ", input channels ", first, " to ", last, tap);
}

std::string describe_violations(std::int64_t count, const std::string& pattern, const std::string& first) {
  return str_cat(count, count == 1 ? " group breaks " : " groups break ", pattern, ", the first in ", first);
}

// One way to pack weights.
class Packing {
 public:
  // Both throw kInvalidArgument.
  explicit Packing(const BlockSparseWeightConfig& config)
      : pattern_(format::to_string(format::BlockPattern{config.blocksize[0], config.blocksize[1]})),
        block_(format::parse_block(pattern_)) {
    if (!block_) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("blocksize ", pattern_), "sparsify_",
                  str_cat("blocks have 1 to ", format::kMaxBlockExtent, " rows and columns, and more than one weight"));
    }
  }
  explicit Packing(const SemiSparseWeightConfig& config) : pattern_(config.pattern) {
    const std::string& pattern = config.pattern;
    if (pattern == "2:4") {
      return;
    }
    vnm_ = format::parse_vnm(pattern);
    if (!vnm_) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("pattern \"", pattern, "\""), "sparsify_",
                  "weights can be packed as \"2:4\" or \"V:N:M\", for instance \"64:1:4\"");
    }
  }

  [[nodiscard]] const std::string& pattern() const { return pattern_; }
  // Inputs that a weight must have.
  [[nodiscard]] std::int64_t group_elems() const { return block_ ? 1 : vnm_ ? vnm_->m : 4; }
  // int4 weights have no form but 2:4.
  [[nodiscard]] bool fits(const graph::Initializer& dense) const { return !dense.is_int4() || !(vnm_ || block_); }

  // Where the codes, in group order, break the pattern; "" if they obey.
  [[nodiscard]] std::string explain_violation(std::span<const std::int8_t> codes, const Shape& shape) const {
    if (block_) {
      return {};
    }
    if (!vnm_) {
      const format::PatternViolation found = format::find_two_four_violation(codes, graph::two_four_layout(shape));
      return found.violations == 0 ? std::string()
                                   : describe_violations(found.violations, pattern_,
                                                         describe_group(shape, str_cat("output channel ", found.row),
                                                                        found.group, group_elems()));
    }
    const format::VnmViolation found = format::find_vnm_violation(codes, graph::vnm_layout(shape, *vnm_));
    if (found.violations == 0) {
      return {};
    }
    const std::int64_t first_row = found.block * vnm_->v;
    const std::int64_t last_row = std::min(first_row + vnm_->v, shape[0]) - 1;
    return describe_violations(
        found.violations, pattern_,
        describe_group(shape, str_cat("output channels ", first_row, " to ", last_row), found.group, group_elems()));
  }

  // Precondition: fits(dense).
  [[nodiscard]] graph::Initializer encode(const graph::Initializer& dense) const {
    if (dense.is_int4()) {
      const auto scales = dense.scales.as<std::uint16_t>();
      return graph::encode_int4({graph::codes_in_group_order(dense), {scales.begin(), scales.end()}}, dense.shape,
                                graph::Encoding::kInt4TwoFour, dense.group);
    }
    return block_ ? graph::encode_block(dense, *block_)
           : vnm_ ? graph::encode_vnm(dense, *vnm_)
                  : graph::encode_two_four(dense);
  }
  // Whether the packed form is what a user wants even where it is larger: patterns are, blocks only save bytes.
  [[nodiscard]] bool has_pattern() const { return !block_; }

 private:
  std::string pattern_;
  std::optional<format::BlockPattern> block_;
  std::optional<format::VnmPattern> vnm_;  // both unset: 2:4
};

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
  const IntegerPlan plan = plan_integer_graph(source, dynamic_layers(model));
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

  for (const IntegerLayer& layer : plan.layers) {
    if (layer.kind != IntegerLayer::Kind::kLayer) {
      const bool quantizes = layer.kind == IntegerLayer::Kind::kQuantize;
      if (quantizes) {
        declare_codes(layer.output, layer.value);
      }
      result.nodes.push_back({.name = layer.node,
                              .op_type = quantizes ? "QuantizeLinear" : "DequantizeLinear",
                              .inputs = layer.inputs,
                              .output = layer.output,
                              .attributes = {}});
      continue;
    }
    graph::Node node = source.node(layer.node);
    const bool has_weight = node.has_weight();
    if (layer.dynamic) {
      node.output = layer.output;
      convert_dynamic(model, layer, node, result);
      result.nodes.push_back(std::move(node));
      continue;
    }
    std::copy(layer.inputs.begin(), layer.inputs.end(), node.inputs.begin());
    node.output = layer.output;
    if (layer.relu) {
      node.attributes["fused_activation"] = std::string("Relu");
    }
    if (node.op_type == "Add" || node.op_type == "GlobalAveragePool") {
      node.op_type = "QLinear" + node.op_type;
      declare_codes(layer.output, layer.output);
      result.nodes.push_back(std::move(node));
      continue;
    }
    if (!has_weight) {
      // Codes pass through with their quantization; infer_shapes would work it out only in the end.
      result.values[node.output] = {
          .dtype = DType::kU8, .shape = {}, .quantization = result.values.at(layer.inputs[0]).quantization};
      result.nodes.push_back(std::move(node));
      continue;
    }
    graph::Initializer weight = weight_initializer(model.weight(node.inputs[1]));
    const float input_scale = result.values.at(layer.inputs[0]).quantization->scales[0];
    graph::Initializer bias =
        bias_initializer(node.name, model.bias(node.name), input_scale, weight.quantization->scales);
    node.op_type = node.op_type == "Conv" ? "QLinearConv" : "QGemm";
    node.inputs = {layer.inputs[0], str_cat(node.name, ".weight"), str_cat(node.name, ".bias")};
    result.initializers[node.inputs[1]] = std::move(weight);
    result.initializers[node.inputs[2]] = std::move(bias);
    if (layer.codes) {
      declare_codes(layer.output, layer.output);
    }
    result.nodes.push_back(std::move(node));
  }
  graph::infer_shapes(result);
  return result;
}

namespace {

std::vector<LayerDecision> sparsify(graph::Graph& graph, const Packing& packing,
                                    const std::vector<std::string>& expected,
                                    const std::function<bool(const std::string& weight)>& filter) {
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
    const bool is_expected = std::find(expected.begin(), expected.end(), name) != expected.end();
    const auto decide = [&](const std::string& pattern, std::string note) {
      decisions.push_back({.weight = name, .pattern = pattern, .note = std::move(note)});
    };
    if (weight.dtype != DType::kS8) {
      throw Error(ErrorCategory::kState, "only int8 and int4 weights can be packed", str_cat("weight '", name, "'"),
                  "call quantize_ first");
    }
    if (!weight.stores_zeros()) {
      decide(weight.pattern(), "");
      continue;
    }
    if (!packing.fits(weight)) {
      decide("dense", str_cat("int4 weights are packed 2:4 or dense, not ", packing.pattern()));
      continue;
    }
    const std::int64_t inputs = weight.shape[1];
    const std::string violation = packing.explain_violation(graph::codes_in_group_order(weight), weight.shape);
    if (!violation.empty()) {
      if (is_expected) {
        throw Error(ErrorCategory::kVerification, violation, str_cat("weight '", name, "'"),
                    str_cat("its mask was not ", packing.pattern(), ", or was squashed before QAT had finished"));
      }
      decide("dense", str_cat("does not obey ", packing.pattern()));
    } else if (inputs < packing.group_elems()) {
      decide("dense", str_cat(inputs, weight.shape.size() == 4 ? " input channel" : " input", inputs == 1 ? "" : "s",
                              ": too few for groups of ", packing.group_elems()));
    } else if (!is_expected && filter && !filter(name)) {
      decide("dense", "left dense by configuration");
    } else {
      graph::Initializer encoded = packing.encode(weight);
      if (!packing.has_pattern() && encoded.stored_bytes() >= weight.stored_bytes()) {
        decide("dense", str_cat("blocks of ", packing.pattern(), " would save no bytes"));
        continue;
      }
      packed[name] = std::move(encoded);
      decide(packing.pattern(), "");
    }
  }
  for (auto& [name, weight] : packed) {
    graph.initializers[name] = std::move(weight);
  }
  graph::infer_shapes(graph);
  return decisions;
}

}  // namespace

std::vector<LayerDecision> sparsify_(graph::Graph& graph, const SemiSparseWeightConfig& config,
                                     const std::vector<std::string>& expected,
                                     const std::function<bool(const std::string& weight)>& filter) {
  return sparsify(graph, Packing(config), expected, filter);
}

std::vector<LayerDecision> sparsify_(graph::Graph& graph, const BlockSparseWeightConfig& config,
                                     const std::vector<std::string>& expected,
                                     const std::function<bool(const std::string& weight)>& filter) {
  return sparsify(graph, Packing(config), expected, filter);
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
