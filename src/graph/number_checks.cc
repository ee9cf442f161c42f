#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>

#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/int4.h"
#include "pare/format/two_four.h"
#include "pare/graph/validation.h"
#include "pare/graph/weights.h"

namespace pare::graph::internal {
namespace {

bool is_valid_scale(float scale) { return std::isfinite(scale) && scale >= format::kMinScale; }

// Collects what is wrong with one node after the other.
class NumberChecks {
 public:
  NumberChecks(const Graph& graph, std::int64_t& facts) : graph_(graph), facts_(facts) {}

  void check(const Node& node) {
    node_ = &node;
    const Value& output = graph_.values.at(node.output);
    const bool output_is_valid =
        !output.quantization.has_value() || check_activation(node.output, *output.quantization);
    if (node.op_type == "QLinearAdd") {
      check_sum(node);
    }
    if (node.op_type == "QLinearAttention") {
      check_attention(node);
    }
    if (node.op_type == "LayerNormalization") {
      check_finite(node.inputs[1]);
      check_finite(node.inputs[2]);
    }
    if (!node.has_weight()) {
      return;
    }
    const Initializer& weight = graph_.initializers.at(node.inputs[1]);
    if (weight.is_int4()) {
      check_int4(node.inputs[1], weight);
      check_real_bias(node);
      return;
    }
    const bool weight_is_valid = check_weight_scales(node.inputs[1], weight);
    check_codes(node.inputs[1], weight);
    if (node.op_type == "DynamicQuantizeMatMul") {
      check_real_bias(node);
      // The scale of the input is any row's; the weight's alone must not leave float32.
      if (weight_is_valid) check_combined_scales(1.0F, *weight.quantization, output);
      return;
    }
    check_bias(node.inputs[2], graph_.initializers.at(node.inputs[2]));
    // A bad quantization of the input was reported with its producer.
    const Quantization& input = *graph_.values.at(node.inputs[0]).quantization;
    if (output_is_valid && weight_is_valid && input.scales.size() == 1 && is_valid_scale(input.scales[0])) {
      check_combined_scales(input.scales[0], *weight.quantization, output);
    }
  }

  [[nodiscard]] std::vector<GraphError> take() { return std::move(problems_); }

 private:
  void report(const char* promise, std::string problem) {
    problems_.emplace_back(ErrorCategory::kCorruptData, promise, node_->name, std::move(problem),
                           describe(graph_, *node_));
  }

  bool check_activation(const std::string& value, const Quantization& quantization) {
    facts_ += 3;
    if (quantization.scales.size() != 1 || quantization.axis != -1) {
      report(kPromiseScale, str_cat("the codes of '", value, "' must have one scale for all channels (axis -1), not ",
                                    quantization.scales.size()));
      return false;
    }
    if (!is_valid_scale(quantization.scales[0])) {
      report(kPromiseScale, str_cat("the scale of '", value, "' is ", quantization.scales[0],
                                    " and must be finite and at least ", format::kMinScale));
      return false;
    }
    if (quantization.zero_point < format::kUint8Range.qmin || quantization.zero_point > format::kUint8Range.qmax) {
      report(kPromiseScale,
             str_cat("the zero point of '", value, "' is ", quantization.zero_point, ", outside 0 to 255"));
      return false;
    }
    return true;
  }

  bool check_weight_scales(const std::string& name, const Initializer& weight) {
    const Quantization& quantization = *weight.quantization;
    facts_ += 2 + static_cast<std::int64_t>(quantization.scales.size());
    if (quantization.axis != 0 || static_cast<std::int64_t>(quantization.scales.size()) != weight.shape[0]) {
      report(kPromiseScale,
             str_cat("'", name, "' has ", quantization.scales.size(), " scales along axis ", quantization.axis,
                     " and must have one for each of its ", weight.shape[0], " output channels (axis 0)"));
      return false;
    }
    if (quantization.zero_point != 0) {
      report(kPromiseScale, str_cat("the zero point of '", name, "' is ", quantization.zero_point,
                                    "; weights are symmetric, so that a masked weight is 0"));
      return false;
    }
    const auto bad = std::find_if_not(quantization.scales.begin(), quantization.scales.end(), is_valid_scale);
    if (bad != quantization.scales.end()) {
      report(kPromiseScale, str_cat("scale ", bad - quantization.scales.begin(), " of '", name, "' is ", *bad,
                                    " and must be finite and at least ", format::kMinScale));
      return false;
    }
    return true;
  }

  [[nodiscard]] static std::string explain_invalid(const Initializer& weight, std::span<const std::int8_t> codes,
                                                   std::span<const std::uint8_t> indices) {
    switch (weight.encoding) {
      case Encoding::kTwoFour:
        return format::explain_invalid_two_four(codes, indices, two_four_layout(weight.shape));
      case Encoding::kVnm:
        return format::explain_invalid_vnm(codes, indices, vnm_layout(weight.shape, weight.vnm));
      case Encoding::kBlock:
        return format::explain_invalid_block(codes, indices, block_layout(weight.shape, weight.block));
      case Encoding::kDense:
      case Encoding::kInt4:  // check_int4
      case Encoding::kInt4TwoFour:
        break;
    }
    return {};
  }

