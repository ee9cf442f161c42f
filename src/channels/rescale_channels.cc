#include "pare/channels/rescale_channels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::channels {
namespace {

using graph::Graph;
using graph::Initializer;
using graph::Node;

constexpr int kMaxExponent = 64;
// Beyond 2^20 a channel is all but dead, and nothing is won.
constexpr int kMaxChosenExponent = 20;
constexpr int kMaxSweeps = 20;

void require_folded(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.op_type == "BatchNormalization") {
      throw Error(ErrorCategory::kUnsupported, str_cat("batch norm '", node.name, "' would undo a change of scale"),
                  str_cat("graph '", graph.name, "'"), "fold batch norms first (graph::fold_batch_norm)");
    }
  }
}

// Calls visit(channel, element) for every element of the tensor: the index in memory, and the channel of the axis that
// it belongs to.
void for_each_element(const Initializer& tensor, const ChannelAxis& axis,
                      const std::function<void(std::size_t channel, std::size_t element)>& visit) {
  const auto tail = tensor.shape.begin() + static_cast<std::ptrdiff_t>(axis.axis) + 1;
  const auto run =
      static_cast<std::size_t>(std::accumulate(tail, tensor.shape.end(), axis.multiplicity, std::multiplies<>()));
  const auto channels = static_cast<std::size_t>(tensor.shape[axis.axis] / axis.multiplicity);
  const auto elements = static_cast<std::size_t>(element_count(tensor.shape));
  for (std::size_t element = 0; element < elements; ++element) {
    visit(element / run % channels, element);
  }
}

// A depthwise weight hands on the scale of its input.
bool is_carried_weight(const Graph& graph, const ChannelAxis& axis) {
  return axis.role == ChannelRole::kCarries && graph.node(axis.node).inputs.at(1) == axis.initializer;
}

// Largest magnitude of each channel along the axis, into `largest`.
void widen(const Graph& graph, const ChannelAxis& axis, std::vector<float>& largest) {
  const Initializer& tensor = graph.initializer(axis.initializer);
  const auto values = tensor.data.as<float>();
  for_each_element(tensor, axis, [&](std::size_t channel, std::size_t element) {
    largest[channel] = std::max(largest[channel], std::abs(values[element]));
  });
}

std::vector<float> largest_read(const Graph& graph, const ChannelSet& set) {
  std::vector<float> largest(static_cast<std::size_t>(set.channels), 0.0F);
  for (const ChannelAxis& axis : set.axes) {
    if (axis.role == ChannelRole::kReads) {
      widen(graph, axis, largest);
    }
  }
  return largest;
}

// Rows of weights; biases do not count, as in the paper.
std::vector<float> largest_written(const Graph& graph, const ChannelSet& set) {
  std::vector<float> largest(static_cast<std::size_t>(set.channels), 0.0F);
  for (const ChannelAxis& axis : set.axes) {
    if (axis.role == ChannelRole::kWrites && graph.node(axis.node).inputs.at(1) == axis.initializer) {
      widen(graph, axis, largest);
    }
  }
  return largest;
}

std::vector<float> largest_met(const ChannelSet& set, const ChannelExtents& extents) {
  std::vector<float> largest(static_cast<std::size_t>(set.channels), 0.0F);
  for (const std::string& value : set.values) {
    const auto found = extents.find(value);
    if (found == extents.end()) {
      continue;
    }
    const std::vector<float>& entries = found->second;
    const bool finite = std::ranges::all_of(entries, [](float entry) { return std::isfinite(entry); });
    if (!finite || entries.empty() || entries.size() % largest.size() != 0) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat(entries.size(), finite ? "" : " NaN or infinite", " extents for ", set.channels, " channels"),
                  str_cat("value '", value, "'"), "give the largest magnitude met in each entry of axis 1");
    }
    const std::size_t multiplicity = entries.size() / largest.size();
    for (std::size_t entry = 0; entry < entries.size(); ++entry) {
      largest[entry / multiplicity] = std::max(largest[entry / multiplicity], entries[entry]);
    }
  }
  return largest;
}

