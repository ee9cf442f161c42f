#include "pare/channels/channel_sets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/channels/testing/float_reference.h"
#include "pare/channels/testing/odd_network.h"
#include "pare/graph/builtin.h"
#include "pare/graph/testing/random_artifact.h"

namespace pare::channels {
namespace {

using graph::Graph;
using graph::Initializer;
using testing::FloatReference;
using testing::odd_network;
using testing::others;
using testing::random_image;
using testing::randomize_batch_norms;

std::string text(const ChannelSet& set) {
  std::string out = str_cat(set.channels, set.is_free() ? "" : " fixed", ":");
  for (const ChannelAxis& axis : set.axes) {
    out += str_cat(" ", axis.initializer, "/", axis.axis);
    if (axis.multiplicity != 1) out += str_cat("x", axis.multiplicity);
  }
  return out;
}

std::vector<std::string> texts(const Graph& graph) {
  std::vector<std::string> all;
  for (const ChannelSet& set : find_channel_sets(graph)) all.push_back(text(set));
  return all;
}

std::vector<std::int64_t> random_order(std::int64_t channels, Rng& rng) {
  std::vector<std::uint32_t> items(static_cast<std::size_t>(channels));
  std::iota(items.begin(), items.end(), 0);
  rng.shuffle(items);
  return {items.begin(), items.end()};
}

std::vector<std::int64_t> random_subset(std::int64_t channels, Rng& rng) {
  std::vector<std::int64_t> order = random_order(channels, rng);
  order.resize(1 + rng.below(static_cast<std::uint64_t>(channels)));
  std::ranges::sort(order);
  return order;
}

// Small enough to run through the reference, and with weights that differ from channel to channel.
std::vector<Graph> networks(std::uint64_t seed) {
  std::vector<Graph> all{odd_network(seed), graph::builtin("convnet", seed, 2, 6, 5, 3),
                         graph::builtin("mlp", seed, 1, 3, 3, 4), graph::builtin("small_cnn", seed, 1, 5, 4, 3)};
  for (Graph& graph : all) randomize_batch_norms(graph, seed);
  return all;
}

TEST(ChannelSets, FollowConvNormPoolFlattenAndGemm) {
  EXPECT_EQ(
      texts(graph::builtin("convnet", 1, 1, 28, 28, 10)),
      (std::vector<std::string>{
          "1 fixed: conv1.weight/1",
          "32: conv1.weight/0 conv1.bias/0 bn1.weight/0 bn1.bias/0 bn1.running_mean/0 bn1.running_var/0 conv2.weight/1",
          "64: conv2.weight/0 conv2.bias/0 bn2.weight/0 bn2.bias/0 bn2.running_mean/0 bn2.running_var/0 "
          "fc1.weight/1x49",
          "256: fc1.weight/0 fc1.bias/0 fc2.weight/1", "10 fixed: fc2.weight/0 fc2.bias/0"}));
  // The channels of the image are fixed, however many pixels Flatten makes of them.
  EXPECT_EQ(texts(graph::builtin("mlp", 1, 3, 4, 4, 10)).front(), "3 fixed: fc1.weight/1x16");
}

TEST(ChannelSets, ResidualSumsAndDepthwiseTieSetsTogether) {
  EXPECT_EQ(texts(odd_network(1)),
            (std::vector<std::string>{
                "3 fixed: stem.weight/1",
                "8: stem.weight/0 stem_bn.weight/0 stem_bn.bias/0 stem_bn.running_mean/0 stem_bn.running_var/0 "
                "depthwise.weight/0 depthwise.bias/0 point.weight/1",
                "6: point.weight/0 point.bias/0 branch.weight/1 branch.weight/0 branch.bias/0 mix.weight/1x9 "
                "mix.weight/0x9 mix.bias/0x9 hidden.weight/1x9",
                "12: hidden.weight/0 hidden_bn.weight/0 hidden_bn.bias/0 hidden_bn.running_mean/0 "
                "hidden_bn.running_var/0 fc.weight/1",
                "5 fixed: fc.weight/0 fc.bias/0"}));
  // A stage of a ResNet has one set for all its blocks' outputs, and one inside each block.
  const std::vector<ChannelSet> sets = find_channel_sets(graph::builtin("resnet18", 1, 3, 32, 32, 10));
  EXPECT_EQ(sets.size(), 2U + 4U + 8U);
  const auto stage = std::ranges::find_if(sets, [](const ChannelSet& set) { return set.name() == "relu1.out"; });
  EXPECT_EQ(stage, sets.end());
  EXPECT_EQ(sets[1].name(), "conv1.out");
  EXPECT_EQ(sets[1].channels, 64);
  std::set<std::string> writers;
  for (const ChannelAxis& axis : sets[1].axes) {
    if (axis.role == ChannelRole::kWrites) writers.insert(axis.node);
  }
  EXPECT_EQ(writers, (std::set<std::string>{"conv1", "layer1.0.conv2", "layer1.1.conv2"}));
}

TEST(ChannelSets, HoldEveryAxisAndEveryValueOnce) {
  std::vector<Graph> graphs = networks(3);
  graphs.push_back(graph::builtin("resnet18", 1, 1, 4, 4, 10));
  for (const Graph& graph : graphs) {
    std::multiset<std::pair<std::string, std::size_t>> axes;
    std::multiset<std::string> values;
    for (const ChannelSet& set : find_channel_sets(graph)) {
      values.insert(set.values.begin(), set.values.end());
      for (const ChannelAxis& axis : set.axes) {
        axes.emplace(axis.initializer, axis.axis);
        EXPECT_EQ(graph.initializer(axis.initializer).shape[axis.axis], set.channels * axis.multiplicity);
      }
    }
    EXPECT_EQ(values.size(), graph.values.size());
    std::multiset<std::pair<std::string, std::size_t>> expected;
    for (const graph::Node& node : graph.nodes) {
      EXPECT_EQ(values.count(node.output), 1U) << node.output;
      for (std::size_t input = 1; input < node.inputs.size() && node.op_type != "Add"; ++input) {
        expected.emplace(node.inputs[input], 0);
        if (input == 1 && node.has_weight() && !node.is_depthwise()) expected.emplace(node.inputs[1], 1);
      }
    }
    EXPECT_EQ(axes, expected);
  }
}

TEST(PermuteChannels, LeavesTheFunctionBitForBit) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    for (const Graph& graph : networks(seed)) {
      SCOPED_TRACE(str_cat(graph.name, " seed ", seed));
      const std::vector<double> image = random_image(graph, seed);
      const std::vector<double> expected = FloatReference(graph).run(image);
      Rng rng(seed, 5);
      Graph permuted = graph;
      for (const ChannelSet& set : find_channel_sets(graph)) {
        if (!set.is_free()) continue;
        const Graph before = permuted;
        permuted = permute_channels(permuted, set, random_order(set.channels, rng));
        EXPECT_FALSE(std::ranges::equal(permuted.initializer(set.axes[0].initializer).data.bytes(),
                                        before.initializer(set.axes[0].initializer).data.bytes()));
        EXPECT_EQ(FloatReference(permuted).run(image), expected) << set.name();
      }
      Graph checked = permuted;
      EXPECT_NO_THROW(graph::infer_shapes(checked));
      EXPECT_EQ(texts(permuted), texts(graph));
    }
  }
}

