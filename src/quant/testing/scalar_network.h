// The integer network once more, in plain loops over format/affine.h: what exact_forward and converted graphs are
// compared with. Test-only; shares no code with either.
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/format/affine.h"
#include "pare/graph/graph.h"
#include "pare/graph/weights.h"
#include "pare/train/model.h"

namespace pare::quant::testing {

struct ScalarValue {
  Shape shape;  // with the batch
  std::vector<std::int64_t> q;
  format::AffineParams params;
};

struct ScalarRun {
  std::map<std::string, ScalarValue> codes;  // by value name
  std::vector<float> logits;
};

struct ScalarWeight {
  Shape shape;
  std::vector<std::int32_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> bias;
};

struct ScalarAccumulators {
  Shape shape;
  std::vector<std::int32_t> acc;
  std::vector<float> scales;  // one per channel

  [[nodiscard]] std::size_t channel_of(std::size_t index) const {
    std::int64_t inner = 1;
    for (std::size_t axis = 2; axis < shape.size(); ++axis) {
      inner *= shape[axis];
    }
    return index / static_cast<std::size_t>(inner) % scales.size();
  }
};

// A weight [C, 1, kh, kw] on more than one channel is depthwise: output o reads input o.
inline ScalarAccumulators scalar_multiply(const ScalarValue& x, const ScalarWeight& w, const graph::Window& window) {
  const bool conv = w.shape.size() == 4;
  const std::int64_t batch = x.shape[0], in = w.shape[1], out = w.shape[0], channels = x.shape[1];
  const bool depthwise = conv && in == 1 && channels > 1;
  const std::int64_t height = conv ? x.shape[2] : 1, width = conv ? x.shape[3] : 1;
  const std::int64_t kernel_h = conv ? w.shape[2] : 1, kernel_w = conv ? w.shape[3] : 1;
  const std::int64_t out_h = conv ? window.output_height(height) : 1, out_w = conv ? window.output_width(width) : 1;
  ScalarAccumulators result;
  result.shape = conv ? Shape{batch, out, out_h, out_w} : Shape{batch, out};
  for (const float scale : w.scales) {
    result.scales.push_back(format::accumulator_scale(x.params.scale, scale));
  }
  for (std::int64_t n = 0; n < batch; ++n) {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t row = 0; row < out_h; ++row) {
        for (std::int64_t column = 0; column < out_w; ++column) {
          std::int64_t sum = w.bias[static_cast<std::size_t>(o)];
          for (std::int64_t i = 0; i < in; ++i) {
            for (std::int64_t kh = 0; kh < kernel_h; ++kh) {
              for (std::int64_t kw = 0; kw < kernel_w; ++kw) {
                const std::int64_t y = row * window.stride_h + kh * window.dilation_h - window.pad_top;
                const std::int64_t z = column * window.stride_w + kw * window.dilation_w - window.pad_left;
                if (y < 0 || y >= height || z < 0 || z >= width) {
                  continue;  // padding is the real number 0
                }
                const std::int64_t channel = depthwise ? o : i;
                const auto at = static_cast<std::size_t>(((n * channels + channel) * height + y) * width + z);
                const auto weight_at = static_cast<std::size_t>(((o * in + i) * kernel_h + kh) * kernel_w + kw);
                sum += (x.q[at] - x.params.zero_point) * w.codes[weight_at];
              }
            }
          }
          PARE_CHECK(std::abs(sum) <= std::numeric_limits<std::int32_t>::max());
          result.acc.push_back(static_cast<std::int32_t>(sum));
        }
      }
    }
  }
  return result;
}

inline ScalarValue scalar_requantize(const ScalarAccumulators& acc, format::AffineParams params, bool relu) {
  format::QuantRange range = format::kUint8Range;
  if (relu) {
    range.qmin = std::max(range.qmin, params.zero_point);
  }
  ScalarValue result{acc.shape, {}, params};
  for (std::size_t i = 0; i < acc.acc.size(); ++i) {
    const float multiplier = format::requantize_multiplier(acc.scales[acc.channel_of(i)], params.scale);
    result.q.push_back(format::requantize(acc.acc[i], multiplier, params.zero_point, range));
  }
  return result;
}

inline std::vector<float> scalar_logits(const ScalarAccumulators& acc, bool relu) {
  std::vector<float> logits;
  for (std::size_t i = 0; i < acc.acc.size(); ++i) {
    const float logit = static_cast<float>(acc.acc[i]) * acc.scales[acc.channel_of(i)];
    logits.push_back(relu && logit < 0.0F ? 0.0F : logit);
  }
  return logits;
}

