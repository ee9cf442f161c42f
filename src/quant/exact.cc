#include "pare/quant/exact.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/elementwise.h"
#include "pare/graph/graph.h"
#include "pare/quant/integer_plan.h"

namespace pare::quant {
namespace {

// Images a slice, where no tap wants to see whole batches: bounds memory (a float64 convolution unfolds its input).
constexpr std::int64_t kSliceImages = 250;

// Integers in float64. Codes: real = scale * (q - zero_point). Accumulators: real = scales[channel] * q. Or float32
// numbers: values of the converted graph, or on the way from codes to codes those of format/elementwise.h.
struct IntegerTensor {
  torch::Tensor q = {};
  torch::Tensor real = {};
  float scale = 0.0F;
  std::int32_t zero_point = 0;
  std::vector<float> channel_scales = {};  // accumulators only
  bool stored = false;                     // real, and a value of the converted graph

  [[nodiscard]] bool is_accumulator() const { return !channel_scales.empty(); }
  [[nodiscard]] bool is_real() const { return real.defined(); }
};

// One number a channel, shaped to broadcast against [batch, channels] or [batch, channels, h, w].
torch::Tensor per_channel(const std::vector<float>& values, std::int64_t dims) {
  const torch::Tensor row = torch::tensor(values, torch::kFloat32);
  return dims == 4 ? row.view({1, -1, 1, 1}) : row.view({1, -1});
}

// float(acc) * factor[channel], in float32.
torch::Tensor scaled(const IntegerTensor& accumulator, const std::vector<float>& factors) {
  return accumulator.q.to(torch::kFloat32) * per_channel(factors, accumulator.q.dim());
}

// format::requantize.
IntegerTensor requantized(const IntegerTensor& accumulator, float scale, std::int32_t zero_point,
                          format::QuantRange range) {
  std::vector<float> multipliers;
  for (const float channel_scale : accumulator.channel_scales) {
    multipliers.push_back(format::requantize_multiplier(channel_scale, scale));
  }
  const torch::Tensor steps =
      scaled(accumulator, multipliers)
          .clamp(static_cast<double>(range.qmin - zero_point), static_cast<double>(range.qmax - zero_point))
          .round();
  return {.q = steps.to(torch::kFloat64) + static_cast<double>(zero_point), .scale = scale, .zero_point = zero_point};
}

void require_finite_bias(const std::string& node, std::int64_t channel, float real) {
  if (!std::isfinite(real)) {
    throw Error(ErrorCategory::kNumeric, str_cat("the bias of channel ", channel, " is ", real),
                str_cat("node '", node, "'"), "training has diverged: lower the learning rate");
  }
}

IntegerTensor multiply_accumulate(const train::Model& model, const graph::Node& node, const IntegerTensor& x) {
  const train::WeightPipeline& pipeline = model.weight(node.inputs[1]);
  // codes() settles the scales of the weight as it is now, so it goes first.
  const torch::Tensor codes = pipeline.codes().cpu();
  const torch::Tensor weight_scales = pipeline.fake_quantizer()->scale().cpu().contiguous();
  const std::int64_t channels = codes.size(0);

  IntegerTensor accumulator;
  torch::Tensor bias = torch::zeros({channels}, torch::kFloat64);
  const torch::Tensor real_bias = model.bias(node.name);
  const torch::Tensor host_bias =
      real_bias.defined() ? real_bias.detach().cpu().contiguous() : torch::zeros({channels}, torch::kFloat32);
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const float scale = format::accumulator_scale(x.scale, weight_scales.data_ptr<float>()[channel]);
    const float real = host_bias.data_ptr<float>()[channel];
    require_finite_bias(node.name, channel, real);
    accumulator.channel_scales.push_back(scale);
    bias.data_ptr<double>()[channel] = format::quantize_bias(real, scale);
  }

