// What a session must compute, stated a second time: the integer graph in int64, NCHW, one number after the other, and
// its float32 values as docs/format.md says.
// Shares nothing with the kernels but format/. Test-only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/format/affine.h"
#include "pare/format/block.h"
#include "pare/format/half.h"
#include "pare/format/real_functions.h"
#include "pare/format/two_four.h"
#include "pare/format/vnm.h"
#include "pare/graph/artifact.h"
#include "pare/graph/weights.h"

namespace pare::runtime::testing {

struct ReferenceValue {
  Shape shape;                      // without batch
  std::vector<std::int64_t> codes;  // u8 values, NCHW or K
  std::vector<float> reals;         // float32 values
};

class IntegerReference {
 public:
  explicit IntegerReference(const graph::Artifact& artifact) : artifact_(artifact) {}

  // All values that the nodes write for one raw image [C, H, W], by name.
  [[nodiscard]] std::map<std::string, ReferenceValue> run_raw(const std::uint8_t* image) const {
    const Shape shape = input_shape();
    std::vector<float> normalized;
    for (std::int64_t i = 0; i < element_count(shape); ++i) {
      const auto channel = static_cast<std::size_t>(i / (shape[1] * shape[2]));
      normalized.push_back(format::normalize_pixel(image[i], artifact_.preprocessing.mean[channel],
                                                   artifact_.preprocessing.std[channel]));
    }
    return run_reals(normalized);
  }

  [[nodiscard]] std::map<std::string, ReferenceValue> run_reals(const std::vector<float>& image) const {
    const graph::Graph& graph = artifact_.graph;
    std::map<std::string, ReferenceValue> values;
    values[graph.input] = {input_shape(), {}, image};
    for (const graph::Node& node : graph.nodes) {
      const ReferenceValue& x = values.at(node.inputs[0]);
      ReferenceValue y;
      const Shape& shape = graph.values.at(node.output).shape;
      y.shape.assign(shape.begin() + 1, shape.end());
      if (node.op_type == "QuantizeLinear") {
        const auto params = params_of(node.output);
        for (const float real : x.reals) y.codes.push_back(format::quantize(real, params, format::kUint8Range));
      } else if (node.op_type == "DequantizeLinear") {
        const auto params = params_of(node.inputs[0]);
        for (const std::int64_t code : x.codes) {
          y.reals.push_back(format::dequantize(static_cast<std::int32_t>(code), params));
        }
      } else if (node.op_type == "Add") {
        const ReferenceValue& other = values.at(node.inputs[1]);
        for (std::size_t i = 0; i < x.reals.size(); ++i) y.reals.push_back(x.reals[i] + other.reals[i]);
      } else if (node.op_type == "Gelu") {
        for (const float real : x.reals) y.reals.push_back(format::gelu(real));
        quantize_if_codes(node, y);
      } else if (node.op_type == "LayerNormalization") {
        layer_norm(node, x, y);
        quantize_if_codes(node, y);
      } else if (node.op_type == "QLinearAttention") {
        attention(node, x, values.at(node.inputs[1]), values.at(node.inputs[2]), y);
        quantize_if_codes(node, y);
      } else if (node.op_type == "Flatten") {
        y.codes = x.codes;
      } else if (node.op_type == "MaxPool") {
        max_pool(node, x, y);
      } else if (node.op_type == "QLinearAdd") {
        add(node, x, values.at(node.inputs[1]), y);
      } else if (node.op_type == "QLinearGlobalAveragePool") {
        average(node, x, y);
      } else if (node.op_type == "MatMulNBits" || node.op_type == "DynamicQuantizeMatMul") {
        dynamic_product(node, x, y);
      } else if (node.op_type == "QGemm") {
        gemm(node, x, y);
      } else {
        product(node, x, y);
      }
      values[node.output] = std::move(y);
    }
    values.erase(graph.input);
    return values;
  }

 private:
  [[nodiscard]] Shape input_shape() const {
    const Shape& shape = artifact_.graph.values.at(artifact_.graph.input).shape;
    return {shape.begin() + 1, shape.end()};
  }

  [[nodiscard]] format::AffineParams params_of(const std::string& value) const {
    const graph::Quantization& quantization = *artifact_.graph.values.at(value).quantization;
    return {quantization.scales.at(0), quantization.zero_point};
  }

