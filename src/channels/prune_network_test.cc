#include "pare/channels/prune_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/channels/testing/float_reference.h"
#include "pare/channels/testing/odd_network.h"
#include "pare/graph/builtin.h"

namespace pare::channels {
namespace {

using graph::Graph;
using graph::Initializer;
using testing::FloatReference;
using testing::odd_network;
using testing::others;
using testing::random_image;
using testing::randomize_batch_norms;

std::map<std::string, std::vector<float>> random_gradients(const Graph& graph, std::uint64_t seed) {
  Rng rng(seed, 8);
  std::map<std::string, std::vector<float>> gradients;
  for (const std::string& name : graph.weight_names()) {
    std::vector<float>& gradient = gradients[name];
    gradient.resize(graph.initializer(name).data.as<float>().size());
    for (float& g : gradient) g = rng.normal();
  }
  return gradients;
}

TEST(PruneNetwork, ShrinksAndComputesWhatTheSilencedNetworkComputes) {
  for (const std::uint64_t seed : {1U, 2U}) {
    for (Graph graph : {odd_network(seed), graph::builtin("convnet", seed, 1, 6, 5, 3),
                        graph::builtin("small_cnn", seed, 1, 5, 4, 3)}) {
      randomize_batch_norms(graph, seed);
      for (const ChannelCriterion criterion : {ChannelCriterion::kFpgm, ChannelCriterion::kSaliency,
                                               ChannelCriterion::kBatchNormScale, ChannelCriterion::kTaylor}) {
        SCOPED_TRACE(str_cat(graph.name, " seed ", seed, " criterion ", static_cast<int>(criterion)));
        ChannelPruningConfig config;
        config.criterion = criterion;
        config.sparsity_level = 0.3;
        config.width_multiple = 1;
        config.gradients = random_gradients(graph, seed);
        const PrunedNetwork pruned = prune_network(graph, config);
        FloatReference silenced(graph);
        for (const PrunedSet& item : pruned.sets) {
          silenced.silence(item.set, others(item.kept, item.set.channels));
          EXPECT_EQ(item.reason.empty(), static_cast<std::int64_t>(item.kept.size()) < item.set.channels);
        }
        EXPECT_EQ(FloatReference(pruned.graph).run(random_image(graph, seed)), silenced.run(random_image(graph, seed)));
        EXPECT_LT(graph::dense_fp32_bytes(pruned.graph), graph::dense_fp32_bytes(graph));
      }
    }
  }
}

// Two batches whose gradients cancel out: their scores add up all the same.
TEST(PruneNetwork, TaylorScoresOfBatchesAddUp) {
  const Graph graph = graph::builtin("mlp", 1, 1, 6, 5, 3);
  const ChannelSet set = find_channel_sets(graph)[1];
  ChannelPruningConfig once;
  once.criterion = ChannelCriterion::kTaylor;
  once.gradients = random_gradients(graph, 1);
  ChannelPruningConfig twice = once;
  for (auto& [name, gradient] : twice.gradients) {
    const std::vector<float> batch = gradient;
    for (const float g : batch) gradient.push_back(-g);
  }
  const std::vector<double> scores = channel_scores(graph, set, once);
  const std::vector<double> doubled = channel_scores(graph, set, twice);
  ASSERT_EQ(scores.size(), doubled.size());
  for (std::size_t i = 0; i < scores.size(); ++i) EXPECT_EQ(doubled[i], 2.0 * scores[i]);
  twice.gradients.begin()->second.pop_back();
  EXPECT_PARE_ERROR(prune_network(graph, twice), kInvalidArgument, "elements for each batch");
}

// Conv + BN + ReLU + pool and residual nets are where torch.ao.pruning raises, or reports success and shrinks nothing.
TEST(PruneNetwork, ChannelPruningOfConvBnReluPoolReallyShrinks) {
  ChannelPruningConfig config;
  config.criterion = ChannelCriterion::kFpgm;
  config.norm = RowNorm::kL2;
  config.sparsity_level = 0.3;
  config.width_multiple = 16;
  const PrunedNetwork net = prune_network(graph::builtin("convnet", 1, 1, 28, 28, 10), config);
  // 32 - 10 = 22 -> 32; 64 - 19 = 45 -> 48; 256 - 77 = 179 -> 192.
  EXPECT_EQ(net.graph.initializer("conv2.weight").shape, (Shape{48, 32, 3, 3}));
  EXPECT_EQ(net.graph.initializer("bn2.running_var").shape, Shape{48});
  EXPECT_EQ(net.graph.initializer("fc1.weight").shape, (Shape{192, 48 * 49}));
  EXPECT_EQ(net.graph.initializer("fc2.weight").shape, (Shape{10, 192}));
  EXPECT_EQ(net.sets[1].reason, "its width rounds up to all 32 channels");
  EXPECT_EQ(net.sets.front().reason, "it holds the graph's input");

  config.criterion = ChannelCriterion::kSaliency;
  const Graph resnet = graph::builtin("resnet18", 1, 3, 8, 8, 10);
  const PrunedNetwork pruned = prune_network(resnet, config);
  const std::map<std::int64_t, std::size_t> widths{{64, 48}, {128, 96}, {256, 192}, {512, 368}};
  for (const PrunedSet& item : pruned.sets) {
    if (!item.set.is_free()) continue;
    EXPECT_EQ(item.kept.size(), widths.at(item.set.channels)) << item.set.name();
  }
  EXPECT_LT(graph::dense_fp32_bytes(pruned.graph), graph::dense_fp32_bytes(resnet) * 6 / 10);
}

TEST(PruneNetwork, TheLeastImportantChannelsGo) {
  Graph graph = graph::builtin("mlp", 1, 1, 2, 2, 3);
  std::vector<float> values(512 * 4, 1.0F);
  for (const std::size_t row : {3U, 100U, 511U}) values[row * 4] = 0.0F;
  graph.initializers.at("fc1.weight") = Initializer::f32({512, 4}, values);
  ChannelPruningConfig config;
  config.sparsity_level = 0.0;
  config.levels["fc1.weight"] = 3.5 / 512;
  config.width_multiple = 1;
  const PrunedNetwork pruned = prune_network(graph, config);
  EXPECT_EQ(others(pruned.sets[1].kept, 512), (std::vector<std::int64_t>{3, 100, 511}));
  EXPECT_EQ(pruned.graph.initializer("fc2.weight").shape, (Shape{512, 509}));
  EXPECT_EQ(pruned.sets[2].reason, "level 0 prunes none of its 512 channels");
}

TEST(PruneNetwork, EveryWriterOfAResidualSumCountsAlike) {
  const Graph graph = odd_network(1);
  const ChannelSet set = find_channel_sets(graph)[2];
  ChannelPruningConfig config;
  const std::vector<double> scores = channel_scores(graph, set, config);
  std::vector<double> expected(6, 0.0);
  for (const std::string name : {"point.weight", "branch.weight", "mix.weight"}) {
    // mix has 9 rows a channel.
    const std::vector<double> own = saliency_scores(graph.initializer(name).data.as<float>(), 6, RowNorm::kL1);
    double mean = 0.0;
    for (const double score : own) mean += score / 6;
    for (std::size_t channel = 0; channel < 6; ++channel) expected[channel] += own[channel] / mean;
  }
  for (std::size_t channel = 0; channel < 6; ++channel) EXPECT_DOUBLE_EQ(scores[channel], expected[channel]);
}

TEST(PruneNetwork, OneChannelAlwaysStays) {
  ChannelPruningConfig config;
  config.sparsity_level = 1.0;
  config.width_multiple = 1;
  const PrunedNetwork pruned = prune_network(odd_network(3), config);
  for (const PrunedSet& item : pruned.sets) {
    EXPECT_EQ(static_cast<std::int64_t>(item.kept.size()), item.set.is_free() ? 1 : item.set.channels);
  }
}

TEST(PruneNetwork, ImpossibleCallsSayWhatToDo) {
  Graph graph = graph::builtin("mlp", 1, 1, 2, 2, 3);
  const auto with = [](auto&& change) {
    ChannelPruningConfig config;
    change(config);
    return config;
  };
  const auto expect = [&](auto&& change, ErrorCategory category, const std::string& text) {
    const auto error = pare::testing::error_of([&] { return prune_network(graph, with(change)); });
    EXPECT_TRUE(pare::testing::is_error(error, category, text));
  };
  using Config = ChannelPruningConfig;
  expect([](Config& c) { c.sparsity_level = 1.7; }, ErrorCategory::kInvalidArgument, "sparsity_level 1.7");
  expect([](Config& c) { c.levels["fc1.weight"] = -0.1; }, ErrorCategory::kInvalidArgument, "'fc1.weight'");
  expect([](Config& c) { c.width_multiple = 0; }, ErrorCategory::kInvalidArgument, "width_multiple 0");
  expect([](Config& c) { c.levels["fc1.wieght"] = 0.1; }, ErrorCategory::kNotFound, "'fc1.weight'");
  expect([](Config& c) { c.gradients["fc4.weight"] = {}; }, ErrorCategory::kNotFound, "'fc4.weight'");
  expect([](Config& c) { c.levels["fc3.weight"] = 0.1; }, ErrorCategory::kInvalidArgument, "the graph's output");
  expect([](Config& c) { c.criterion = ChannelCriterion::kTaylor; }, ErrorCategory::kInvalidArgument,
         "gradient of 'fc1.weight' is missing");
  const ChannelSet set = find_channel_sets(graph)[1];
  EXPECT_PARE_ERROR(
      channel_scores(graph, set, with([](Config& c) { c.criterion = ChannelCriterion::kBatchNormScale; })),
      kInvalidArgument, "batch norm");
  EXPECT_EQ(
      prune_network(graph, with([](Config& c) { c.criterion = ChannelCriterion::kBatchNormScale; })).sets[1].reason,
      "it has no batch norm whose scale could be looked at");
  std::vector<float> values(512 * 4, 1.0F);
  values[9] = std::numeric_limits<float>::infinity();
  graph.initializers.at("fc1.weight") = Initializer::f32({512, 4}, values);
  expect([](Config&) {}, ErrorCategory::kNumeric, "'fc1.weight'");

  const Graph odd = odd_network(1);
  EXPECT_PARE_ERROR(prune_network(odd, with([](Config& c) {
                                    c.levels["point.weight"] = 0.5;
                                    c.levels["branch.weight"] = 0.25;
                                  })),
                    kInvalidArgument, "shares its channels");
}

}  // namespace
}  // namespace pare::channels