TEST(PermuteChannels, LeavesAResNetsFunctionBitForBit) {
  Graph graph = graph::builtin("resnet18", 4, 3, 4, 4, 10);
  randomize_batch_norms(graph, 4);
  const std::vector<double> image = random_image(graph, 4);
  const std::vector<double> expected = FloatReference(graph).run(image);
  Rng rng(4, 5);
  for (const ChannelSet& set : find_channel_sets(graph)) {
    if (set.is_free()) graph = permute_channels(graph, set, random_order(set.channels, rng));
  }
  EXPECT_EQ(FloatReference(graph).run(image), expected);
}

TEST(PermuteChannels, CommutesWithFoldingBatchNorms) {
  Graph graph = graph::builtin("convnet", 6, 1, 8, 8, 3);
  randomize_batch_norms(graph, 6);
  Graph folded = graph;
  (void)graph::fold_batch_norm(folded);
  Rng rng(6, 5);
  const std::vector<ChannelSet> sets = find_channel_sets(graph);
  const std::vector<ChannelSet> folded_sets = find_channel_sets(folded);
  for (std::size_t i = 1; i + 1 < sets.size(); ++i) {
    const std::vector<std::int64_t> order = random_order(sets[i].channels, rng);
    graph = permute_channels(graph, sets[i], order);
    folded = permute_channels(folded, folded_sets[i], order);
  }
  (void)graph::fold_batch_norm(graph);
  for (const auto& [name, item] : folded.initializers) {
    EXPECT_TRUE(std::ranges::equal(item.data.bytes(), graph.initializer(name).data.bytes())) << name;
  }
}