// log2 sqrt(r2 / r1), rounded; 0 where a channel is dead.
std::vector<int> balance(const std::vector<float>& written, const std::vector<float>& read) {
  std::vector<int> exponents;
  for (std::size_t c = 0; c < written.size(); ++c) {
    const bool alive = written[c] > 0.0F && read[c] > 0.0F;
    const double exact = alive ? 0.5 * (std::log2(read[c]) - std::log2(written[c])) : 0.0;
    exponents.push_back(std::clamp(static_cast<int>(std::rint(exact)), -kMaxChosenExponent, kMaxChosenExponent));
  }
  return exponents;
}

// One turn over all sets that may change. True if anything moved.
bool turn(RescaledGraph& rescaled, const std::function<std::vector<float>(const ChannelSet&)>& written) {
  bool moved = false;
  for (const ChannelSet& set : find_channel_sets(rescaled.graph)) {
    if (!set.is_free()) {
      continue;
    }
    std::vector<int> exponents = balance(written(set), largest_read(rescaled.graph, set));
    if (const auto before = rescaled.exponents.find(set.name()); before != rescaled.exponents.end()) {
      for (std::size_t c = 0; c < exponents.size(); ++c) {
        const int sum = before->second[c] + exponents[c];
        exponents[c] = std::clamp(sum, -kMaxChosenExponent, kMaxChosenExponent) - before->second[c];
      }
    }
    if (std::ranges::all_of(exponents, [](int exponent) { return exponent == 0; })) {
      continue;
    }
    rescaled.graph = rescale_channels(rescaled.graph, set, exponents);
    std::vector<int>& total = rescaled.exponents[set.name()];
    total.resize(exponents.size(), 0);
    std::ranges::transform(total, exponents, total.begin(), std::plus<>());
    moved = true;
  }
  return moved;
}

}  // namespace

Graph rescale_channels(const Graph& graph, const ChannelSet& set, std::span<const int> exponents) {
  require_own_free_set(graph, set);
  require_folded(graph);
  const bool fits = exponents.size() == static_cast<std::size_t>(set.channels) &&
                    std::ranges::all_of(exponents, [](int exponent) { return std::abs(exponent) <= kMaxExponent; });
  if (!fits) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat(exponents.size(), " exponents for ", set.channels, " channels, or one beyond ", kMaxExponent),
                str_cat("graph '", graph.name, "', channel set '", set.name(), "'"), "give one for each channel");
  }
  Graph result = graph;
  for (const ChannelAxis& axis : set.axes) {
    if (is_carried_weight(graph, axis)) {
      continue;
    }
    Initializer& tensor = result.initializers.at(axis.initializer);
    const auto from = tensor.data.as<float>();
    std::vector<float> values(from.begin(), from.end());
    const int sign = axis.role == ChannelRole::kReads ? -1 : 1;
    for_each_element(tensor, axis, [&](std::size_t channel, std::size_t element) {
      values[element] = std::ldexp(values[element], sign * exponents[channel]);
    });
    tensor.data = graph::Buffer::copy_of(values);
  }
  return result;
}

RescaledGraph equalize_across_layers(const Graph& graph) {
  require_folded(graph);
  RescaledGraph rescaled{graph, {}};
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    if (!turn(rescaled, [&](const ChannelSet& set) { return largest_written(rescaled.graph, set); })) {
      break;
    }
  }
  return rescaled;
}

RescaledGraph smooth_activations(const Graph& graph, const ChannelExtents& extents) {
  require_folded(graph);
  RescaledGraph rescaled{graph, {}};
  (void)turn(rescaled, [&](const ChannelSet& set) { return largest_met(set, extents); });
  return rescaled;
}

}  // namespace pare::channels
