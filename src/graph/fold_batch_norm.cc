#include <algorithm>
#include <cmath>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/graph.h"

namespace pare::graph {
namespace {

// The Conv whose output only this BatchNormalization reads.
std::size_t find_conv(const Graph& graph, const Node& norm) {
  const std::string where = str_cat("graph '", graph.name, "', node '", norm.name, "' (BatchNormalization)");
  const std::string& value = norm.inputs[0];
  const auto conv =
      std::find_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.output == value; });
  if (conv == graph.nodes.end() || conv->op_type != "Conv") {
    throw Error(ErrorCategory::kUnsupported, "it follows no Conv, so it cannot be folded into one", where);
  }
  if (graph.consumers_of(value).size() != 1) {
    throw Error(ErrorCategory::kUnsupported,
                str_cat("others read the output of '", conv->name, "' as well, so it cannot be folded"), where);
  }
  return static_cast<std::size_t>(conv - graph.nodes.begin());
}

// gamma / sqrt(var + eps), by channel.
std::vector<double> channel_factors(const Graph& graph, const Node& norm) {
  const auto gamma = graph.initializer(norm.inputs[1]).data.as<float>();
  const auto variance = graph.initializer(norm.inputs[4]).data.as<float>();
  const double epsilon = norm.float_attribute("epsilon", 1e-5F);
  std::vector<double> factors(gamma.size());
  for (std::size_t channel = 0; channel < factors.size(); ++channel) {
    factors[channel] = gamma[channel] / std::sqrt(variance[channel] + epsilon);
    if (!std::isfinite(factors[channel])) {
      throw Error(
          ErrorCategory::kNumeric,
          str_cat("channel ", channel, " has gamma ", gamma[channel], " and running variance ", variance[channel]),
          str_cat("graph '", graph.name, "', node '", norm.name, "' (BatchNormalization)"));
    }
  }
  return factors;
}

Initializer fold_weight(const Initializer& weight, const std::vector<double>& factors) {
  const auto values = weight.data.as<float>();
  const std::size_t row_elems = values.size() / factors.size();
  std::vector<float> folded(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    // A masked weight stays +0, whatever the factor's sign.
    folded[i] = values[i] == 0.0F ? 0.0F : static_cast<float>(values[i] * factors[i / row_elems]);
  }
  return Initializer::f32(weight.shape, folded);
}

Initializer fold_bias(const Graph& graph, const Node& conv, const Node& norm, const std::vector<double>& factors) {
  const auto beta = graph.initializer(norm.inputs[2]).data.as<float>();
  const auto mean = graph.initializer(norm.inputs[3]).data.as<float>();
  std::span<const float> bias;
  if (conv.inputs.size() > 2) {
    bias = graph.initializer(conv.inputs[2]).data.as<float>();
  }
  std::vector<float> folded(factors.size());
  for (std::size_t channel = 0; channel < folded.size(); ++channel) {
    const double before = bias.empty() ? 0.0 : bias[channel];
    folded[channel] = static_cast<float>((before - mean[channel]) * factors[channel] + beta[channel]);
  }
  return Initializer::f32({static_cast<std::int64_t>(folded.size())}, folded);
}

void fold(Graph& graph, std::size_t conv_index, const Node& norm) {
  Node& conv = graph.nodes[conv_index];
  const std::vector<double> factors = channel_factors(graph, norm);
  const std::string bias_name = conv.inputs.size() > 2 ? conv.inputs[2] : conv.name + ".bias";
  if (conv.inputs.size() == 2 && graph.initializers.contains(bias_name)) {
    throw Error(ErrorCategory::kUnsupported, str_cat("its new bias '", bias_name, "' exists already"),
                str_cat("graph '", graph.name, "', node '", conv.name, "' (Conv)"));
  }
  Initializer bias = fold_bias(graph, conv, norm, factors);
  graph.initializers[conv.inputs[1]] = fold_weight(graph.initializer(conv.inputs[1]), factors);
  graph.initializers[bias_name] = std::move(bias);
  conv.inputs.resize(2);
  conv.inputs.push_back(bias_name);
  for (std::size_t index = 1; index < norm.inputs.size(); ++index) {
    graph.initializers.erase(norm.inputs[index]);
  }
  graph.values.erase(conv.output);
  conv.output = norm.output;
}

}  // namespace

std::vector<std::string> fold_batch_norm(Graph& graph) {
  // On a copy, so that a graph that cannot be folded stays as it was.
  Graph folded = graph;
  infer_shapes(folded);
  std::vector<std::string> gone;
  for (std::size_t index = 0; index < folded.nodes.size();) {
    if (folded.nodes[index].op_type != "BatchNormalization") {
      ++index;
      continue;
    }
    const Node norm = folded.nodes[index];
    fold(folded, find_conv(folded, norm), norm);
    folded.nodes.erase(folded.nodes.begin() + static_cast<std::ptrdiff_t>(index));
    gone.push_back(norm.name);
  }
  infer_shapes(folded);
  graph = std::move(folded);
  return gone;
}

}  // namespace pare::graph
