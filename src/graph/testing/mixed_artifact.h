// Small random integer graphs whose values are float32 and codes in turn, for tests of everything that reads one.
// Test-only.
//
// Weights are scaled so that every value has a standard deviation near 1, as normalized inputs have, and codes spread
// over +-4.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/affine.h"
#include "pare/format/int4.h"
#include "pare/graph/artifact.h"
#include "pare/graph/graph.h"
#include "pare/graph/weights.h"

namespace pare::graph::testing {

class MixedGraphBuilder {
 public:
  enum class Output { kReal, kCodes };

  MixedGraphBuilder(std::uint64_t seed, std::string name, Shape input) : rng_(seed, 0x31D) {
    graph_.name = std::move(name);
    graph_.input = "input";
    input.insert(input.begin(), kBatch);
    graph_.values["input"] = {.dtype = DType::kF32, .shape = std::move(input), .quantization = {}};
  }

  // Each returns the name of the value that the node writes.
  std::string quantize(const std::string& name, const std::string& x) {
    return append(name, "QuantizeLinear", {x}, {}, Output::kCodes);
  }
  std::string dequantize(const std::string& name, const std::string& x) {
    return append(name, "DequantizeLinear", {x}, {}, Output::kReal);
  }
  std::string add(const std::string& name, const std::string& a, const std::string& b) {
    return append(name, "Add", {a, b}, {}, Output::kReal);
  }
  std::string gemm(const std::string& name, const std::string& x, std::int64_t k, std::int64_t n, Output output,
                   std::map<std::string, Attribute> attributes = {}) {
    attributes["transB"] = std::int64_t{1};
    return weighted(name, "QGemm", x, {n, k}, output, std::move(attributes));
  }
  // Products of float32, whose bias may be left out. A 2:4 weight keeps two random positions of four.
  enum class Bias { kNone, kReal };
  std::string matmul_nbits(const std::string& name, const std::string& x, std::int64_t k, std::int64_t n,
                           Encoding encoding, std::int64_t group, Bias bias, bool relu = false) {
    const std::vector<float> weights = real_weights(n, k, encoding == Encoding::kInt4TwoFour);
    const format::Int4Codes codes = format::quantize_int4(weights, {format::Int4Form::kDense, n, k, group});
    graph_.initializers[name + ".weight"] = encode_int4(codes, {n, k}, encoding, group);
    return real_product(name, "MatMulNBits", x, n, bias, relu);
  }
  std::string dynamic_gemm(const std::string& name, const std::string& x, std::int64_t k, std::int64_t n, bool two_four,
                           Bias bias, bool relu = false) {
    std::vector<std::int8_t> codes;
    for (const float weight : real_weights(n, k, two_four)) {
      codes.push_back(static_cast<std::int8_t>(format::quantize(weight, {0.02F, 0}, format::kInt8WeightRange)));
    }
    Initializer weight;
    weight.dtype = DType::kS8;
    weight.shape = {n, k};
    weight.data = Buffer::copy_of(codes);
    weight.quantization = Quantization{.scales = {}, .zero_point = 0, .axis = 0};
    for (std::int64_t channel = 0; channel < n; ++channel) {
      weight.quantization->scales.push_back(0.02F * (0.5F + rng_.uniform()));
    }
    graph_.initializers[name + ".weight"] = two_four ? encode_two_four(weight) : weight;
    return real_product(name, "DynamicQuantizeMatMul", x, n, bias, relu);
  }
  std::string conv(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out, Output output) {
    return weighted(name, "QLinearConv", x, {out, in, 3, 3}, output, {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}});
  }
  std::string append(const std::string& name, const std::string& op_type, std::vector<std::string> inputs,
                     std::map<std::string, Attribute> attributes, Output output) {
    const std::string value = name + ".out";
    if (output == Output::kCodes) {
      const auto zero_point = static_cast<std::int32_t>(108 + rng_.below(41));
      graph_.values[value] = {
          .dtype = DType::kU8,
          .shape = {},
          .quantization = Quantization{
              .scales = {(0.9F + 0.2F * rng_.uniform()) * 8.0F / 255.0F}, .zero_point = zero_point, .axis = -1}};
    }
    graph_.nodes.push_back({.name = name,
                            .op_type = op_type,
                            .inputs = std::move(inputs),
                            .output = value,
                            .attributes = std::move(attributes)});
    return value;
  }
  // A float32 constant of one number a feature, uniform within `spread` of `middle`.
  std::string constant(const std::string& name, std::int64_t elems, float middle, float spread) {
    std::vector<float> values(static_cast<std::size_t>(elems));
    for (float& value : values) value = middle + spread * (2.0F * rng_.uniform() - 1.0F);
    graph_.initializers[name] = Initializer::f32({elems}, values);
    return name;
  }
  [[nodiscard]] std::optional<Quantization>& quantization(const std::string& value) {
    return graph_.values.at(value).quantization;
  }