TEST(PermuteChannels, PutsChannelOrderIAtPlaceI) {
  const Graph graph = odd_network(1);
  const ChannelSet set = find_channel_sets(graph)[3];
  const Graph permuted = permute_channels(graph, set, std::vector<std::int64_t>{3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 11, 10});
  const auto before = graph.initializer("hidden_bn.weight").data.as<float>();
  const auto after = permuted.initializer("hidden_bn.weight").data.as<float>();
  EXPECT_EQ(after[0], before[3]);
  EXPECT_EQ(after[3], before[0]);
  EXPECT_EQ(after[10], before[11]);
  EXPECT_EQ(after[1], before[1]);
}

TEST(PruneChannels, ComputesWhatTheNetworkWithThoseChannelsSilencedComputes) {
  for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
    for (const Graph& graph : networks(seed)) {
      SCOPED_TRACE(str_cat(graph.name, " seed ", seed));
      const std::vector<double> image = random_image(graph, seed);
      Rng rng(seed, 6);
      FloatReference silenced(graph);
      Graph pruned = graph;
      for (const ChannelSet& set : find_channel_sets(graph)) {
        if (!set.is_free()) continue;
        const std::vector<std::int64_t> kept = random_subset(set.channels, rng);
        silenced.silence(set, others(kept, set.channels));
        pruned = prune_channels(pruned, set, kept);
        EXPECT_EQ(FloatReference(pruned).run(image), silenced.run(image)) << set.name();
        EXPECT_EQ(pruned.values.at(set.name()).shape[1], static_cast<std::int64_t>(kept.size()));
      }
      EXPECT_LT(graph::dense_fp32_bytes(pruned), graph::dense_fp32_bytes(graph));
    }
  }
}

TEST(PruneChannels, ADepthwiseConvolutionMayEndWithOneChannel) {
  const Graph graph = odd_network(2);
  const ChannelSet set = find_channel_sets(graph)[1];
  const std::vector<std::int64_t> kept{5};
  const Graph pruned = prune_channels(graph, set, kept);
  EXPECT_EQ(pruned.node("depthwise").int_attribute("group", 0), 1);
  FloatReference silenced(graph);
  silenced.silence(set, others(kept, 8));
  EXPECT_EQ(FloatReference(pruned).run(random_image(graph, 2)), silenced.run(random_image(graph, 2)));
  EXPECT_NO_THROW((void)find_channel_sets(pruned));
}

TEST(ChannelSets, ImpossibleCallsSayWhatToDo) {
  const Graph graph = graph::builtin("convnet", 1, 1, 8, 8, 3);
  const std::vector<ChannelSet> sets = find_channel_sets(graph);
  const std::vector<std::int64_t> ten_classes{2, 0, 1};
  EXPECT_PARE_ERROR(permute_channels(graph, sets.back(), ten_classes), kInvalidArgument, "the graph's output");
  EXPECT_PARE_ERROR(prune_channels(graph, sets.front(), std::vector<std::int64_t>{0}), kInvalidArgument,
                    "the graph's input");
  const std::vector<std::int64_t> twice(32, 1);
  EXPECT_PARE_ERROR(permute_channels(graph, sets[1], twice), kInvalidArgument, "no permutation of 32 channels");
  EXPECT_PARE_ERROR(permute_channels(graph, sets[1], std::vector<std::int64_t>{}), kInvalidArgument, "no permutation");
  for (const std::vector<std::int64_t>& kept :
       {std::vector<std::int64_t>{}, std::vector<std::int64_t>{1, 1}, std::vector<std::int64_t>{2, 1},
        std::vector<std::int64_t>{-1, 1}, std::vector<std::int64_t>{1, 32}}) {
    EXPECT_PARE_ERROR(prune_channels(graph, sets[1], kept), kInvalidArgument, "ascending");
  }
  const Graph pruned = prune_channels(graph, sets[1], std::vector<std::int64_t>{0, 4});
  EXPECT_PARE_ERROR(prune_channels(pruned, sets[1], std::vector<std::int64_t>{0}), kInvalidArgument, "find it anew");
  const Graph integers = graph::testing::small_artifact(1, false).graph;
  EXPECT_PARE_ERROR(find_channel_sets(integers), kUnsupported, "before it is converted");
  EXPECT_PARE_ERROR(prune_channels(integers, sets[1], std::vector<std::int64_t>{0}), kUnsupported,
                    "before it is converted");
}

}  // namespace
}  // namespace pare::channels
