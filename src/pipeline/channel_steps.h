// What recipes do to channels: reorder them before masks are chosen, take some away.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pare/channels/prune_network.h"
#include "pare/graph/graph.h"
#include "pare/sparsity/sparsifier.h"
#include "pare/train/calibration.h"
#include "pare/train/model.h"

namespace pare::pipeline {

// Reorders the model's channels so that the patterns of the sparsifier's groups keep more (channels::
// permute_for_sparsity); the function stays the same but for the order of its sums. `sparsifier`: prepared for this
// model, which has neither masks nor quantizers; it must be prepared anew afterwards. Returns a line that says what was
// gained.
[[nodiscard]] std::string permute_model(train::Model& model, const sparsity::Sparsifier& sparsifier,
                                        std::uint64_t seed);

// Takes channels away (channels::prune_network). Returns a line that says how many. Throws kState where masks or
// quantizers are, and what prune_network does.
[[nodiscard]] std::string prune_model(train::Model& model, const channels::ChannelPruningConfig& config);

// For channels::ChannelCriterion::kTaylor: the gradient of the loss by every Conv and Gemm weight, one batch of the set
// after another, as ChannelPruningConfig::gradients wants them. `labels`: int64, of the set's inputs in their order.
// In evaluation mode, so that batch norm's statistics stay; the model's mode is restored. Holds all weights once for
// each batch. Throws kNumeric where a gradient is not finite, kInvalidArgument for an empty set.
[[nodiscard]] std::map<std::string, std::vector<float>> batch_gradients(train::Model& model,
                                                                        const train::CalibrationSet& set,
                                                                        const torch::Tensor& labels);

// `graph`: float, with canonical names (train::Model). The same network with the extents of the tensors in `state`
// (Model::state) and zeros for weights: what a model must be built from before a state of fewer channels is loaded.
// Batch norms that the state has folded get their convolution's channels.
[[nodiscard]] graph::Graph with_extents_of(graph::Graph graph, const std::map<std::string, torch::Tensor>& state);

}  // namespace pare::pipeline
