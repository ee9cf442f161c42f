#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "bench/network.h"
#include "bench/operands.h"
#include "bench/round_robin.h"
#include "pare/base/error.h"
#include "pare/base/testing.h"
#include "pare/graph/builtin.h"

namespace pare::bench {
namespace {

TEST(RoundRobin, RatioIsTakenRoundByRound) {
  const Ratio ratio = ratio_of({1.0, 2.0, 4.0}, {2.0, 2.0, 12.0});
  EXPECT_DOUBLE_EQ(ratio.min, 1.0);
  EXPECT_DOUBLE_EQ(ratio.median, 2.0);
  EXPECT_DOUBLE_EQ(ratio.max, 3.0);
}

TEST(RoundRobin, MedianOfAnEvenCountLiesBetween) { EXPECT_DOUBLE_EQ(median({4.0, 1.0, 2.0, 3.0}), 2.5); }

TEST(RoundRobin, EveryContestantHasAsManyTimesAsRounds) {
  int calls = 0;
  const Times times =
      run_round_robin({{"a", [&] { ++calls; }}, {"b", [] {}}}, {.rounds = 3, .visit_seconds = 1e-5, .clock = {}});
  ASSERT_EQ(times.size(), 2U);
  EXPECT_EQ(times[0].size(), 3U);
  EXPECT_EQ(times[1].size(), 3U);
  EXPECT_GE(calls, 6);
}

TEST(Operands, FoldedZeroPointGivesTheSameSums) {
  const std::vector<std::int8_t> dense{1, -2, 3, 4, 5, -6};  // two rows of three
  const std::vector<std::int32_t> folded = fold_zero_point({10, 20}, dense, 7);
  EXPECT_EQ(folded, (std::vector<std::int32_t>{10 - 7 * 2, 20 - 7 * 3}));
}

TEST(Network, PatternsThatDoNotExistAreRefused) {
  for (const char* text : {"", "1:2", "64:4:4", "64:1:32", "64:1:4x"}) {
    EXPECT_THROW((void)SparsityPattern::parse(text), Error) << text;
  }
}

// Scales that fit nothing in particular: what is tested is structure.
ActivationScales some_scales(const graph::Graph& graph) {
  ActivationScales scales;
  for (const auto& [name, value] : graph.values) scales[name] = {.scale = 0.02F, .zero_point = 3};
  return scales;
}

TEST(Network, KeepsItsPatternThroughTheArtifact) {
  const testing::TempDir folder;
  for (const char* text : {"dense", "2:4", "64:1:4"}) {
    const SparsityPattern pattern = SparsityPattern::parse(text);
    graph::Graph network = float_network("convnet", 1, pattern);
    write_float_network(folder.path(), network);
    read_weights(folder / "weights.safetensors", network);
    const std::filesystem::path path = folder / "model.pare";
    graph::write_artifact(path, integer_network(network, some_scales(network), pattern));
    EXPECT_TRUE(graph::verify_artifact(path).ok()) << text;
    const graph::Artifact read = graph::read_artifact(path);
    for (const graph::LayerPromise& promise : read.promises) {
      const bool applies = pattern.applies_to(read.graph.initializer(promise.weight).shape);
      EXPECT_EQ(promise.pattern, applies ? text : "dense") << promise.weight;
    }
  }
}

TEST(Network, MaskingKeepsTheEnergyOfAWeight) {
  const auto energy = [](const SparsityPattern& pattern) {
    const graph::Graph network = float_network("convnet", 1, pattern);
    double sum = 0.0;
    for (const float value : network.initializer("conv2.weight").data.as<float>()) sum += double{value} * value;
    return sum;
  };
  const double dense = energy(SparsityPattern::parse("dense"));
  EXPECT_NEAR(energy(SparsityPattern::parse("2:4")) / dense, 1.0, 1e-5);  // float32 rounds the factor
}

TEST(Network, AValueWithoutAScaleIsNamed) {
  const SparsityPattern dense = SparsityPattern::parse("dense");
  const graph::Graph network = float_network("convnet", 1, dense);
  ActivationScales scales = some_scales(network);
  scales.erase("relu2.out");
  try {
    (void)integer_network(network, scales, dense);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("relu2.out"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace pare::bench