  // Without its zero point, a code of 0 stands for the real 0 that padding is made of.
  torch::Tensor steps = x.q - static_cast<double>(x.zero_point);
  if (node.op_type == "Gemm") {
    accumulator.q = torch::addmm(bias, steps, codes.t());
    return accumulator;
  }
  const graph::Window window = graph::window_of(model.graph(), node);
  std::vector<std::int64_t> padding = {window.pad_top, window.pad_left};
  if (window.pad_top != window.pad_bottom || window.pad_left != window.pad_right) {
    steps = torch::constant_pad_nd(steps, {window.pad_left, window.pad_right, window.pad_top, window.pad_bottom}, 0);
    padding = {0, 0};
  }
  accumulator.q = torch::conv2d(steps, codes, bias, {window.stride_h, window.stride_w}, padding,
                                {window.dilation_h, window.dilation_w}, node.is_depthwise() ? channels : 1);
  return accumulator;
}

// format::dequantize.
torch::Tensor dequantized(const IntegerTensor& x) {
  PARE_CHECK(!x.is_accumulator() && !x.is_real());
  return (x.q - static_cast<double>(x.zero_point)).to(torch::kFloat32) * torch::tensor(x.scale, torch::kFloat32);
}

// The sum in format::add_codes.
IntegerTensor add(const IntegerTensor& a, const IntegerTensor& b) {
  IntegerTensor y;
  y.real = dequantized(a) + dequantized(b);
  return y;
}

// format::average_real of the exact sum.
IntegerTensor global_average(const IntegerTensor& x) {
  const torch::Tensor sum = (x.q - static_cast<double>(x.zero_point)).sum({2, 3}, /*keepdim=*/true);
  const float scale = format::average_scale(x.scale, x.q.size(2) * x.q.size(3));
  IntegerTensor y;
  y.real = sum.to(torch::kFloat32) * torch::tensor(scale, torch::kFloat32);
  return y;
}

// The bias of a layer whose accumulators have no scale of their own. float32 [channels], 0 where it has none.
torch::Tensor finite_bias(const train::Model& model, const graph::Node& node, std::int64_t channels) {
  const torch::Tensor bias = model.bias(node.name);
  const torch::Tensor host = bias.defined() ? bias.detach().cpu().contiguous() : torch::zeros({channels});
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    require_finite_bias(node.name, channel, host.data_ptr<float>()[channel]);
  }
  return host;
}

// The rows of docs/format.md: of x quantized by its own largest magnitude, times int8 or int4 weights.
IntegerTensor multiply_rows(const train::Model& model, const graph::Node& node, const torch::Tensor& x) {
  const train::WeightPipeline& pipeline = model.weight(node.inputs[1]);
  const train::FakeQuantizer& quantizer = *pipeline.fake_quantizer();
  const torch::Tensor codes = pipeline.codes().cpu();
  const torch::Tensor weight_scales = quantizer.scale().cpu().view({codes.size(0), -1});

  const torch::Tensor largest = x.abs().amax(-1, /*keepdim=*/true);
  const torch::Tensor row_scales = (largest / torch::tensor(127.0F)).clamp_min(static_cast<double>(format::kMinScale));
  const torch::Tensor reciprocals = torch::ones_like(row_scales) / row_scales;
  const torch::Tensor steps = (x * reciprocals).clamp(-127.0, 127.0).round().to(torch::kFloat64);

  const std::int64_t k = codes.size(1);
  const std::int64_t group = quantizer.group() == 0 ? k : quantizer.group();
  torch::Tensor total;
  for (std::int64_t number = 0; number * group < k; ++number) {
    const std::int64_t elems = std::min(group, k - number * group);
    const torch::Tensor sum =
        torch::mm(steps.narrow(1, number * group, elems), codes.narrow(1, number * group, elems).t());
    const torch::Tensor scaled_sum = sum.to(torch::kFloat32) * weight_scales.select(1, number);
    total = number == 0 ? scaled_sum : total + scaled_sum;
  }
  IntegerTensor y;
  y.real = total * row_scales + finite_bias(model, node, codes.size(0));
  y.stored = true;
  return y;
}

IntegerTensor max_pool(const graph::Graph& graph, const graph::Node& node, IntegerTensor x) {
  const graph::Window window = graph::window_of(graph, node);
  PARE_CHECK(window.pad_top == window.pad_bottom && window.pad_left == window.pad_right);  // Model takes no other
  x.q = torch::max_pool2d(x.q, {window.kernel_h, window.kernel_w}, {window.stride_h, window.stride_w},
                          {window.pad_top, window.pad_left});
  return x;
}

void require_calibrated(const train::Model& model) {
  const std::string where = str_cat("model '", model.graph().name, "'");
  if (model.qat_state() == train::QatState::kNone) {
    throw Error(ErrorCategory::kState, "exact evaluation before QAT was prepared", where, "call prepare_qat first");
  }
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    if (!quantizer->calibrated()) {
      throw Error(ErrorCategory::kState,
                  str_cat("exact evaluation while the quantizer of '", value, "' has seen no data"), where,
                  "train at least one batch in training mode after prepare_qat");
    }
  }
}

