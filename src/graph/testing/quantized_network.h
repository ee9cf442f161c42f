// A float graph with its drawn weights as an artifact, without training: for tests and benchmarks of the runtime on
// networks of real shape. Test-only.
//
// Weights are rounded to int8 per channel (2:4: the two smallest of every four along the input channels become 0
// first). Scales of activations follow from second moments, which the weights of a layer multiply: E[y^2] = sum w^2 *
// E[x^2] + b^2, a Relu halves them, a sum adds them. Codes then spread over the range, as they do in trained networks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pare/format/affine.h"
#include "pare/graph/artifact.h"
#include "pare/graph/graph.h"
#include "pare/graph/weights.h"

namespace pare::graph::testing {

namespace internal {

class NetworkQuantizer {
 public:
  NetworkQuantizer(Graph graph, bool two_four) : source_(std::move(graph)), two_four_(two_four) {}

  Graph quantize() {
    (void)fold_batch_norm(source_);
    result_.name = source_.name;
    result_.input = source_.input;
    result_.output = source_.output;
    result_.values[source_.input] = source_.values.at(source_.input);
    // A normalized image.
    moments_["quantize_input.out"] = 1.0;
    renamed_[source_.input] = "quantize_input.out";
    append({.name = "quantize_input",
            .op_type = "QuantizeLinear",
            .inputs = {source_.input},
            .output = "quantize_input.out",
            .attributes = {}},
           symmetric(1.0));
    for (const Node& node : source_.nodes) {
      if (node.op_type != "Relu") {
        convert(node);
      }
    }
    infer_shapes(result_);
    return std::move(result_);
  }

 private:
  // Four standard deviations either way, or upwards only.
  static Quantization symmetric(double moment) {
    return {.scales = {static_cast<float>(8.0 * std::sqrt(moment) / 255.0)}, .zero_point = 128, .axis = -1};
  }
  static Quantization above_zero(double moment_before_relu) {
    return {.scales = {static_cast<float>(4.0 * std::sqrt(moment_before_relu) / 255.0)}, .zero_point = 0, .axis = -1};
  }

  void append(Node node, Quantization quantization) {
    if (node.output != source_.output) {
      result_.values[node.output] = {.dtype = DType::kU8, .shape = {}, .quantization = std::move(quantization)};
    }
    result_.nodes.push_back(std::move(node));
  }

  [[nodiscard]] const std::string& renamed(const std::string& value) const {
    const auto found = renamed_.find(value);
    return found == renamed_.end() ? value : found->second;
  }

  void convert(const Node& node) {
    Node made = node;
    made.inputs[0] = renamed(node.inputs[0]);
    const std::vector<const Node*> readers = source_.consumers_of(node.output);
    const bool relu = readers.size() == 1 && readers[0]->op_type == "Relu";
    const double before = moments_.at(made.inputs[0]);
    double moment = before;
    if (node.has_weight()) {
      made.op_type = node.op_type == "Conv" ? "QLinearConv" : "QGemm";
      moment = quantize_weight(node, before, result_.values.at(made.inputs[0]).quantization->scales[0]);
    } else if (node.op_type == "Add") {
      made.op_type = "QLinearAdd";
      made.inputs[1] = renamed(node.inputs[1]);
      moment += moments_.at(made.inputs[1]);
    } else if (node.op_type == "GlobalAveragePool") {
      made.op_type = "QLinearGlobalAveragePool";
    }
    if (relu) {
      made.attributes["fused_activation"] = std::string("Relu");
      made.output = readers[0]->output;
    }
    const bool keeps_codes = node.op_type == "MaxPool" || node.op_type == "Flatten";
    Quantization quantization = keeps_codes ? *result_.values.at(made.inputs[0]).quantization
                                : relu      ? above_zero(moment)
                                            : symmetric(moment);
    moments_[made.output] = relu ? moment / 2.0 : moment;
    append(std::move(made), std::move(quantization));
  }

