#include "pare/channels/channel_sets.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::channels {
namespace {

using graph::Graph;
using graph::Initializer;
using graph::Node;

std::string label(const Graph& graph) { return str_cat("graph '", graph.name, "'"); }

void require_float(const Graph& graph) {
  if (graph::is_integer_graph(graph)) {
    throw Error(ErrorCategory::kUnsupported, "channels of an integer graph cannot be moved", label(graph),
                "permute or prune the float graph, before it is converted");
  }
}

// Follows the nodes in order, joining sets as it goes.
class SetFinder {
 public:
  explicit SetFinder(const Graph& graph) : graph_(graph) {}

  std::vector<ChannelSet> find() {
    add_set(graph_.input);
    fix(graph_.input, "it holds the graph's input");
    for (const Node& node : graph_.nodes) {
      follow(node);
    }
    fix(graph_.output, "it holds the graph's output");
    std::vector<ChannelSet> found;
    for (ChannelSet& set : sets_) {
      // Joined into another one otherwise.
      if (!set.values.empty()) {
        found.push_back(std::move(set));
      }
    }
    return found;
  }

 private:
  // How a value's axis 1 runs along its set.
  struct Run {
    std::size_t set;
    std::int64_t multiplicity;
  };

  void follow(const Node& node) {
    const std::string& x = node.inputs[0];
    if (node.has_weight() && !node.is_depthwise()) {
      add_axis(x, node, 1, ChannelRole::kReads, 1);
      add_set(node.output);
      for (std::size_t input = 1; input < node.inputs.size(); ++input) {
        add_axis(node.output, node, input, ChannelRole::kWrites, 0);
      }
      return;
    }
    Run run = runs_.at(x);
    if (node.op_type == "Flatten") {
      const Shape& shape = graph_.values.at(x).shape;
      run.multiplicity *= std::accumulate(shape.begin() + 2, shape.end(), std::int64_t{1}, std::multiplies<>());
    }
    runs_[node.output] = run;
    sets_[run.set].values.push_back(node.output);
    if (node.op_type == "Add") {
      join(x, node.inputs[1]);
    } else {
      // Of a depthwise convolution and a batch norm; the others have no initializers.
      for (std::size_t input = 1; input < node.inputs.size(); ++input) {
        add_axis(node.output, node, input, ChannelRole::kCarries, 0);
      }
    }
  }

  void add_set(const std::string& value) {
    runs_[value] = {sets_.size(), 1};
    ChannelSet& set = sets_.emplace_back();
    set.channels = graph_.values.at(value).shape[1];
    set.values.push_back(value);
  }

  void add_axis(const std::string& value, const Node& node, std::size_t input, ChannelRole role, std::size_t axis) {
    const Run& run = runs_.at(value);
    sets_[run.set].axes.push_back({node.inputs[input], node.name, role, axis, run.multiplicity});
  }

  void fix(const std::string& value, const char* why) {
    std::string& fixed = sets_[runs_.at(value).set].fixed;
    fixed = fixed.empty() ? why : str_cat(fixed, ", and ", why);
  }

  // Makes `factor` neighbouring channels of a set one.
  void coarsen(std::size_t index, std::int64_t factor) {
    ChannelSet& set = sets_[index];
    PARE_CHECK(set.channels % factor == 0);
    set.channels /= factor;
    for (ChannelAxis& axis : set.axes) {
      axis.multiplicity *= factor;
    }
    for (const std::string& value : set.values) {
      runs_.at(value).multiplicity *= factor;
    }
  }

  // Two values that are added, entry by entry. Where their multiplicities differ (a Flatten's output and a Gemm's), the
  // channels that both sides can move are runs of the least common multiple.
  void join(const std::string& a, const std::string& b) {
    const Run run_a = runs_.at(a);
    const Run run_b = runs_.at(b);
    if (run_a.set == run_b.set) {
      PARE_CHECK(run_a.multiplicity == run_b.multiplicity);
      return;
    }
    const std::int64_t common = std::lcm(run_a.multiplicity, run_b.multiplicity);
    coarsen(run_a.set, common / run_a.multiplicity);
    coarsen(run_b.set, common / run_b.multiplicity);
    const auto [into, from] = std::minmax(run_a.set, run_b.set);
    ChannelSet gone = std::exchange(sets_[from], {});
    ChannelSet& set = sets_[into];
    PARE_CHECK(set.channels == gone.channels);
    for (const std::string& value : gone.values) {
      runs_.at(value).set = into;
    }
    set.values.insert(set.values.end(), gone.values.begin(), gone.values.end());
    set.axes.insert(set.axes.end(), gone.axes.begin(), gone.axes.end());
    if (!gone.fixed.empty()) {
      set.fixed = set.fixed.empty() ? gone.fixed : str_cat(set.fixed, ", and ", gone.fixed);
    }
  }