torch::Tensor forward_slice(const train::Model& model, const torch::Tensor& normalized, const ExactTap& tap) {
  const graph::Graph& graph = model.graph();
  const auto& quantizers = model.activation_quantizers();
  const auto show = [&tap](const std::string& value, const torch::Tensor& codes) {
    if (tap) {
      tap(value, codes);
    }
  };

  std::map<std::string, IntegerTensor> values;
  if (const auto found = quantizers.find(graph.input); found != quantizers.end()) {
    const train::FakeQuantizer& input = *found->second;
    values[graph.input] = {.q = input.quantize(normalized).cpu().contiguous(),
                           .scale = input.scale().item<float>(),
                           .zero_point = input.zero_point()};
    show(kQuantizedInputValue, values[graph.input].q);
  } else {
    values[graph.input] = {.real = normalized.cpu().contiguous()};
  }
  std::map<std::string, torch::Tensor> dequantized_values;  // of values that dynamic layers read
  const auto real_of = [&](const std::string& name) {
    const IntegerTensor& value = values.at(name);
    if (value.is_real()) {
      return value.real;
    }
    torch::Tensor& real = dequantized_values[name];
    if (!real.defined()) {
      real = dequantized(value);
      show(dequantized_name(name), real);
    }
    return real;
  };

  for (const graph::Node& node : graph.nodes) {
    const IntegerTensor& x = values.at(node.inputs[0]);
    IntegerTensor y;
    if (model.row_quantizers().contains(node.name)) {
      y = multiply_rows(model, node, real_of(node.inputs[0]));
    } else if (node.has_weight()) {
      y = multiply_accumulate(model, node, x);
    } else if (node.op_type == "Relu") {
      PARE_CHECK(x.is_accumulator() || x.is_real());
      y = x;
      if (y.is_real()) {
        // Selects: -0 and NaN stay, as in the runtime.
        y.real = torch::where(x.real < 0, torch::zeros({}, x.real.options()), x.real);
      } else {
        y.q = x.q.clamp_min(0.0);
      }
    } else if (node.op_type == "Add") {
      y = add(x, values.at(node.inputs[1]));
    } else if (node.op_type == "GlobalAveragePool") {
      y = global_average(x);
    } else if (node.op_type == "MaxPool") {
      y = max_pool(graph, node, x);
    } else {
      PARE_CHECK(node.op_type == "Flatten");
      y = x;
      y.q = x.q.flatten(1);
    }
    if (const auto quantizer = quantizers.find(node.output); quantizer != quantizers.end()) {
      PARE_CHECK(y.is_accumulator() || y.is_real());
      if (y.stored) {
        show(unquantized_name(node.output), y.real);
      }
      const train::FakeQuantizer& output = *quantizer->second;
      const float scale = output.scale().item<float>();
      y = y.is_real() ? IntegerTensor{.q = output.quantize(y.real), .scale = scale, .zero_point = output.zero_point()}
                      : requantized(y, scale, output.zero_point(), output.range());
    }
    const std::vector<const graph::Node*> readers = graph.consumers_of(node.output);
    const bool fused = std::any_of(readers.begin(), readers.end(),
                                   [](const graph::Node* reader) { return reader->op_type == "Relu"; });
    if (!fused && y.is_accumulator()) {
      y = {.real = scaled(y, y.channel_scales), .stored = true};
    }
    if (y.is_real()) {
      if (!fused && y.stored) {
        show(node.output, y.real);
      }
    } else if (!y.is_accumulator()) {
      show(node.output, y.q);
    }
    values[node.output] = std::move(y);
  }
  return values.at(graph.output).real;
}

}  // namespace

torch::Tensor exact_forward(train::Model& model, const torch::Tensor& normalized, const ExactTap& tap) {
  require_calibrated(model);
  const Shape& expected = model.graph().values.at(model.graph().input).shape;
  bool fits = normalized.defined() && normalized.scalar_type() == torch::kFloat32 &&
              normalized.dim() == static_cast<std::int64_t>(expected.size()) && normalized.size(0) > 0;
  for (std::size_t axis = 1; fits && axis < expected.size(); ++axis) {
    fits = normalized.size(static_cast<std::int64_t>(axis)) == expected[axis];
  }
  if (!fits) {
    throw Error(
        ErrorCategory::kInvalidArgument,
        normalized.defined() ? str_cat("input of shape ", normalized.sizes(), " and type ", normalized.scalar_type())
                             : std::string("input that is undefined"),
        "exact evaluation", str_cat("it takes float32 ", to_string(expected), ", where -1 is the batch, at least 1"));
  }
  const torch::NoGradGuard no_gradient;
  if (tap || normalized.size(0) <= kSliceImages) {
    return forward_slice(model, normalized, tap);
  }
  std::vector<torch::Tensor> logits;
  for (const torch::Tensor& slice : normalized.split(kSliceImages)) {
    logits.push_back(forward_slice(model, slice, {}));
  }
  return torch::cat(logits);
}

}  // namespace pare::quant
