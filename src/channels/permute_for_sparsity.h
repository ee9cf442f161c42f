// Channel permutation of a whole network before masks are chosen: the same function, but with weights that an N:M or
// V:N:M pattern keeps more of. It folds into the weights and costs nothing at run time.
//
// Call it on the float graph, dense weights trained, before a sparsifier writes masks; graph.h's operators, batch norms
// folded or not. For every channel set that may change, search_order (order_search.h) looks for an order that serves
// all weights with a pattern that read or write the set: each counts by its number of elements, as batch norm makes the
// scale of weights arbitrary. Sets are gone through in turns, as the rows of a V:N:M weight should be ordered for the
// columns that it has, and the other way round.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "pare/channels/channel_sets.h"
#include "pare/format/vnm_pattern.h"
#include "pare/graph/graph.h"

namespace pare::channels {

struct PermutationProgress {
  std::string set;             // that is searched now
  int sweep = 0;               // from 1
  std::int64_t sets_done = 0;  // in this sweep
  std::int64_t sets = 0;
  double kept_fraction = 0.0;  // of all weights with a pattern, by the last finished set
  double seconds = 0.0;
};

struct PermutationOptions {
  // 1: patterns keep the largest |w|, and what they keep is measured as the sum of |w|; 2: w^2. Give the sparsifier's.
  int norm = 1;
  std::uint64_t seed = 0;
  int max_sweeps = 3;         // they end earlier when one gains less than 1e-4 of what is kept
  int escapes = 8;            // from the local optimum of a set, from the second sweep on (OrderSearchOptions)
  double max_seconds = 60.0;  // the best order so far is taken then; results repeat only where this limit is not met
  // Called after every round of swaps, so keep it cheap; returning false ends the search like the time limit does.
  std::function<bool(const PermutationProgress&)> progress = nullptr;

  // Throws kInvalidArgument.
  void validate() const;
};

struct WeightPermutation {
  std::string weight;
  std::string pattern;       // "2:4", "64:2:4", or "dense" where it was left dense
  double total = 0.0;        // sum of |w|^norm
  double kept_before = 0.0;  // what the pattern keeps of it
  double kept_after = 0.0;
  // Why its input or output channels were not reordered for this weight's sake; "" if they were searched.
  std::string columns_fixed;
  std::string rows_fixed;
};

struct SetPermutation {
  ChannelSet set;                   // of the original graph
  std::vector<std::int64_t> order;  // permute_channels(graph, set, order) was applied; empty if nothing moved
  std::int64_t swaps = 0;           // that the search tried
};

struct SparsityPermutation {
  graph::Graph graph;
  std::vector<WeightPermutation> weights;  // those with a pattern, in the order of the nodes
  std::vector<SetPermutation> sets;        // all of find_channel_sets(graph), in its order
  double seconds = 0.0;
  bool complete = true;  // false: the time limit or `progress` ended it

  // kept / total, each weight counting by its number of elements; 1 if there are no weights.
  double fraction_before = 1.0;
  double fraction_after = 1.0;
};

// What a pattern keeps of a float weight [O, I, kh, kw] or [n, k], as sum of |w|^norm: in each block of pattern.v rows
// and each group of pattern.m input channels (tap by tap) or input features, the pattern.n columns whose sums are
// largest. N:M is v = 1. Precondition: 1 <= n <= m <= 16, v >= 1.
[[nodiscard]] double kept_magnitude(const graph::Initializer& weight, const format::VnmPattern& pattern, int norm);

// `patterns`: by name of the weight ("conv2.weight"); N:M is v = 1. Weights that are not named stay dense and do not
// count. A depthwise weight has no groups of input channels: it is left dense, and reported so.
// Throws kNotFound for a name that is no weight (with the nearest), kInvalidArgument for a pattern outside
// 1 <= n < m <= 16, 1 <= v <= 65536, kNumeric for a weight whose square is not finite, and as find_channel_sets does.
[[nodiscard]] SparsityPermutation permute_for_sparsity(const graph::Graph& graph,
                                                       const std::map<std::string, format::VnmPattern>& patterns,
                                                       const PermutationOptions& options = {});

}  // namespace pare::channels
