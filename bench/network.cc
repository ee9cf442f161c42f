#include "bench/network.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <type_traits>
#include <utility>

#include "bench/quantized_weights.h"
#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"
#include "pare/graph/builtin.h"
#include "pare/graph/weights.h"

namespace pare::bench {
namespace {

using Json = nlohmann::ordered_json;

struct ImageShape {
  const char* network;
  std::int64_t channels, height, width;
};
constexpr ImageShape kImages[] = {{"resnet18", 3, 32, 32}};
constexpr ImageShape kFashionImage = {"", 1, 28, 28};

double energy(const std::vector<float>& values) {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

// Sets to 0 what the mask drops: of every group of m inputs (of one tap) the n largest sums of magnitudes over v rows
// stay.
void mask_by_magnitude(std::vector<float>& values, const Shape& shape, const format::VnmPattern& p) {
  const std::int64_t channels = shape[1];
  const std::int64_t taps = shape.size() == 4 ? shape[2] * shape[3] : 1;
  const auto at = [&](std::int64_t row, std::int64_t channel, std::int64_t tap) -> float& {
    return values[static_cast<std::size_t>((row * channels + channel) * taps + tap)];
  };
  for (std::int64_t block = 0; block < shape[0]; block += p.v) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t group = 0; group < channels; group += p.m) {
        std::vector<double> magnitude(static_cast<std::size_t>(p.m), 0.0);
        std::vector<std::int64_t> order(magnitude.size());
        std::iota(order.begin(), order.end(), 0);
        for (std::int64_t i = 0; i < p.m; ++i) {
          for (std::int64_t row = block; row < block + p.v; ++row) {
            magnitude[static_cast<std::size_t>(i)] += std::abs(at(row, group + i, tap));
          }
        }
        std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
          return magnitude[static_cast<std::size_t>(a)] > magnitude[static_cast<std::size_t>(b)];
        });
        for (auto dropped = order.begin() + p.n; dropped != order.end(); ++dropped) {
          for (std::int64_t row = block; row < block + p.v; ++row) at(row, group + *dropped, tap) = 0.0F;
        }
      }
    }
  }
}

graph::Initializer quantized_weight(const graph::Initializer& real) {
  const auto values = real.data.as<float>();
  const std::size_t row_elems = values.size() / static_cast<std::size_t>(real.shape[0]);
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  for (std::size_t first = 0; first < values.size(); first += row_elems) {
    const auto row = values.subspan(first, row_elems);
    const auto [least, most] = std::minmax_element(row.begin(), row.end());
    const format::AffineParams params = format::choose_qparams_symmetric(*least, *most, format::kInt8WeightRange);
    scales.push_back(params.scale);
    for (const float value : row) {
      codes.push_back(static_cast<std::int8_t>(format::quantize(value, params, format::kInt8WeightRange)));
    }
  }
  graph::Initializer weight;
  weight.dtype = DType::kS8;
  weight.shape = real.shape;
  weight.data = graph::Buffer::copy_of(codes);
  weight.quantization = graph::Quantization{.scales = scales, .zero_point = 0, .axis = 0};
  return weight;
}

graph::Initializer quantized_bias(const graph::Initializer& real, float input_scale, const std::vector<float>& scales) {
  std::vector<std::int32_t> codes;
  const auto values = real.data.as<float>();
  for (std::size_t j = 0; j < values.size(); ++j) {
    codes.push_back(format::quantize_bias(values[j], format::accumulator_scale(input_scale, scales[j])));
  }
  graph::Initializer bias;
  bias.dtype = DType::kS32;
  bias.shape = real.shape;
  bias.data = graph::Buffer::copy_of(codes);
  return bias;
}

graph::Initializer encoded(graph::Initializer weight, const SparsityPattern& pattern) {
  if (pattern.vnm.v == 0 || !pattern.applies_to(weight.shape)) return weight;
  if (pattern.vnm.v == 1) return graph::encode_two_four(weight);
  return graph::encode_vnm(weight, pattern.vnm);
}