  // Row-major [O, I, kh, kw], or [n, k] as [n, k, 1, 1].
  [[nodiscard]] static std::vector<std::int64_t> dense_codes(const graph::Initializer& weight, const Shape& oihw) {
    const auto stored = weight.data.as<std::int8_t>();
    if (weight.encoding == graph::Encoding::kDense) return {stored.begin(), stored.end()};
    const std::int64_t taps = oihw[2] * oihw[3];
    const auto indices = weight.indices.as<std::uint8_t>();
    const std::vector<std::int8_t> grouped =
        weight.encoding == graph::Encoding::kTwoFour
            ? format::decode_two_four(stored, indices, {oihw[0], taps, oihw[1]})
        : weight.encoding == graph::Encoding::kVnm
            ? format::decode_vnm(stored, indices, {weight.vnm, oihw[0], taps, oihw[1]})
            : format::decode_block(stored, indices, {weight.block, oihw[0], taps, oihw[1]});
    std::vector<std::int64_t> codes(grouped.size());
    for (std::int64_t o = 0; o < oihw[0]; ++o) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        for (std::int64_t i = 0; i < oihw[1]; ++i) {
          codes[static_cast<std::size_t>((o * oihw[1] + i) * taps + tap)] =
              grouped[static_cast<std::size_t>((o * taps + tap) * oihw[1] + i)];
        }
      }
    }
    return codes;
  }

  // Rows of x quantized by their largest magnitude; then, in float32 and in this order, sums of groups times their
  // scales (int4), or the sum of all times the channel's scale (int8); the row's scale; the bias, 0 where it is left
  // out.
  void dynamic_product(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const graph::Graph& graph = artifact_.graph;
    const graph::Initializer& weight = graph.initializers.at(node.inputs[1]);
    const std::vector<std::int8_t> codes = graph::codes_in_group_order(weight);
    const std::int64_t n = weight.shape[0];
    const std::int64_t k = weight.shape[1];
    const std::int64_t group = weight.is_int4() ? weight.group : k;
    const bool relu = node.string_attribute("fused_activation", "") == "Relu";
    for (auto row = x.reals.begin(); row != x.reals.end(); row += k) {
      float largest = 0.0F;
      for (std::int64_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(row[i]));
      const float row_scale = std::max(largest / 127.0F, format::kMinScale);
      for (std::int64_t channel = 0; channel < n; ++channel) {
        float total = 0.0F;
        for (std::int64_t first = 0; first < k; first += group) {
          std::int64_t sum = 0;
          for (std::int64_t i = first; i < std::min(first + group, k); ++i) {
            sum += std::int64_t{format::quantize(row[i], {row_scale, 0}, {-127, 127})} *
                   codes[static_cast<std::size_t>(channel * k + i)];
          }
          total += static_cast<float>(sum) * weight_scale(weight, channel, first / group);
        }
        float real = total * row_scale;
        if (node.inputs.size() > 2) {
          real += graph.initializers.at(node.inputs[2]).data.as<float>()[static_cast<std::size_t>(channel)];
        } else {
          real += 0.0F;
        }
        y.reals.push_back(relu && real < 0.0F ? 0.0F : real);
      }
    }
  }

  [[nodiscard]] static float weight_scale(const graph::Initializer& weight, std::int64_t channel, std::int64_t group) {
    if (!weight.is_int4()) return weight.quantization->scales[static_cast<std::size_t>(channel)];
    const std::int64_t groups = (weight.shape[1] + weight.group - 1) / weight.group;
    return format::float_from_half(
        weight.scales.as<std::uint16_t>()[static_cast<std::size_t>(channel * groups + group)]);
  }

  // Row by row.
  void gemm(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const auto k = static_cast<std::size_t>(x.shape.back());
    for (std::size_t first = 0; first < x.codes.size(); first += k) {
      ReferenceValue row;
      ReferenceValue result;
      row.shape = {x.shape.back()};
      result.shape = {y.shape.back()};
      const auto begin = x.codes.begin() + static_cast<std::ptrdiff_t>(first);
      row.codes.assign(begin, begin + static_cast<std::ptrdiff_t>(k));
      product(node, row, result);
      y.codes.insert(y.codes.end(), result.codes.begin(), result.codes.end());
      y.reals.insert(y.reals.end(), result.reals.begin(), result.reals.end());
    }
  }

  // A row of a Gemm is a convolution of one pixel.
  void product(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const graph::Graph& graph = artifact_.graph;
    const graph::Initializer& weight = graph.initializers.at(node.inputs[1]);
    const auto bias = graph.initializers.at(node.inputs[2]).data.as<std::int32_t>();
    Shape in = x.shape;
    Shape out = y.shape;
    Shape oihw = weight.shape;
    for (Shape* shape : {&in, &out}) shape->resize(3, 1);
    oihw.resize(4, 1);
    const graph::Window window = node.op_type == "QGemm" ? graph::Window{} : graph::window_of(graph, node);
    const std::vector<std::int64_t> codes = dense_codes(weight, oihw);
    const format::AffineParams x_params = params_of(node.inputs[0]);
    const bool relu = node.string_attribute("fused_activation", "") == "Relu";
    for (std::int64_t o = 0; o < out[0]; ++o) {
      const float scale =
          format::accumulator_scale(x_params.scale, weight.quantization->scales[static_cast<std::size_t>(o)]);
      for (std::int64_t pixel = 0; pixel < out[1] * out[2]; ++pixel) {
        std::int64_t acc = bias[static_cast<std::size_t>(o)];
        for (std::int64_t w = 0; w < oihw[1] * oihw[2] * oihw[3]; ++w) {
          const std::int64_t iy =
              pixel / out[2] * window.stride_h - window.pad_top + w / oihw[3] % oihw[2] * window.dilation_h;
          const std::int64_t ix = pixel % out[2] * window.stride_w - window.pad_left + w % oihw[3] * window.dilation_w;
          if (iy < 0 || iy >= in[1] || ix < 0 || ix >= in[2]) continue;
          const std::int64_t i = node.is_depthwise() ? o : w / (oihw[2] * oihw[3]);
          acc += (x.codes[static_cast<std::size_t>((i * in[1] + iy) * in[2] + ix)] - x_params.zero_point) *
                 codes[static_cast<std::size_t>(o * oihw[1] * oihw[2] * oihw[3] + w)];
        }
        if (graph.values.at(node.output).dtype == DType::kF32) {
          const float real = static_cast<float>(acc) * scale;
          y.reals.push_back(relu && real < 0.0F ? 0.0F : real);
        } else {
          const format::AffineParams y_params = params_of(node.output);
          y.codes.push_back(format::requantize(static_cast<std::int32_t>(acc),
                                               format::requantize_multiplier(scale, y_params.scale),
                                               y_params.zero_point, {relu ? y_params.zero_point : 0, 255}));
        }
      }
    }
  }

  // What an operator that may give codes computed in float32.
  void quantize_if_codes(const graph::Node& node, ReferenceValue& y) const {
    if (artifact_.graph.values.at(node.output).dtype == DType::kF32) return;
    for (const float real : y.reals)
      y.codes.push_back(format::quantize(real, params_of(node.output), format::kUint8Range));
    y.reals.clear();
  }

  static float sum_in_parts(const std::vector<float>& values) {
    float parts[format::kSumParts] = {};
    for (std::size_t i = 0; i < values.size(); ++i) parts[i % format::kSumParts] += values[i];
    return format::fold_parts(parts);
  }

  void layer_norm(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const auto weight = artifact_.graph.initializers.at(node.inputs[1]).data.as<float>();
    const auto bias = artifact_.graph.initializers.at(node.inputs[2]).data.as<float>();
    const auto n = static_cast<float>(weight.size());
    for (std::size_t first = 0; first < x.reals.size(); first += weight.size()) {
      const auto begin = x.reals.begin() + static_cast<std::ptrdiff_t>(first);
      std::vector<float> row(begin, begin + static_cast<std::ptrdiff_t>(weight.size()));
      const float mean = sum_in_parts(row) / n;
      std::vector<float> squares;
      for (float& value : row) {
        value = value - mean;
        squares.push_back(value * value);
      }
      const float factor = 1.0F / std::sqrt(sum_in_parts(squares) / n + node.float_attribute("epsilon", 1e-5F));
      for (std::size_t i = 0; i < row.size(); ++i) y.reals.push_back((row[i] * factor) * weight[i] + bias[i]);
    }
  }

  void attention(const graph::Node& node, const ReferenceValue& q, const ReferenceValue& k, const ReferenceValue& v,
                 ReferenceValue& y) const {
    const format::AffineParams q_params = params_of(node.inputs[0]);
    const format::AffineParams v_params = params_of(node.inputs[2]);
    const auto length = static_cast<std::size_t>(q.shape[0]);
    const auto features = static_cast<std::size_t>(q.shape[1]);
    const std::size_t elems = features / static_cast<std::size_t>(node.int_attribute("q_num_heads", 1));
    const float scale =
        format::score_scale(q_params.scale, params_of(node.inputs[1]).scale, static_cast<std::int64_t>(elems));
    y.reals.resize(q.codes.size());
    for (std::size_t query = 0; query < length; ++query) {
      for (std::size_t head = 0; head < features; head += elems) {
        std::vector<float> scores;
        for (std::size_t key = 0; key < length; ++key) {
          std::int64_t sum = 0;
          for (std::size_t c = head; c < head + elems; ++c) {
            sum += (q.codes[query * features + c] - q_params.zero_point) * (k.codes[key * features + c] - 128);
          }
          scores.push_back(static_cast<float>(sum) * scale);
        }
        const float greatest = *std::max_element(scores.begin(), scores.end());
        std::vector<std::int64_t> weights;
        std::int64_t all = 0;
        for (const float score : scores) {
          weights.push_back(std::lrint(255.0F * format::exp_nonpositive(score - greatest)));
          all += weights.back();
        }
        for (std::size_t c = head; c < head + elems; ++c) {
          std::int64_t sum = 0;
          for (std::size_t key = 0; key < length; ++key) sum += weights[key] * (v.codes[key * features + c] - 128);
          const float mean = static_cast<float>(sum) * (1.0F / static_cast<float>(all));
          y.reals[query * features + c] = (mean + static_cast<float>(128 - v_params.zero_point)) * v_params.scale;
        }
      }
    }
  }

  void max_pool(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const graph::Window window = graph::window_of(artifact_.graph, node);
    for (std::int64_t i = 0; i < element_count(y.shape); ++i) {
      const std::int64_t oy = i / y.shape[2] % y.shape[1];
      const std::int64_t ox = i % y.shape[2];
      std::int64_t largest = -1;
      for (std::int64_t tap = 0; tap < window.kernel_h * window.kernel_w; ++tap) {
        const std::int64_t iy = oy * window.stride_h - window.pad_top + tap / window.kernel_w * window.dilation_h;
        const std::int64_t ix = ox * window.stride_w - window.pad_left + tap % window.kernel_w * window.dilation_w;
        if (iy < 0 || iy >= x.shape[1] || ix < 0 || ix >= x.shape[2]) continue;
        const std::int64_t channel = i / (y.shape[1] * y.shape[2]);
        const auto at = static_cast<std::size_t>((channel * x.shape[1] + iy) * x.shape[2] + ix);
        largest = std::max(largest, x.codes[at]);
      }
      y.codes.push_back(largest);
    }
  }

  // As training states it: quantize(relu(dequantize(a) + dequantize(b))).
  void add(const graph::Node& node, const ReferenceValue& a, const ReferenceValue& b, ReferenceValue& y) const {
    const bool relu = node.string_attribute("fused_activation", "") == "Relu";
    for (std::size_t i = 0; i < a.codes.size(); ++i) {
      const float sum = format::dequantize(static_cast<std::int32_t>(a.codes[i]), params_of(node.inputs[0])) +
                        format::dequantize(static_cast<std::int32_t>(b.codes[i]), params_of(node.inputs[1]));
      const float real = relu && sum < 0.0F ? 0.0F : sum;
      y.codes.push_back(format::quantize(real, params_of(node.output), format::kUint8Range));
    }
  }

  void average(const graph::Node& node, const ReferenceValue& x, ReferenceValue& y) const {
    const format::AffineParams params = params_of(node.inputs[0]);
    const auto pixels = static_cast<std::size_t>(x.shape[1] * x.shape[2]);
    const float step = params.scale / static_cast<float>(pixels);
    for (std::size_t first = 0; first < x.codes.size(); first += pixels) {
      std::int64_t sum = 0;
      for (std::size_t p = 0; p < pixels; ++p) sum += x.codes[first + p] - params.zero_point;
      y.codes.push_back(format::quantize(static_cast<float>(sum) * step, params_of(node.output), format::kUint8Range));
    }
  }

  const graph::Artifact& artifact_;
};

}  // namespace pare::runtime::testing
