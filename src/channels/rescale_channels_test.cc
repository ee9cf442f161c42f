#include "pare/channels/rescale_channels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/channels/testing/float_reference.h"
#include "pare/channels/testing/odd_network.h"
#include "pare/graph/builtin.h"

namespace pare::channels {
namespace {

using graph::Graph;
using testing::FloatReference;
using testing::random_image;

// odd_network without its batch norms: depthwise, residual sums, a pool, and runs of 9 channels behind a Flatten.
Graph odd_network_without_norms(std::uint64_t seed) {
  using Ints = std::vector<std::int64_t>;
  const std::map<std::string, graph::Attribute> matrix{{"transB", std::int64_t{1}}};
  const std::map<std::string, graph::Attribute> padded{{"pads", Ints{1, 1, 1, 1}}};
  testing::NetworkBuilder net(seed, {graph::kBatch, 3, 6, 6});
  net.node("stem", "Conv", {"input"}, {{".weight", {8, 3, 3, 3}}, {".bias", {8}}}, padded);
  net.node("relu1", "Relu", {"stem.out"});
  net.node("depthwise", "Conv", {"relu1.out"}, {{".weight", {8, 1, 3, 3}}, {".bias", {8}}},
           {{"pads", Ints{1, 1, 1, 1}}, {"group", std::int64_t{8}}});
  net.node("point", "Conv", {"depthwise.out"}, {{".weight", {6, 8, 1, 1}}, {".bias", {6}}});
  net.node("branch", "Conv", {"point.out"}, {{".weight", {6, 6, 3, 3}}}, padded);
  net.node("sum", "Add", {"branch.out", "point.out"});
  net.node("pool", "MaxPool", {"sum.out"}, {},
           {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}});
  net.node("flatten", "Flatten", {"pool.out"});
  net.node("mix", "Gemm", {"flatten.out"}, {{".weight", {54, 54}}, {".bias", {54}}}, matrix);
  net.node("mixed", "Add", {"flatten.out", "mix.out"});
  net.node("relu2", "Relu", {"mixed.out"});
  net.node("fc", "Gemm", {"relu2.out"}, {{".weight", {5, 54}}, {".bias", {5}}}, matrix);
  return net.finish();
}

std::vector<Graph> networks(std::uint64_t seed) {
  std::vector<Graph> all{odd_network_without_norms(seed), graph::builtin("convnet", seed, 2, 6, 5, 3),
                         graph::builtin("mlp", seed, 1, 3, 3, 4), graph::builtin("small_cnn", seed, 1, 5, 4, 3)};
  for (Graph& graph : all) {
    testing::randomize_batch_norms(graph, seed);
    (void)graph::fold_batch_norm(graph);
  }
  return all;
}

// Rows (axis 0) and columns (axis 1) of a matrix or a filter [O, I, ...].
std::vector<float> largest_along(const Graph& graph, const std::string& weight, bool rows) {
  const graph::Initializer& tensor = graph.initializer(weight);
  const auto values = tensor.data.as<float>();
  const auto outputs = static_cast<std::size_t>(tensor.shape[0]);
  const auto inputs = static_cast<std::size_t>(tensor.shape[1]);
  const std::size_t taps = values.size() / outputs / inputs;
  std::vector<float> largest(rows ? outputs : inputs, 0.0F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    float& entry = largest[rows ? i / taps / inputs : i / taps % inputs];
    entry = std::max(entry, std::abs(values[i]));
  }
  return largest;
}

TEST(RescaleChannels, ByPowersOfTwoIsTheSameFunctionBitForBit) {
  for (const Graph& graph : networks(31)) {
    Rng rng(32, 1);
    int sets = 0;
    for (const ChannelSet& set : find_channel_sets(graph)) {
      if (!set.is_free()) continue;
      ++sets;
      std::vector<int> exponents(static_cast<std::size_t>(set.channels));
      for (int& exponent : exponents) exponent = static_cast<int>(rng.below(17)) - 8;
      const Graph rescaled = rescale_channels(graph, set, exponents);
      const std::vector<double> image = random_image(graph, 33);
      EXPECT_EQ(FloatReference(rescaled).run(image), FloatReference(graph).run(image)) << graph.name << set.name();
    }
    EXPECT_GT(sets, 0);
  }
}

TEST(RescaleChannels, EqualizesRowsAndColumns) {
  for (const Graph& graph : networks(34)) {
    const RescaledGraph rescaled = equalize_across_layers(graph);
    const std::vector<double> image = random_image(graph, 35);
    EXPECT_EQ(FloatReference(rescaled.graph).run(image), FloatReference(graph).run(image)) << graph.name;
  }
  // With one writer and one reader a set, rows and columns end within a factor 2 of each other: half an exponent each.
  Graph mlp = graph::builtin("mlp", 36, 1, 3, 3, 4);
  std::vector<float> scaled(mlp.initializer("fc1.weight").data.as<float>().begin(),
                            mlp.initializer("fc1.weight").data.as<float>().end());
  for (std::size_t i = 0; i < 9; ++i) scaled[i] *= 1000.0F;
  mlp.initializers.at("fc1.weight").data = graph::Buffer::copy_of(scaled);
  const Graph equalized = equalize_across_layers(mlp).graph;
  const auto rows = largest_along(equalized, "fc1.weight", true);
  const auto columns = largest_along(equalized, "fc2.weight", false);
  for (std::size_t c = 0; c < rows.size(); ++c) {
    EXPECT_LE(std::abs(std::log2(rows[c] / columns[c])), 1.0) << c;
  }
  EXPECT_GT(std::abs(std::log2(largest_along(mlp, "fc1.weight", true)[0] / largest_along(mlp, "fc2.weight", false)[0])),
            5.0);
}

TEST(RescaleChannels, SmoothsWhatWasMet) {
  const Graph graph = graph::builtin("mlp", 37, 1, 3, 3, 4);
  const std::string value = graph.node("relu1").output;
  const auto channels = static_cast<std::size_t>(graph.initializer("fc1.weight").shape[0]);
  std::vector<float> met(channels, 1.0F);
  met[0] = 300.0F;
  met[1] = 0.0F;
  const RescaledGraph smoothed = smooth_activations(graph, {{value, met}});
  ASSERT_EQ(smoothed.exponents.size(), 1U);
  const std::vector<int>& exponents = smoothed.exponents.begin()->second;
  const auto columns = largest_along(graph, "fc2.weight", false);
  for (const std::size_t c : {std::size_t{0}, std::size_t{2}}) {
    // SmoothQuant's s_j = max|X_j|^0.5 / max|W_j|^0.5 divides what is written: f = 1 / s_j, to the nearest power of
    // two.
    EXPECT_NEAR(std::log2(std::sqrt(columns[c] / met[c])), exponents[c], 0.5);
  }
  EXPECT_LT(exponents[0], exponents[2]);
  EXPECT_EQ(exponents[1], 0) << "it was never anything but 0";
  const std::vector<double> image = random_image(graph, 38);
  EXPECT_EQ(FloatReference(smoothed.graph).run(image), FloatReference(graph).run(image));
}

TEST(RescaleChannels, LeavesDeadChannels) {
  Graph graph = graph::builtin("mlp", 39, 1, 3, 3, 4);
  std::vector<float> zeros(graph.initializer("fc1.weight").data.as<float>().size(), 0.0F);
  graph.initializers.at("fc1.weight").data = graph::Buffer::copy_of(zeros);
  const RescaledGraph rescaled = equalize_across_layers(graph);
  EXPECT_FALSE(rescaled.exponents.contains(graph.node("fc1").output));
}

TEST(RescaleChannels, RefusesWhatItCannotDo) {
  const Graph mlp = graph::builtin("mlp", 40, 1, 3, 3, 4);
  const std::vector<ChannelSet> sets = find_channel_sets(mlp);
  const auto channels = static_cast<std::size_t>(sets[1].channels);
  EXPECT_PARE_ERROR((void)rescale_channels(mlp, sets[0], std::vector<int>(1)), kInvalidArgument, "input");
  EXPECT_PARE_ERROR((void)rescale_channels(mlp, sets[1], std::vector<int>(3)), kInvalidArgument, "3 exponents");
  EXPECT_PARE_ERROR((void)rescale_channels(mlp, sets[1], std::vector<int>(channels, 65)), kInvalidArgument, "64");
  const std::string value = sets[1].name();
  EXPECT_PARE_ERROR((void)smooth_activations(mlp, {{value, {1.0F, 2.0F}}}), kInvalidArgument, value);
  std::vector<float> broken(channels, 1.0F);
  broken[2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_PARE_ERROR((void)smooth_activations(mlp, {{value, broken}}), kInvalidArgument, "NaN");
  const Graph norms = graph::builtin("convnet", 41, 1, 4, 4, 3);
  EXPECT_PARE_ERROR((void)equalize_across_layers(norms), kUnsupported, "fold");
  for (const ChannelSet& set : find_channel_sets(norms)) {
    if (set.is_free()) {
      EXPECT_PARE_ERROR((void)rescale_channels(norms, set, std::vector<int>(static_cast<std::size_t>(set.channels))),
                        kUnsupported, "fold");
    }
  }
}

}  // namespace
}  // namespace pare::channels
