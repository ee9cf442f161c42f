#include "pare/channels/permute_for_sparsity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/channels/testing/float_reference.h"
#include "pare/channels/testing/kept_reference.h"
#include "pare/channels/testing/odd_network.h"
#include "pare/graph/builtin.h"

namespace pare::channels {
namespace {

using format::VnmPattern;
using graph::Graph;
using graph::Initializer;
using testing::FloatReference;
using testing::odd_network;
using testing::random_image;
using testing::randomize_batch_norms;
using testing::reference_kept;
using Patterns = std::map<std::string, VnmPattern>;

constexpr VnmPattern kTwoFour{1, 2, 4};

// All weights, by turns with the patterns.
Patterns all_weights(const Graph& graph, const std::vector<VnmPattern>& patterns) {
  Patterns all;
  for (const std::string& name : graph.weight_names()) all[name] = patterns[all.size() % patterns.size()];
  return all;
}

void expect_equal_initializers(const Graph& a, const Graph& b) {
  ASSERT_EQ(a.initializers.size(), b.initializers.size());
  for (const auto& [name, item] : a.initializers) {
    EXPECT_TRUE(std::ranges::equal(item.data.bytes(), b.initializer(name).data.bytes())) << name;
  }
}

TEST(KeptMagnitude, IsWhatSortingGives) {
  Rng rng(1, 1);
  for (const Shape& shape : {Shape{1, 1}, Shape{7, 18}, Shape{20, 9, 3, 3}, Shape{70, 5, 1, 2}}) {
    std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
    for (float& value : values) value = rng.normal();
    const Initializer weight = Initializer::f32(shape, values);
    for (const VnmPattern& pattern : {kTwoFour, VnmPattern{1, 1, 4}, VnmPattern{16, 2, 4}, VnmPattern{64, 3, 16}}) {
      for (const int norm : {1, 2}) {
        const double expected = reference_kept(weight, pattern, norm);
        // A block's sum of up to 64 numbers is float32.
        EXPECT_NEAR(kept_magnitude(weight, pattern, norm), expected, 64 * 6e-8 * expected);
      }
    }
  }
}

TEST(PermuteForSparsity, KeepsTheFunctionBitForBitAndMoreOfTheWeights) {
  for (const std::uint64_t seed : {1U, 2U}) {
    for (Graph graph : {odd_network(seed), graph::builtin("convnet", seed, 1, 6, 5, 3),
                        graph::builtin("mlp", seed, 1, 3, 3, 4), graph::builtin("small_cnn", seed, 1, 5, 4, 3)}) {
      SCOPED_TRACE(str_cat(graph.name, " seed ", seed));
      randomize_batch_norms(graph, seed);
      const Patterns patterns = all_weights(graph, {kTwoFour, {4, 1, 4}, {16, 2, 4}, {1, 2, 8}});
      const PermutationOptions options{.norm = static_cast<int>(seed), .seed = seed, .max_sweeps = 2, .escapes = 1};
      const SparsityPermutation found = permute_for_sparsity(graph, patterns, options);
      EXPECT_TRUE(found.complete);
      EXPECT_EQ(FloatReference(found.graph).run(random_image(graph, seed)),
                FloatReference(graph).run(random_image(graph, seed)));
      EXPECT_GT(found.fraction_after, found.fraction_before);
      for (const WeightPermutation& weight : found.weights) {
        if (weight.pattern == "dense") continue;
        const VnmPattern& pattern = patterns.at(weight.weight);
        const double total_tolerance = 64 * 6e-8 * weight.total;
        EXPECT_NEAR(weight.kept_before, reference_kept(graph.initializer(weight.weight), pattern, options.norm),
                    total_tolerance);
        EXPECT_NEAR(weight.kept_after, reference_kept(found.graph.initializer(weight.weight), pattern, options.norm),
                    total_tolerance);
      }
      // The orders tell how to repeat it, on masks or moments, say.
      Graph repeated = graph;
      for (const SetPermutation& item : found.sets) {
        if (!item.order.empty()) repeated = permute_channels(repeated, item.set, item.order);
      }
      expect_equal_initializers(repeated, found.graph);
    }
  }
}

TEST(PermuteForSparsity, SharesOneOrderBetweenTheBlocksOfAResNet) {
  const Graph graph = graph::builtin("resnet18", 3, 1, 4, 4, 10);
  Patterns patterns;
  for (const std::string& name : graph.weight_names()) {
    if (name.starts_with("layer1.") || name.starts_with("layer2.0")) patterns[name] = {16, 2, 4};
  }
  const SparsityPermutation found = permute_for_sparsity(graph, patterns, {.escapes = 0});
  EXPECT_EQ(FloatReference(found.graph).run(random_image(graph, 3)), FloatReference(graph).run(random_image(graph, 3)));
  EXPECT_GT(found.fraction_after, found.fraction_before * 1.003);
}

TEST(PermuteForSparsity, SaysWhatIsFixedAndWhy) {
  const Graph graph = graph::builtin("convnet", 1, 1, 28, 28, 10);
  const SparsityPermutation found = permute_for_sparsity(graph,
                                                         {{"conv1.weight", {16, 2, 4}},
                                                          {"conv2.weight", {64, 2, 4}},
                                                          {"fc1.weight", {64, 2, 4}},
                                                          {"fc2.weight", kTwoFour}},
                                                         {.escapes = 0});
  ASSERT_EQ(found.weights.size(), 4U);
  const auto expect = [&](std::size_t i, const std::string& pattern, const std::string& columns,
                          const std::string& rows) {
    EXPECT_EQ(found.weights[i].pattern, pattern);
    EXPECT_NE(found.weights[i].columns_fixed.find(columns), std::string::npos) << found.weights[i].columns_fixed;
    EXPECT_NE(found.weights[i].rows_fixed.find(rows), std::string::npos) << found.weights[i].rows_fixed;
    EXPECT_EQ(found.weights[i].columns_fixed.empty(), columns.empty());
    EXPECT_EQ(found.weights[i].rows_fixed.empty(), rows.empty());
  };
  expect(0, "16:2:4", "the graph's input", "");
  expect(1, "64:2:4", "", "one block of 64 holds all 64 outputs");
  expect(2, "64:2:4", "each channel is 49 consecutive inputs", "");
  expect(3, "2:4", "", "each row has a mask of its own");
  EXPECT_TRUE(found.sets.front().order.empty());
  EXPECT_FALSE(found.sets[1].order.empty());
  for (const WeightPermutation& weight : found.weights) EXPECT_GE(weight.kept_after, 0.999 * weight.kept_before);

  const SparsityPermutation odd = permute_for_sparsity(odd_network(1), {{"depthwise.weight", kTwoFour}});
  EXPECT_EQ(odd.weights.at(0).pattern, "dense");
  EXPECT_EQ(odd.weights.at(0).kept_after, odd.weights.at(0).total);
  EXPECT_NE(odd.weights.at(0).columns_fixed.find("depthwise"), std::string::npos);
  EXPECT_EQ(odd.fraction_after, 1.0);
}

TEST(PermuteForSparsity, ScalesOfWeightsDoNotMatter) {
  Graph graph = graph::builtin("convnet", 2, 1, 8, 8, 3);
  const Patterns patterns{{"fc1.weight", {16, 2, 4}}, {"fc2.weight", kTwoFour}};
  const SparsityPermutation found = permute_for_sparsity(graph, patterns, {.escapes = 0});
  Initializer& weight = graph.initializers.at("fc2.weight");
  std::vector<float> scaled(weight.data.as<float>().begin(), weight.data.as<float>().end());
  // A power of two, so that not a bit of the search may change.
  for (float& w : scaled) w *= 65536.0F;
  weight = Initializer::f32(weight.shape, scaled);
  const SparsityPermutation again = permute_for_sparsity(graph, patterns, {.escapes = 0});
  EXPECT_FALSE(found.sets.at(3).order.empty());
  EXPECT_EQ(again.sets.at(3).order, found.sets.at(3).order);
}

TEST(PermuteForSparsity, LeavesSetsAloneThatAreTooLargeForItsTables) {
  testing::NetworkBuilder net(1, {graph::kBatch, 4});
  const std::map<std::string, graph::Attribute> matrix{{"transB", std::int64_t{1}}};
  net.node("wide", "Gemm", {"input"}, {{".weight", {8193, 4}}}, matrix);
  net.node("narrow", "Gemm", {"wide.out"}, {{".weight", {2, 8193}}}, matrix);
  const SparsityPermutation found =
      permute_for_sparsity(net.finish(), {{"wide.weight", {64, 2, 4}}, {"narrow.weight", kTwoFour}});
  EXPECT_EQ(found.weights.at(0).rows_fixed, "the search takes at most 8192 channels, not 8193");
  EXPECT_EQ(found.weights.at(1).columns_fixed, "the search takes at most 8192 channels, not 8193");
  EXPECT_TRUE(found.sets.at(1).order.empty());
}

TEST(PermuteForSparsity, RepeatsForASeed) {
  const Graph graph = graph::builtin("convnet", 2, 1, 8, 8, 3);
  const Patterns patterns = all_weights(graph, {{16, 2, 4}});
  const SparsityPermutation once = permute_for_sparsity(graph, patterns, {.seed = 4, .escapes = 1});
  const SparsityPermutation again = permute_for_sparsity(graph, patterns, {.seed = 4, .escapes = 1});
  expect_equal_initializers(once.graph, again.graph);
}

TEST(PermuteForSparsity, StopsInTimeOrWhenProgressSaysSo) {
  const Graph graph = graph::builtin("convnet", 2, 1, 8, 8, 3);
  const Patterns patterns = all_weights(graph, {{16, 2, 4}});
  const SparsityPermutation none = permute_for_sparsity(graph, patterns, {.max_seconds = 0.0});
  EXPECT_FALSE(none.complete);
  EXPECT_EQ(none.fraction_after, none.fraction_before);
  expect_equal_initializers(none.graph, graph);

  std::vector<PermutationProgress> seen;
  const SparsityPermutation some =
      permute_for_sparsity(graph, patterns, {.progress = [&](const PermutationProgress& progress) {
                             seen.push_back(progress);
                             return progress.sets_done < 3;
                           }});
  EXPECT_FALSE(some.complete);
  EXPECT_GT(some.fraction_after, some.fraction_before);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front().sweep, 1);
  EXPECT_EQ(seen.front().sets, 5);
  EXPECT_EQ(seen.back().sets_done, 3);
  EXPECT_EQ(seen.back().set, "fc1.out");
  EXPECT_EQ(seen.back().kept_fraction, some.fraction_after);
  EXPECT_TRUE(std::ranges::is_sorted(seen, {}, &PermutationProgress::kept_fraction));
}

TEST(PermuteForSparsity, WeightsOfZerosChangeNothing) {
  Graph graph = graph::builtin("mlp", 2, 1, 2, 2, 3);
  Initializer& weight = graph.initializers.at("fc2.weight");
  weight = Initializer::f32(weight.shape, std::vector<float>(512 * 512, 0.0F));
  const SparsityPermutation found = permute_for_sparsity(graph, {{"fc2.weight", kTwoFour}}, {.escapes = 0});
  EXPECT_EQ(found.fraction_before, 1.0);
  EXPECT_EQ(found.fraction_after, 1.0);
  expect_equal_initializers(found.graph, graph);
}

TEST(PermuteForSparsity, ImpossibleCallsSayWhatToDo) {
  Graph graph = graph::builtin("mlp", 2, 1, 2, 2, 3);
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, {{"fc2.wieght", kTwoFour}}), kNotFound, "'fc2.weight'");
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, {{"fc2.bias", kTwoFour}}), kNotFound, "no such weight");
  for (const VnmPattern& pattern :
       {VnmPattern{1, 4, 4}, VnmPattern{1, 0, 4}, VnmPattern{1, 2, 17}, VnmPattern{0, 2, 4}, VnmPattern{65537, 2, 4}}) {
    EXPECT_PARE_ERROR(permute_for_sparsity(graph, {{"fc2.weight", pattern}}), kInvalidArgument, "fc2.weight");
  }
  const Patterns patterns{{"fc2.weight", kTwoFour}};
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, patterns, {.norm = 3}), kInvalidArgument, "norm 3");
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, patterns, {.max_sweeps = 0}), kInvalidArgument, "max_sweeps");
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, patterns, {.escapes = -1}), kInvalidArgument, "escapes");
  EXPECT_PARE_ERROR(permute_for_sparsity(graph, patterns, {.max_seconds = std::nan("")}), kInvalidArgument,
                    "max_seconds");
  Initializer& weight = graph.initializers.at("fc2.weight");
  std::vector<float> values(512 * 512, 0.5F);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 1e30F}) {
    values[77] = bad;
    weight = Initializer::f32(weight.shape, values);
    EXPECT_PARE_ERROR(permute_for_sparsity(graph, patterns), kNumeric, "fc2.weight");
  }
}

}  // namespace
}  // namespace pare::channels
