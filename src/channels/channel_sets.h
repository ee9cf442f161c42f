// Which channels of a network belong together, and what it means to reorder them or to take some away.
//
// A channel of a layer is written by one row of a weight, follows through biases, batch norms, Relus, pools and
// depthwise convolutions, and is read by a column of every weight behind it. All of these have to be permuted or pruned
// as one: a *channel set*. Add ties the sets of its two inputs together, Flatten makes each channel of [C, h, w] the h
// * w consecutive inputs of a Gemm. (The idea is that of DepGraph: Fang et al., arXiv 2301.12900, here on the operators
// of graph/graph.h, of which each one's rule is known exactly.)
//
// Sets are found on float graphs, before batch norms are folded or after. Everything here is a pure function from
// graph to graph: weights are copied, nothing is altered in place. Errors: kUnsupported for an integer graph (permute
// or prune before conversion), kCorruptData for a graph that infer_shapes refuses, kInvalidArgument as stated below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pare/graph/graph.h"

namespace pare::channels {

enum class ChannelRole {
  kWrites,   // rows (axis 0) of a Conv's or Gemm's weight, and its bias
  kCarries,  // a depthwise weight and its bias, what a batch norm has for each channel
  kReads,    // columns (axis 1) of a Conv's or Gemm's weight
};

// One axis of one initializer. Channel c stands at the entries [c * multiplicity, (c + 1) * multiplicity) of it.
struct ChannelAxis {
  std::string initializer;
  std::string node;  // that reads the initializer
  ChannelRole role = ChannelRole::kWrites;
  std::size_t axis = 0;
  std::int64_t multiplicity = 1;
  friend bool operator==(const ChannelAxis&, const ChannelAxis&) = default;
};

struct ChannelSet {
  std::int64_t channels = 0;
  std::vector<std::string> values;  // whose axis 1 runs along the set, in the order of the nodes; never empty
  std::vector<ChannelAxis> axes;    // in the order of the nodes
  std::string fixed;  // why the set must stay as it is ("it holds the graph's output"); "" if it may change

  [[nodiscard]] bool is_free() const { return fixed.empty(); }
  // The first value's: names the set in reports.
  [[nodiscard]] const std::string& name() const { return values.front(); }
};

// All sets of a graph: every axis 0 of an initializer and every axis 1 of a dense weight is in exactly one, every value
// as well. Those that hold the graph's input or output are fixed.
[[nodiscard]] std::vector<ChannelSet> find_channel_sets(const graph::Graph& graph);

// The graph with channel order[i] of the set at place i. The same function: sums run in another order, and nothing else
// changes. Throws kInvalidArgument where the set is fixed or is none of this graph's, or `order` is no permutation.
[[nodiscard]] graph::Graph permute_channels(const graph::Graph& graph, const ChannelSet& set,
                                            std::span<const std::int64_t> order);

// The graph with the channels `kept` (ascending, at least one) of the set and no others: really smaller weights and
// values. It computes what the graph computes whose channels of the set are 0 wherever a weight reads them; a constant
// that a pruned channel had (a bias behind a Relu, say) is gone, too. Throws as permute_channels does.
[[nodiscard]] graph::Graph prune_channels(const graph::Graph& graph, const ChannelSet& set,
                                          std::span<const std::int64_t> kept);

// What every change of a set asks first. Throws kInvalidArgument where the set is fixed or is none of this graph's.
void require_own_free_set(const graph::Graph& graph, const ChannelSet& set);

// A tensor with the channels `channels`, in that order, of the axis: for whatever lies beside a parameter and has its
// shape (masks, moments of an optimizer). Works on any dense dtype. Preconditions: axis < rank, its extent is a
// multiple of `multiplicity`, every channel within.
[[nodiscard]] graph::Initializer select_channels(const graph::Initializer& tensor, std::size_t axis,
                                                 std::int64_t multiplicity, std::span<const std::int64_t> channels);

}  // namespace pare::channels