inline ScalarValue scalar_quantize(const torch::Tensor& normalized, format::AffineParams params) {
  const torch::Tensor x = normalized.contiguous();
  ScalarValue result{x.sizes().vec(), {}, params};
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    result.q.push_back(format::quantize(x.data_ptr<float>()[i], params, format::kUint8Range));
  }
  return result;
}

inline ScalarValue scalar_max_pool(const ScalarValue& x, const graph::Window& window) {
  const std::int64_t height = x.shape[2], width = x.shape[3];
  const std::int64_t out_h = window.output_height(height), out_w = window.output_width(width);
  ScalarValue result{{x.shape[0], x.shape[1], out_h, out_w}, {}, x.params};
  for (std::int64_t plane = 0; plane < x.shape[0] * x.shape[1]; ++plane) {
    for (std::int64_t row = 0; row < out_h; ++row) {
      for (std::int64_t column = 0; column < out_w; ++column) {
        std::int64_t best = -1;
        for (std::int64_t kh = 0; kh < window.kernel_h; ++kh) {
          for (std::int64_t kw = 0; kw < window.kernel_w; ++kw) {
            const std::int64_t y = row * window.stride_h + kh - window.pad_top;
            const std::int64_t z = column * window.stride_w + kw - window.pad_left;
            if (y >= 0 && y < height && z >= 0 && z < width) {
              best = std::max(best, x.q[static_cast<std::size_t>((plane * height + y) * width + z)]);
            }
          }
        }
        result.q.push_back(best);
      }
    }
  }
  return result;
}

inline ScalarValue scalar_add(const ScalarValue& a, const ScalarValue& b, format::AffineParams params, bool relu) {
  ScalarValue result{a.shape, {}, params};
  for (std::size_t i = 0; i < a.q.size(); ++i) {
    const float sum = format::dequantize(static_cast<std::int32_t>(a.q[i]), a.params) +
                      format::dequantize(static_cast<std::int32_t>(b.q[i]), b.params);
    result.q.push_back(format::quantize(relu && sum < 0.0F ? 0.0F : sum, params, format::kUint8Range));
  }
  return result;
}

inline ScalarValue scalar_average(const ScalarValue& x, format::AffineParams params) {
  ScalarValue result{{x.shape[0], x.shape[1], 1, 1}, {}, params};
  const auto pixels = static_cast<std::size_t>(x.shape[2] * x.shape[3]);
  for (std::size_t first = 0; first < x.q.size(); first += pixels) {
    std::int64_t sum = 0;
    for (std::size_t p = first; p < first + pixels; ++p) {
      sum += x.q[p] - x.params.zero_point;
    }
    const float step = x.params.scale / static_cast<float>(pixels);
    result.q.push_back(format::quantize(static_cast<float>(sum) * step, params, format::kUint8Range));
  }
  return result;
}

inline ScalarValue scalar_flatten(ScalarValue x) {
  x.shape = {x.shape[0], static_cast<std::int64_t>(x.q.size()) / x.shape[0]};
  return x;
}

// Masked weight, scales, codes and bias codes from the parameters themselves.
inline ScalarWeight scalar_weight(const train::Model& model, const graph::Node& node, float input_scale) {
  const train::WeightPipeline& pipeline = model.weight(node.inputs[1]);
  const torch::Tensor dense = pipeline.dense().detach().contiguous();
  const torch::Tensor bias = model.bias(node.name);
  ScalarWeight result;
  result.shape = dense.sizes().vec();
  const std::int64_t channels = dense.size(0), row = dense.numel() / channels;
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    std::vector<float> values;
    float greatest = 0.0F;
    for (std::int64_t i = channel * row; i < (channel + 1) * row; ++i) {
      const bool kept = !pipeline.mask().defined() || pipeline.mask().data_ptr<float>()[i] != 0.0F;
      values.push_back(kept ? dense.data_ptr<float>()[i] : 0.0F);
      greatest = std::max(greatest, std::abs(values.back()));
    }
    const float scale = std::max((greatest == 0.0F ? 1.0F : greatest) / 127.0F, format::kMinScale);
    for (const float value : values) {
      result.codes.push_back(format::quantize(value, {scale, 0}, format::kInt8WeightRange));
    }
    result.scales.push_back(scale);
    const float real_bias = bias.defined() ? bias.data_ptr<float>()[channel] : 0.0F;
    result.bias.push_back(format::quantize_bias(real_bias, format::accumulator_scale(input_scale, scale)));
  }
  return result;
}

