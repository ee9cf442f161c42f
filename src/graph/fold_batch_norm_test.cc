#include "pare/graph/graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/graph/builtin.h"

namespace pare::graph {
namespace {

Node& node_named(Graph& graph, const std::string& name) {
  return *std::find_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.name == name; });
}

void set_f32(Graph& graph, const std::string& name, const std::vector<float>& values) {
  Initializer& item = graph.initializers.at(name);
  item = Initializer::f32(item.shape, values);
}

void randomize_norms(Graph& graph, std::uint64_t seed) {
  Rng rng(seed, 99);
  for (auto& [name, item] : graph.initializers) {
    if (name.substr(0, 2) != "bn") {
      continue;
    }
    std::vector<float> values(static_cast<std::size_t>(element_count(item.shape)));
    for (float& value : values) {
      value = name.ends_with("running_var") ? 0.05F + 3.0F * rng.uniform() : rng.normal();
    }
    item = Initializer::f32(item.shape, values);
  }
}

// conv (3x3, padding 1) of one image in double.
std::vector<double> direct_conv(const Graph& graph, const std::string& layer, const std::vector<double>& x,
                                std::int64_t channels, std::int64_t extent) {
  const Initializer& weight = graph.initializer(layer + ".weight");
  const auto w = weight.data.as<float>();
  const auto bias = graph.initializer(layer + ".bias").data.as<float>();
  std::vector<double> y;
  for (std::int64_t o = 0; o < weight.shape[0]; ++o) {
    for (std::int64_t row = 0; row < extent; ++row) {
      for (std::int64_t column = 0; column < extent; ++column) {
        double sum = bias[static_cast<std::size_t>(o)];
        for (std::int64_t tap = 0; tap < 9 * channels; ++tap) {
          const std::int64_t channel = tap / 9;
          const std::int64_t from_row = row + tap % 9 / 3 - 1;
          const std::int64_t from_column = column + tap % 3 - 1;
          if (from_row >= 0 && from_row < extent && from_column >= 0 && from_column < extent) {
            sum += static_cast<double>(w[static_cast<std::size_t>(o * 9 * channels + tap)]) *
                   x[static_cast<std::size_t>((channel * extent + from_row) * extent + from_column)];
          }
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

TEST(FoldBatchNorm, ComputesWhatConvAndNormComputed) {
  constexpr std::int64_t kExtent = 5;
  for (const std::uint64_t seed : {1U, 2U}) {
    SCOPED_TRACE(seed);
    Graph graph = builtin("convnet", seed, 2, kExtent, kExtent, 3);
    randomize_norms(graph, seed);
    Rng rng(seed, 7);
    std::vector<double> x(2 * kExtent * kExtent);
    for (double& value : x) {
      value = rng.normal();
    }
    std::vector<double> expected = direct_conv(graph, "conv1", x, 2, kExtent);
    const auto gamma = graph.initializer("bn1.weight").data.as<float>();
    const auto beta = graph.initializer("bn1.bias").data.as<float>();
    const auto mean = graph.initializer("bn1.running_mean").data.as<float>();
    const auto variance = graph.initializer("bn1.running_var").data.as<float>();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::size_t channel = i / (kExtent * kExtent);
      expected[i] =
          (expected[i] - mean[channel]) / std::sqrt(variance[channel] + static_cast<double>(1e-5F)) * gamma[channel] +
          beta[channel];
    }
    Graph folded = graph;
    EXPECT_EQ(fold_batch_norm(folded), (std::vector<std::string>{"bn1", "bn2"}));
    const std::vector<double> actual = direct_conv(folded, "conv1", x, 2, kExtent);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      // 19 float32 roundings of relative size 2^-24 on terms of size about 10 at most.
      EXPECT_NEAR(actual[i], expected[i], 19 * 10 * 6e-8) << i;
    }
  }
}

TEST(FoldBatchNorm, RoundsOnceFromDouble) {
  Graph graph = builtin("convnet", 3, 1, 4, 4, 2);
  randomize_norms(graph, 3);
  Graph folded = graph;
  (void)fold_batch_norm(folded);
  const auto w = graph.initializer("conv2.weight").data.as<float>();
  const auto gamma = graph.initializer("bn2.weight").data.as<float>();
  const auto variance = graph.initializer("bn2.running_var").data.as<float>();
  const auto actual = folded.initializer("conv2.weight").data.as<float>();
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t channel = i / (32 * 9);
    const auto exact = static_cast<double>(static_cast<long double>(w[i]) * gamma[channel] /
                                           std::sqrt(static_cast<long double>(variance[channel]) + 1e-5F));
    // Half a unit in the last place of float32, and a little for double's own rounding.
    const float next = std::nextafter(std::abs(actual[i]), INFINITY);
    EXPECT_LE(std::abs(actual[i] - exact), 0.5001 * (next - std::abs(actual[i]))) << i;
  }
}

TEST(FoldBatchNorm, KeepsZerosAndShapesAndTakesTheNormsName) {
  Graph graph = builtin("convnet", 4, 1, 8, 8, 2);
  randomize_norms(graph, 4);
  std::vector<float> masked(graph.initializer("conv2.weight").data.as<float>().begin(),
                            graph.initializer("conv2.weight").data.as<float>().end());
  for (std::size_t i = 0; i < masked.size(); i += 2) {
    masked[i] = i % 4 == 0 ? 0.0F : -0.0F;
  }
  set_f32(graph, "conv2.weight", masked);
  const Value norm_value = graph.values.at("bn2.out");
  (void)fold_batch_norm(graph);
  const auto folded = graph.initializer("conv2.weight").data.as<float>();
  for (std::size_t i = 0; i < folded.size(); ++i) {
    EXPECT_EQ(folded[i] == 0.0F, masked[i] == 0.0F) << i;
    EXPECT_FALSE(folded[i] == 0.0F && std::signbit(folded[i])) << i;
  }
  EXPECT_EQ(graph.node("conv2").output, "bn2.out");
  EXPECT_EQ(graph.values.at("bn2.out"), norm_value);
  EXPECT_FALSE(graph.values.contains("conv2.out"));
  EXPECT_FALSE(graph.initializers.contains("bn2.weight"));
  EXPECT_EQ(graph.initializers.size(), 8U);
  EXPECT_TRUE(fold_batch_norm(graph).empty());
}

TEST(FoldBatchNorm, GivesAConvWithoutBiasOne) {
  Graph with = builtin("convnet", 5, 1, 4, 4, 2);
  randomize_norms(with, 5);
  set_f32(with, "conv1.bias", std::vector<float>(32, 0.0F));
  Graph without = with;
  node_named(without, "conv1").inputs.pop_back();
  without.initializers.erase("conv1.bias");
  (void)fold_batch_norm(with);
  (void)fold_batch_norm(without);
  EXPECT_EQ(without.node("conv1").inputs, with.node("conv1").inputs);
  EXPECT_TRUE(
      std::ranges::equal(without.initializer("conv1.bias").data.bytes(), with.initializer("conv1.bias").data.bytes()));
}

TEST(FoldBatchNorm, RefusesWhatItCannotFoldAndLeavesTheGraphAlone) {
  const auto expect = [](Graph graph, ErrorCategory category, const std::string& node) {
    const std::vector<Node> before = graph.nodes;
    try {
      (void)fold_batch_norm(graph);
      ADD_FAILURE() << node;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), category) << error.what();
      EXPECT_NE(error.where().find(node), std::string::npos) << error.what();
    }
    EXPECT_EQ(graph.nodes.size(), before.size());
    EXPECT_TRUE(graph.initializers.contains("bn1.weight"));
  };
  const Graph net = builtin("convnet", 5, 1, 4, 4, 2);

  Graph after_relu = net;
  node_named(after_relu, "relu2").inputs[0] = "conv2.out";
  node_named(after_relu, "bn2").inputs[0] = "relu2.out";
  node_named(after_relu, "pool2").inputs[0] = "bn2.out";
  std::swap(node_named(after_relu, "relu2"), node_named(after_relu, "bn2"));
  expect(after_relu, ErrorCategory::kUnsupported, "bn2");

  Graph taken = net;
  node_named(taken, "conv2").inputs.pop_back();
  node_named(taken, "fc1").inputs[2] = "conv2.bias";
  taken.initializers["conv2.bias"] = Initializer::f32({256}, std::vector<float>(256));
  taken.initializers.erase("fc1.bias");
  expect(taken, ErrorCategory::kUnsupported, "conv2");

  Graph infinite = net;
  set_f32(infinite, "bn2.weight", std::vector<float>(64, INFINITY));
  expect(infinite, ErrorCategory::kNumeric, "bn2");

  Graph negative = net;
  set_f32(negative, "bn1.running_var", std::vector<float>(32, -1.0F));
  expect(negative, ErrorCategory::kNumeric, "bn1");
}

}  // namespace
}  // namespace pare::graph