std::string integer_operator(const graph::Node& node) {
  static const std::map<std::string, std::string> kOperators = {
      {"Conv", "QLinearConv"}, {"Gemm", "QGemm"},
      {"Add", "QLinearAdd"},   {"GlobalAveragePool", "QLinearGlobalAveragePool"},
      {"MaxPool", "MaxPool"},  {"Flatten", "Flatten"}};
  const auto found = kOperators.find(node.op_type);
  if (found == kOperators.end()) {
    throw Error(ErrorCategory::kUnsupported, str_cat("operator ", node.op_type), str_cat("node '", node.name, "'"));
  }
  return found->second;
}

}  // namespace

void add_quantized_weights(const graph::Graph& source, const graph::Node& node, float input_scale,
                           const SparsityPattern& pattern, graph::Graph& result) {
  const graph::Initializer weight = quantized_weight(source.initializer(node.inputs[1]));
  result.initializers[node.inputs[2]] =
      quantized_bias(source.initializer(node.inputs[2]), input_scale, weight.quantization->scales);
  result.initializers[node.inputs[1]] = encoded(weight, pattern);
}

graph::Quantization quantization_of(const ActivationScales& scales, const std::string& value) {
  const auto params = scales.find(value);
  if (params == scales.end()) {
    throw Error(ErrorCategory::kNotFound, str_cat("value '", value, "' has no scale"), "activation scales");
  }
  return {.scales = {params->second.scale}, .zero_point = params->second.zero_point, .axis = -1};
}

SparsityPattern SparsityPattern::parse(const std::string& text) {
  SparsityPattern pattern;
  pattern.name = text;
  if (text == "dense") return pattern;
  long long first = 0;
  long long second = 0;
  long long third = 0;
  char rest = 0;
  const int numbers = std::sscanf(text.c_str(), "%lld:%lld:%lld%c", &first, &second, &third, &rest);
  if (text == "2:4") {
    pattern.vnm = {.v = 1, .n = 2, .m = 4};
  } else if (numbers == 3 && first > 1 && second > 0 && second < third && third <= 16) {
    pattern.vnm = {.v = first, .n = second, .m = third};
  } else {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("pattern \"", text, "\""), {},
                "there are \"dense\", \"2:4\" and V:N:M, \"64:1:4\" for example");
  }
  return pattern;
}

bool SparsityPattern::applies_to(const Shape& weight_shape) const {
  return vnm.v > 0 && weight_shape[0] % vnm.v == 0 && weight_shape[1] % vnm.m == 0;
}

graph::Graph float_network(const std::string& name, std::uint64_t seed, const SparsityPattern& pattern) {
  ImageShape image = kFashionImage;
  for (const ImageShape& known : kImages) {
    if (name == known.network) image = known;
  }
  graph::Graph graph =
      name == "encoder" ? graph::encoder(seed) : graph::builtin(name, seed, image.channels, image.height, image.width);
  graph::fold_batch_norm(graph);
  for (const std::string& weight_name : graph.weight_names()) {
    graph::Initializer& weight = graph.initializers.at(weight_name);
    const auto drawn = weight.data.as<float>();
    std::vector<float> values(drawn.begin(), drawn.end());
    // 2 / fan_in; what is drawn from +-1/sqrt(fan_in) has a third of 1 / fan_in.
    const double wanted = 6.0 * energy(values);
    if (pattern.applies_to(weight.shape)) mask_by_magnitude(values, weight.shape, pattern.vnm);
    const auto factor = static_cast<float>(std::sqrt(wanted / energy(values)));
    for (float& value : values) value *= factor;
    weight = graph::Initializer::f32(weight.shape, values);
  }
  return graph;
}

void write_float_network(const std::filesystem::path& folder, const graph::Graph& graph) {
  Json nodes = Json::array();
  for (const graph::Node& node : graph.nodes) {
    Json attributes = Json::object();
    for (const auto& [key, value] : node.attributes) {
      std::visit([&, &name = key](const auto& plain) { attributes[name] = plain; }, value);
    }
    nodes.push_back({{"name", node.name},
                     {"op_type", node.op_type},
                     {"inputs", node.inputs},
                     {"output", node.output},
                     {"attributes", attributes}});
  }
  const Json description = {{"name", graph.name},
                            {"input", graph.input},
                            {"output", graph.output},
                            {"input_shape", graph.values.at(graph.input).shape},
                            {"output_shape", graph.values.at(graph.output).shape},
                            {"nodes", nodes}};
  make_directories(folder);
  write_file_atomically(folder / "graph.json", description.dump(1) + "\n");
  std::vector<format::TensorView> tensors;
  for (const auto& [name, item] : graph.initializers) {
    tensors.push_back({.name = name, .dtype = item.dtype, .shape = item.shape, .bytes = item.data.bytes()});
  }
  format::write_safetensors(folder / "weights.safetensors", {}, tensors);
}