  const Graph& graph_;
  std::vector<ChannelSet> sets_;
  std::map<std::string, Run> runs_;  // by value
};

// Joined sets collected their axes out of order.
void sort_by_node(const Graph& graph, std::vector<ChannelSet>& sets) {
  std::map<std::string, std::size_t> node_order;
  std::map<std::string, std::size_t> value_order{{graph.input, 0}};
  for (const Node& node : graph.nodes) {
    node_order.emplace(node.name, node_order.size());
    value_order.emplace(node.output, value_order.size());
  }
  for (ChannelSet& set : sets) {
    std::ranges::stable_sort(set.axes, {}, [&](const ChannelAxis& axis) { return node_order.at(axis.node); });
    std::ranges::stable_sort(set.values, {}, [&](const std::string& value) { return value_order.at(value); });
  }
}

Graph select(const Graph& graph, const ChannelSet& set, std::span<const std::int64_t> channels) {
  Graph result = graph;
  for (const ChannelAxis& axis : set.axes) {
    Initializer& item = result.initializers.at(axis.initializer);
    item = select_channels(item, axis.axis, axis.multiplicity, channels);
  }
  return result;
}

}  // namespace

void require_own_free_set(const Graph& graph, const ChannelSet& set) {
  require_float(graph);
  const std::string where = str_cat(label(graph), ", channel set '", set.values.empty() ? "" : set.name(), "'");
  if (!set.is_free()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("its channels must stay as they are: ", set.fixed), where,
                "take a set of find_channel_sets that is_free()");
  }
  for (const ChannelAxis& axis : set.axes) {
    const auto found = graph.initializers.find(axis.initializer);
    if (found == graph.initializers.end() || axis.axis >= found->second.shape.size() ||
        found->second.shape[axis.axis] != set.channels * axis.multiplicity) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("'", axis.initializer, "' does not have ", set.channels, " times ", axis.multiplicity,
                          " entries along axis ", axis.axis),
                  where, "the set is another graph's, or older than a change of this one: find it anew");
    }
  }
}

std::vector<ChannelSet> find_channel_sets(const Graph& graph) {
  require_float(graph);
  Graph checked = graph;
  graph::infer_shapes(checked);
  std::vector<ChannelSet> sets = SetFinder(checked).find();
  sort_by_node(checked, sets);
  return sets;
}

Graph permute_channels(const Graph& graph, const ChannelSet& set, std::span<const std::int64_t> order) {
  require_own_free_set(graph, set);
  std::vector<std::int64_t> sorted(order.begin(), order.end());
  std::ranges::sort(sorted);
  std::vector<std::int64_t> all(static_cast<std::size_t>(set.channels));
  std::iota(all.begin(), all.end(), 0);
  if (sorted != all) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("the order is no permutation of ", set.channels, " channels"),
                str_cat(label(graph), ", channel set '", set.name(), "'"),
                str_cat("name each of 0 to ", set.channels - 1, " once"));
  }
  return select(graph, set, order);
}

Graph prune_channels(const Graph& graph, const ChannelSet& set, std::span<const std::int64_t> kept) {
  require_own_free_set(graph, set);
  const bool ascending = std::ranges::adjacent_find(kept, std::greater_equal<>()) == kept.end();
  if (kept.empty() || !ascending || kept.front() < 0 || kept.back() >= set.channels) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the channels to keep are not at least one, ascending, of 0 to ", set.channels - 1),
                str_cat(label(graph), ", channel set '", set.name(), "'"), "a layer keeps one channel or more");
  }
  Graph result = select(graph, set, kept);
  for (Node& node : result.nodes) {
    result.values.at(node.output).shape.clear();
    if (node.is_depthwise()) {
      node.attributes["group"] = result.initializer(node.inputs[1]).shape[0];
    }
  }
  graph::infer_shapes(result);
  return result;
}

Initializer select_channels(const Initializer& tensor, std::size_t axis, std::int64_t multiplicity,
                            std::span<const std::int64_t> channels) {
  PARE_CHECK(tensor.encoding == graph::Encoding::kDense && axis < tensor.shape.size() && multiplicity > 0 &&
             tensor.shape[axis] % multiplicity == 0);
  const std::int64_t extent = tensor.shape[axis] / multiplicity;
  Initializer result = tensor;
  result.shape[axis] = static_cast<std::int64_t>(channels.size()) * multiplicity;
  const auto tail = tensor.shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1;
  const auto run_bytes =
      static_cast<std::size_t>(std::accumulate(tail, tensor.shape.end(), multiplicity, std::multiplies<>()) *
                               static_cast<std::int64_t>(size_bytes(tensor.dtype)));
  const std::span<const std::byte> from = tensor.data.bytes();
  std::vector<std::byte> selected;
  selected.reserve(from.size() / static_cast<std::size_t>(extent) * channels.size());
  const std::size_t outer_bytes = run_bytes * static_cast<std::size_t>(extent);
  for (std::size_t outer = 0; outer < from.size(); outer += outer_bytes) {
    for (const std::int64_t channel : channels) {
      PARE_CHECK(channel >= 0 && channel < extent);
      const auto run = from.subspan(outer + static_cast<std::size_t>(channel) * run_bytes, run_bytes);
      selected.insert(selected.end(), run.begin(), run.end());
    }
  }
  result.data = graph::Buffer::copy_of(selected);
  return result;
}

}  // namespace pare::channels