  // The last node's output is the graph's.
  Artifact finish() {
    graph_.output = graph_.nodes.back().output;
    infer_shapes(graph_);
    Artifact artifact;
    const Value& input = graph_.values.at(graph_.input);
    const auto channels = is_image(input) ? static_cast<std::size_t>(input.shape[1]) : 0;
    artifact.preprocessing.mean.assign(channels, 0.5F);
    artifact.preprocessing.std.assign(channels, 0.25F);
    artifact.promises = derive_promises(graph_);
    artifact.graph = std::move(graph_);
    return artifact;
  }

 private:
  // Of a standard deviation that keeps that of the activations.
  std::vector<float> real_weights(std::int64_t n, std::int64_t k, bool two_four) {
    std::vector<float> weights;
    const float spread = std::sqrt((two_four ? 2.0F : 1.0F) / static_cast<float>(k));
    std::uint64_t dropped = 0;
    for (std::int64_t i = 0; i < n * k; ++i) {
      if (i % k % 4 == 0) {
        // One position of each pair.
        dropped = (rng_.below(2) == 0 ? 1U : 2U) | (rng_.below(2) == 0 ? 4U : 8U);
      }
      weights.push_back(two_four && (dropped >> (i % k % 4) & 1) != 0 ? 0.0F : spread * rng_.normal());
    }
    return weights;
  }
  std::string real_product(const std::string& name, const std::string& op_type, const std::string& x, std::int64_t n,
                           Bias bias, bool relu) {
    std::vector<std::string> inputs{x, name + ".weight"};
    if (bias == Bias::kReal) inputs.push_back(constant(name + ".bias", n, 0.0F, 0.5F));
    std::map<std::string, Attribute> attributes;
    if (relu) attributes["fused_activation"] = std::string("Relu");
    return append(name, op_type, std::move(inputs), std::move(attributes), Output::kReal);
  }

  std::string weighted(const std::string& name, const std::string& op_type, const std::string& x, const Shape& shape,
                       Output output, std::map<std::string, Attribute> attributes) {
    const auto channels = static_cast<std::size_t>(shape[0]);
    std::vector<std::int8_t> codes(static_cast<std::size_t>(element_count(shape)));
    for (std::int8_t& code : codes) code = static_cast<std::int8_t>(static_cast<std::int32_t>(rng_.below(255)) - 127);
    const auto reduction = static_cast<float>(codes.size() / channels);
    Initializer weight;
    weight.dtype = DType::kS8;
    weight.shape = shape;
    weight.data = Buffer::copy_of(codes);
    weight.quantization = Quantization{.scales = {}, .zero_point = 0, .axis = 0};
    Initializer bias;
    bias.dtype = DType::kS32;
    bias.shape = {shape[0]};
    std::vector<std::int32_t> biases;
    for (std::size_t channel = 0; channel < channels; ++channel) {
      weight.quantization->scales.push_back((0.5F + rng_.uniform()) / (73.0F * std::sqrt(reduction)));
      biases.push_back(static_cast<std::int32_t>(rng_.below(2001)) - 1000);
    }
    bias.data = Buffer::copy_of(biases);
    graph_.initializers[name + ".weight"] = std::move(weight);
    graph_.initializers[name + ".bias"] = std::move(bias);
    return append(name, op_type, {x, name + ".weight", name + ".bias"}, std::move(attributes), output);
  }

  Rng rng_;
  Graph graph_;
};

// Rows of features: products to float32 and to codes, a residual of the input itself, codes back to float32.
[[nodiscard]] inline Artifact mixed_rows_artifact(std::uint64_t seed) {
  using Output = MixedGraphBuilder::Output;
  MixedGraphBuilder net(seed, "mixed_rows", {5, 12});
  const std::string x = net.quantize("quantize", "input");
  const std::string up = net.gemm("up", x, 12, 70, Output::kCodes, {{"fused_activation", std::string("Relu")}});
  const std::string down = net.gemm("down", up, 70, 12, Output::kReal);
  const std::string sum = net.add("add", "input", down);
  const std::string again = net.quantize("again", sum);
  const std::string back = net.dequantize("back", again);
  net.add("out", net.gemm("last", again, 12, 12, Output::kReal), net.add("twice", back, sum));
  return net.finish();
}