  void check_codes(const std::string& name, const Initializer& weight) {
    facts_ += 2;
    const auto codes = weight.data.as<std::int8_t>();
    const auto bad = std::find(codes.begin(), codes.end(), std::int8_t{-128});
    if (bad != codes.end()) {
      report(kPromiseRange,
             str_cat("stored code ", bad - codes.begin(), " of '", name, "' is -128, outside -127 to 127"));
    }
    const std::int64_t reduction_elems = element_count(weight.shape) / weight.shape[0];
    if (reduction_elems > kMaxReductionElems) {
      report(kPromiseRange, str_cat("'", name, "' adds ", reduction_elems, " products to one accumulator; beyond ",
                                    kMaxReductionElems, " it could leave int32"));
    }
    if (weight.encoding != Encoding::kDense) {
      ++facts_;
      const std::string reason = explain_invalid(weight, codes, weight.indices.as<std::uint8_t>());
      if (!reason.empty()) {
        report(kPromisePattern, str_cat("'", name, "' is no ", weight.pattern(), " encoding: ", reason));
      }
    }
  }

  void check_int4(const std::string& name, const Initializer& weight) {
    facts_ += 2;
    const std::string reason = format::explain_invalid_int4(
        weight.data.as<std::uint8_t>(), weight.indices.as<std::uint8_t>(), weight.scales.as<std::uint16_t>(),
        int4_layout(weight.shape, weight.encoding, weight.group));
    if (!reason.empty()) {
      report(kPromisePattern, str_cat("'", name, "' is no ", weight.pattern(), " int4 encoding: ", reason));
    }
  }

  void check_real_bias(const Node& node) {
    if (node.inputs.size() < 3) return;
    ++facts_;
    const auto values = graph_.initializers.at(node.inputs[2]).data.as<float>();
    const auto bad = std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    if (bad != values.end()) {
      report(kPromiseRange,
             str_cat("entry ", bad - values.begin(), " of '", node.inputs[2], "' is ", *bad, " and must be finite"));
    }
  }

  void check_bias(const std::string& name, const Initializer& bias) {
    ++facts_;
    const auto values = bias.data.as<std::int32_t>();
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](std::int32_t value) { return value > kMaxBias || value < -kMaxBias; });
    if (bad != values.end()) {
      report(kPromiseRange, str_cat("entry ", bad - values.begin(), " of '", name, "' is ", *bad, ", outside +-2^30"));
    }
  }

  // The factors that the runtime will multiply accumulators by: a product or quotient of two good scales can still
  // overflow or vanish.
  void check_combined_scales(float input_scale, const Quantization& weight, const Value& output) {
    constexpr float kMaxAccumulator = 2147483648.0F;
    for (std::size_t channel = 0; channel < weight.scales.size(); ++channel) {
      ++facts_;
      const float accumulator = format::accumulator_scale(input_scale, weight.scales[channel]);
      float factor = accumulator;
      if (output.quantization.has_value()) {
        factor = format::requantize_multiplier(accumulator, output.quantization->scales[0]);
      }
      if (!std::isnormal(factor) || !std::isfinite(factor * kMaxAccumulator) || !std::isfinite(accumulator)) {
        report(kPromiseScale, str_cat("the scales of channel ", channel, " multiply accumulators by ", factor,
                                      ", which float32 cannot carry"));
        return;
      }
    }
  }

  // The largest sum of two values must be a number: two infinities of opposite sign have none.
  void check_sum(const Node& node) {
    ++facts_;
    float largest = 0.0F;
    for (const std::string& input : node.inputs) {
      const std::vector<float>& scales = graph_.values.at(input).quantization->scales;
      largest += scales.size() == 1 ? 255.0F * scales[0] : 0.0F;  // else it was reported with its producer
    }
    if (std::isinf(largest)) {
      report(kPromiseScale, str_cat("the values '", node.inputs[0], "' and '", node.inputs[1],
                                    "' can add up to more than float32 holds"));
    }
  }

  // No score may be infinite, as the difference of two would be no number.
  void check_attention(const Node& node) {
    ++facts_;
    float product = 2147483648.0F;
    for (const std::string& input : {node.inputs[0], node.inputs[1]}) {
      const std::vector<float>& scales = graph_.values.at(input).quantization->scales;
      product *= scales.size() == 1 ? scales[0] : 1.0F;  // else it was reported with its producer
    }
    if (!std::isfinite(product)) {
      report(kPromiseScale,
             str_cat("products of '", node.inputs[0], "' and '", node.inputs[1], "' can be more than float32 holds"));
    }
  }

  void check_finite(const std::string& name) {
    ++facts_;
    const auto values = graph_.initializers.at(name).data.as<float>();
    const auto bad = std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    if (bad != values.end()) {
      report(kPromiseRange, str_cat("entry ", bad - values.begin(), " of '", name, "' is ", *bad));
    }
  }

  const Graph& graph_;
  std::int64_t& facts_;
  const Node* node_ = nullptr;
  std::vector<GraphError> problems_;
};

}  // namespace

std::vector<GraphError> find_number_problems(const Graph& graph, std::int64_t& facts) {
  if (!is_integer_graph(graph)) {
    return {};
  }
  NumberChecks checks(graph, facts);
  for (const Node& node : graph.nodes) {
    checks.check(node);
  }
  return checks.take();
}

}  // namespace pare::graph::internal