void read_weights(const std::filesystem::path& path, graph::Graph& graph) {
  const format::SafetensorsFile file(path);
  for (auto& [name, item] : graph.initializers) {
    const format::TensorView& tensor = file.tensor(name);
    if (tensor.dtype != DType::kF32 || tensor.shape != item.shape) {
      throw Error(ErrorCategory::kCorruptData, "another element type or shape than the network's",
                  str_cat(path.string(), ", '", name, "'"));
    }
    item.data = graph::Buffer(file.owner(), tensor.bytes);
  }
}

ActivationScales read_scales(const std::filesystem::path& path) {
  try {
    ActivationScales scales;
    const Json values = Json::parse(read_text_file(path));
    for (const auto& [value, params] : values.items()) {
      scales[value] = {.scale = params.at("scale").get<float>(),
                       .zero_point = params.at("zero_point").get<std::int32_t>()};
    }
    return scales;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCategory::kCorruptData, error.what(), path.string());
  }
}

namespace {

// All values but the network's output are codes.
graph::Graph coded_network(const graph::Graph& graph, const ActivationScales& scales, const SparsityPattern& pattern) {
  graph::Graph result;
  result.name = graph.name;
  result.input = graph.input;
  result.output = graph.output;
  result.values[graph.input] = graph.values.at(graph.input);
  std::map<std::string, std::string> codes;  // of a value of the float graph: its integer value
  const auto declare = [&](const std::string& value, const std::string& scale_name) {
    result.values[value] = {.dtype = DType::kU8, .shape = {}, .quantization = quantization_of(scales, scale_name)};
    codes[scale_name] = value;
  };
  const std::string quantized_input = "quantize_input.out";
  declare(quantized_input, graph.input);
  result.nodes.push_back({.name = "quantize_input",
                          .op_type = "QuantizeLinear",
                          .inputs = {graph.input},
                          .output = quantized_input,
                          .attributes = {}});
  for (const graph::Node& source : graph.nodes) {
    if (source.op_type == "Relu") continue;  // part of the operator before it
    graph::Node node = source;
    node.op_type = integer_operator(source);
    const std::vector<const graph::Node*> readers = graph.consumers_of(source.output);
    if (readers.size() == 1 && readers[0]->op_type == "Relu") {
      node.output = readers[0]->output;
      node.attributes["fused_activation"] = std::string("Relu");
    }
    for (std::string& input : node.inputs) {
      if (const auto value = codes.find(input); value != codes.end()) input = value->second;
    }
    if (source.has_weight()) {
      add_quantized_weights(graph, source, result.values.at(node.inputs[0]).quantization->scales[0], pattern, result);
    }
    if (node.op_type == "MaxPool" || node.op_type == "Flatten") {
      result.values[node.output] = {
          .dtype = DType::kU8, .shape = {}, .quantization = result.values.at(node.inputs[0]).quantization};
      codes[node.output] = node.output;
    } else if (node.output != graph.output) {
      declare(node.output, node.output);
    }
    result.nodes.push_back(std::move(node));
  }
  return result;
}

}  // namespace

graph::Artifact integer_network(const graph::Graph& graph, const ActivationScales& scales,
                                const SparsityPattern& pattern) {
  const bool attends = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                                   [](const graph::Node& node) { return node.op_type == "Attention"; });
  graph::Artifact artifact;
  artifact.graph = attends ? mixed_network(graph, scales, pattern) : coded_network(graph, scales, pattern);
  graph::infer_shapes(artifact.graph);
  const graph::Value& input = graph.values.at(graph.input);
  const auto channels = graph::is_image(input) ? static_cast<std::size_t>(input.shape[1]) : 0;
  artifact.preprocessing.mean.assign(channels, 0.0F);
  artifact.preprocessing.std.assign(channels, 1.0F);
  artifact.promises = graph::derive_promises(artifact.graph);
  return artifact;
}

}  // namespace pare::bench