// Rows of features, every product quantized as it comes: int4 and int8, dense and 2:4, with a bias and without.
[[nodiscard]] inline Artifact dynamic_artifact(std::uint64_t seed) {
  using Bias = MixedGraphBuilder::Bias;
  MixedGraphBuilder net(seed, "dynamic", {3, 37});
  const std::string up = net.matmul_nbits("up", "input", 37, 150, Encoding::kInt4, 32, Bias::kReal, true);
  const std::string sparse = net.matmul_nbits("sparse", up, 150, 70, Encoding::kInt4TwoFour, 64, Bias::kNone);
  const std::string dynamic = net.dynamic_gemm("dynamic", sparse, 70, 70, false, Bias::kReal, true);
  const std::string dynamic_sparse = net.dynamic_gemm("dynamic_sparse", dynamic, 70, 70, true, Bias::kNone);
  net.matmul_nbits("out", net.add("add", dynamic_sparse, sparse), 70, 9, Encoding::kInt4TwoFour, 256, Bias::kReal);
  return net.finish();
}

// Images: convolutions that give float32, added, averaged and classified.
[[nodiscard]] inline Artifact mixed_image_artifact(std::uint64_t seed) {
  using Output = MixedGraphBuilder::Output;
  MixedGraphBuilder net(seed, "mixed_image", {3, 7, 6});
  const std::string x = net.quantize("quantize", "input");
  const std::string a = net.conv("a", x, 3, 10, Output::kReal);
  const std::string b = net.conv("b", x, 3, 10, Output::kReal);
  const std::string sum = net.quantize("sum", net.add("add", a, b));
  const std::string average = net.append("average", "QLinearGlobalAveragePool", {sum}, {}, Output::kCodes);
  const std::string flat = net.append("flatten", "Flatten", {average}, {}, Output::kCodes);
  net.quantization(flat) = net.quantization(average);
  net.gemm("fc", flat, 10, 4, Output::kReal);
  return net.finish();
}

// Two layers of a transformer encoder, in all forms that its operators have: normalized, activated and attended to
// codes and to float32.
[[nodiscard]] inline Artifact encoder_artifact(std::uint64_t seed) {
  using Output = MixedGraphBuilder::Output;
  constexpr std::int64_t kFeatures = 24;
  MixedGraphBuilder net(seed, "small_encoder", {9, kFeatures});
  const auto norm = [&](const std::string& name, const std::string& x, Output output) {
    const std::string weight = net.constant(name + ".weight", kFeatures, 1.0F, 0.3F);
    return net.append(name, "LayerNormalization", {x, weight, net.constant(name + ".bias", kFeatures, 0.0F, 0.3F)},
                      {{"epsilon", 1e-5F}}, output);
  };
  std::string x = "input";
  std::string codes = net.quantize("quantize", x);
  for (const std::string layer : {"0", "1"}) {
    const Output either = layer == "0" ? Output::kCodes : Output::kReal;
    const auto project = [&](const std::string& name) {
      return net.gemm(name + layer, codes, kFeatures, kFeatures, Output::kCodes);
    };
    const std::string q = project("q");
    const std::string k = project("k");
    const std::string v = project("v");
    const std::int64_t heads = layer == "0" ? 3 : 2;
    std::string mixed = net.append("attention" + layer, "QLinearAttention", {q, k, v},
                                   {{"q_num_heads", heads}, {"kv_num_heads", heads}}, either);
    if (either == Output::kReal) mixed = net.quantize("mixed" + layer, mixed);
    const std::string out = net.gemm("out" + layer, mixed, kFeatures, kFeatures, Output::kReal);
    x = norm("norm_a" + layer, net.add("add_a" + layer, x, out), Output::kReal);
    const std::string wide = net.gemm("up" + layer, net.quantize("wide" + layer, x), kFeatures, 40, Output::kReal);
    std::string active = net.append("gelu" + layer, "Gelu", {wide}, {}, either);
    if (either == Output::kReal) active = net.quantize("active" + layer, active);
    const std::string down = net.gemm("down" + layer, active, 40, kFeatures, Output::kReal);
    const std::string sum = net.add("add_b" + layer, x, down);
    if (layer == "1") {
      net.dequantize("last", norm("norm_b1", sum, Output::kCodes));
    } else {
      x = norm("norm_b0", sum, Output::kReal);
      codes = net.quantize("codes1", x);
    }
  }
  return net.finish();
}

}  // namespace pare::graph::testing