  void prune(std::vector<float>& values, const Shape& shape) const {
    const std::int64_t taps = shape.size() == 4 ? shape[2] * shape[3] : 1;
    for (std::int64_t o = 0; o < shape[0]; ++o) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        for (std::int64_t i = 0; i < shape[1]; i += 4) {
          std::vector<float*> group;
          for (std::int64_t j = i; j < std::min(i + 4, shape[1]); ++j) {
            group.push_back(&values[static_cast<std::size_t>((o * shape[1] + j) * taps + tap)]);
          }
          std::stable_sort(group.begin(), group.end(),
                           [](const float* a, const float* b) { return std::abs(*a) > std::abs(*b); });
          for (std::size_t rank = 2; rank < group.size(); ++rank) {
            *group[rank] = 0.0F;
          }
        }
      }
    }
  }

  // Returns the second moment of the layer's output.
  double quantize_weight(const Node& node, double input_moment, float input_scale) {
    const Initializer& weight = source_.initializer(node.inputs[1]);
    std::vector<float> values(weight.data.as<float>().begin(), weight.data.as<float>().end());
    const bool packed = two_four_ && weight.shape[1] % 4 == 0;
    if (packed) {
      prune(values, weight.shape);
    }
    const auto channels = static_cast<std::size_t>(weight.shape[0]);
    const std::size_t row = values.size() / channels;
    const auto real_bias = source_.initializer(node.inputs.at(2)).data.as<float>();
    std::vector<std::int8_t> codes(values.size());
    std::vector<std::int32_t> bias(channels);
    Quantization quantization{.scales = {}, .zero_point = 0, .axis = 0};
    double moment = 0.0;
    for (std::size_t channel = 0; channel < channels; ++channel) {
      const std::span<const float> own(values.data() + channel * row, row);
      const auto [low, high] = std::minmax_element(own.begin(), own.end());
      const format::AffineParams params = format::choose_qparams_symmetric(*low, *high, format::kInt8WeightRange);
      quantization.scales.push_back(params.scale);
      double squares = 0.0;
      for (std::size_t i = 0; i < row; ++i) {
        codes[channel * row + i] = static_cast<std::int8_t>(format::quantize(own[i], params, format::kInt8WeightRange));
        squares += static_cast<double>(own[i]) * own[i];
      }
      bias[channel] = format::quantize_bias(real_bias[channel], format::accumulator_scale(input_scale, params.scale));
      moment += squares * input_moment + static_cast<double>(real_bias[channel]) * real_bias[channel];
    }
    Initializer made;
    made.dtype = DType::kS8;
    made.shape = weight.shape;
    made.data = Buffer::copy_of(codes);
    made.quantization = std::move(quantization);
    result_.initializers[node.inputs[1]] = packed ? encode_two_four(made) : made;
    Initializer made_bias;
    made_bias.dtype = DType::kS32;
    made_bias.shape = {weight.shape[0]};
    made_bias.data = Buffer::copy_of(bias);
    result_.initializers[node.inputs[2]] = made_bias;
    return moment / static_cast<double>(channels);
  }

  Graph source_;
  bool two_four_;
  Graph result_;
  std::map<std::string, double> moments_;       // E[x^2] of values of the result
  std::map<std::string, std::string> renamed_;  // values of the source that have another name in the result
};

}  // namespace internal

// Of a float graph that ends in a Gemm, each Relu the only reader of a Conv, Gemm or Add, each Conv and Gemm with a
// bias.
[[nodiscard]] inline Artifact quantized_network(const Graph& graph, bool two_four) {
  Artifact artifact;
  artifact.graph = internal::NetworkQuantizer(graph, two_four).quantize();
  const auto channels = static_cast<std::size_t>(graph.values.at(graph.input).shape[1]);
  artifact.preprocessing.mean.assign(channels, 0.5F);
  artifact.preprocessing.std.assign(channels, 0.25F);
  artifact.promises = derive_promises(artifact.graph);
  return artifact;
}

}  // namespace pare::graph::testing