// The live model, its float graph node by node.
inline ScalarRun run_model_in_scalars(const train::Model& model, const torch::Tensor& normalized) {
  const graph::Graph& graph = model.graph();
  const auto params_of = [&](const std::string& value) {
    const train::FakeQuantizer& quantizer = *model.activation_quantizers().at(value);
    return format::AffineParams{quantizer.scale().item<float>(), quantizer.zero_point()};
  };
  ScalarRun run;
  std::map<std::string, std::string> alias = {{graph.input, "quantize_input.out"}};
  run.codes["quantize_input.out"] = scalar_quantize(normalized, params_of(graph.input));
  for (const graph::Node& node : graph.nodes) {
    if (node.op_type == "Relu") {
      continue;  // with its producer
    }
    const auto codes_of = [&](const std::string& value) -> const ScalarValue& {
      return run.codes.at(alias.contains(value) ? alias.at(value) : value);
    };
    const ScalarValue& x = codes_of(node.inputs[0]);
    const std::vector<const graph::Node*> readers = graph.consumers_of(node.output);
    const bool relu = readers.size() == 1 && readers[0]->op_type == "Relu";
    const std::string output = relu ? readers[0]->output : node.output;
    if (node.op_type == "Add") {
      run.codes[output] = scalar_add(x, codes_of(node.inputs[1]), params_of(output), relu);
    } else if (node.op_type == "GlobalAveragePool") {
      run.codes[output] = scalar_average(x, params_of(output));
    } else if (node.op_type == "MaxPool") {
      run.codes[node.output] = scalar_max_pool(x, graph::window_of(graph, node));
    } else if (node.op_type == "Flatten") {
      run.codes[node.output] = scalar_flatten(x);
    } else {
      const graph::Window window = node.op_type == "Conv" ? graph::window_of(graph, node) : graph::Window{};
      const ScalarAccumulators acc = scalar_multiply(x, scalar_weight(model, node, x.params.scale), window);
      if (output == graph.output) {
        run.logits = scalar_logits(acc, relu);
      } else {
        run.codes[output] = scalar_requantize(acc, params_of(output), relu);
      }
    }
  }
  return run;
}

// A converted graph, whatever its encodings.
inline ScalarRun run_graph_in_scalars(const graph::Graph& graph, const torch::Tensor& normalized) {
  const auto params_of = [&](const std::string& value) {
    const graph::Quantization& quantization = *graph.values.at(value).quantization;
    return format::AffineParams{quantization.scales.at(0), quantization.zero_point};
  };
  ScalarRun run;
  for (const graph::Node& node : graph.nodes) {
    if (node.op_type == "QuantizeLinear") {
      run.codes[node.output] = scalar_quantize(normalized, params_of(node.output));
      continue;
    }
    const ScalarValue& x = run.codes.at(node.inputs[0]);
    const bool relu = node.string_attribute("fused_activation", "") == "Relu";
    if (node.op_type == "QLinearAdd") {
      run.codes[node.output] = scalar_add(x, run.codes.at(node.inputs[1]), params_of(node.output), relu);
    } else if (node.op_type == "QLinearGlobalAveragePool") {
      run.codes[node.output] = scalar_average(x, params_of(node.output));
    } else if (node.op_type == "MaxPool") {
      run.codes[node.output] = scalar_max_pool(x, graph::window_of(graph, node));
    } else if (node.op_type == "Flatten") {
      run.codes[node.output] = scalar_flatten(x);
    } else {
      const graph::Initializer& stored = graph.initializer(node.inputs[1]);
      const graph::Initializer dense = graph::decode_dense(stored);
      const auto codes = dense.data.as<std::int8_t>();
      const auto bias = graph.initializer(node.inputs[2]).data.as<std::int32_t>();
      const ScalarWeight weight{
          dense.shape, {codes.begin(), codes.end()}, dense.quantization->scales, {bias.begin(), bias.end()}};
      const graph::Window window = node.op_type == "QLinearConv" ? graph::window_of(graph, node) : graph::Window{};
      const ScalarAccumulators acc = scalar_multiply(x, weight, window);
      if (node.output == graph.output) {
        run.logits = scalar_logits(acc, relu);
      } else {
        run.codes[node.output] = scalar_requantize(acc, params_of(node.output), relu);
      }
    }
  }
  return run;
}

}  // namespace pare::quant::testing
