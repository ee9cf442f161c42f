// Channel pruning that really shrinks a network: in every channel set that may change, the channels with the least
// scores go, with all that belongs to them.
//
// It works on the float graph between two stages of training: the pruned network is trained further. Sets behind
// residual sums are pruned as one, where torch.ao.pruning fails or shrinks nothing, and biases follow. prune_channels
// says what the result computes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pare/channels/channel_scores.h"
#include "pare/channels/channel_sets.h"
#include "pare/graph/graph.h"

namespace pare::channels {

// Where the formulas are: channel_scores.h.
enum class ChannelCriterion {
  kFpgm,            // of the rows of the weights that write the set
  kSaliency,        // likewise
  kBatchNormScale,  // of the batch norms that the set runs through
  kTaylor,          // of the rows of the weights, with gradients
};

struct ChannelPruningConfig {
  ChannelCriterion criterion = ChannelCriterion::kSaliency;
  RowNorm norm = RowNorm::kL1;  // kFpgm and kSaliency
  double sparsity_level = 0.5;  // fraction of a set's channels that go; counts round as torch's do (CountRounding: FPGM
                                // half to even, the others truncate), and one channel always stays
  std::map<std::string, double> levels;  // by name of a weight, for the set that it writes; 0 leaves the set alone
  std::int64_t width_multiple = 8;       // widths are rounded up to it: 8, 16, 64; 1 rounds nothing
  // kTaylor: by name of the weight, its shape, row-major, for one batch of images after another: as in the paper, the
  // scores of batches add up. (Gradients of a network that has been trained cancel out over all images.)
  std::map<std::string, std::vector<float>> gradients;

  // Throws kInvalidArgument.
  void validate() const;
};

struct PrunedSet {
  ChannelSet set;                  // of the original graph
  std::vector<std::int64_t> kept;  // ascending; prune_channels(graph, set, kept) was applied. All of them: untouched
  std::string reason;              // why it was left alone; "" if it was pruned
};

struct PrunedNetwork {
  graph::Graph graph;
  std::vector<PrunedSet> sets;  // all of find_channel_sets(graph), in its order
};

// The score of each channel of a set: the sum over all weights (or batch norms) that the criterion looks at, each
// divided by its mean over the channels, as layers differ in scale. Rows that belong to one channel (a multiplicity)
// are one. Throws kInvalidArgument where there is nothing to look at (kBatchNormScale without a batch norm), or a
// gradient is missing or has another size; kNumeric for scores that are not finite.
[[nodiscard]] std::vector<double> channel_scores(const graph::Graph& graph, const ChannelSet& set,
                                                 const ChannelPruningConfig& config);

// Every free set, scored on the original graph. Under kBatchNormScale sets without a batch norm are left alone.
// Throws as channel_scores and find_channel_sets do; kNotFound for a name in `levels` or `gradients` that is no weight,
// kInvalidArgument for a level of a weight whose outputs are fixed, or for two different levels of one set.
[[nodiscard]] PrunedNetwork prune_network(const graph::Graph& graph, const ChannelPruningConfig& config);

}  // namespace pare::channels
