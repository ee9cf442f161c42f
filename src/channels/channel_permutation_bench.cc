// How much of a weight's magnitude N:M and V:N:M keep without and with channel permutation, and how long the search
// takes. Counters: natural and permuted are fractions of the sum of |w|.
//
// Weights: "normal" has independent normal entries, the hardest case. "trained" imitates what training leaves: a few
// directions that many channels share (a product of two thin factors), channels of unequal scale, and noise.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/channels/permute_for_sparsity.h"
#include "pare/graph/graph.h"

namespace pare::channels {
namespace {

struct LayerShape {
  std::int64_t rows, columns, kernel;
};

std::vector<float> make_weights(const Shape& shape, bool trained, std::uint64_t seed) {
  Rng rng(seed);
  const auto rows = static_cast<std::size_t>(shape[0]);
  const auto columns = static_cast<std::size_t>(element_count(shape)) / rows;
  std::vector<float> weights(rows * columns);
  for (float& w : weights) w = rng.normal();
  if (!trained) return weights;
  constexpr std::size_t kRank = 16;
  const std::size_t taps = columns / static_cast<std::size_t>(shape[1]);
  std::vector<float> left(rows * kRank);
  std::vector<float> right(columns * kRank);
  std::vector<float> row_scale(rows);
  std::vector<float> column_scale(static_cast<std::size_t>(shape[1]));
  for (float& x : left) x = rng.normal();
  for (float& x : right) x = rng.normal();
  for (float& x : row_scale) x = std::exp(0.4F * rng.normal());
  for (float& x : column_scale) x = std::exp(0.6F * rng.normal());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      float shared = 0.0F;
      for (std::size_t k = 0; k < kRank; ++k) shared += left[r * kRank + k] * right[c * kRank + k];
      float& w = weights[r * columns + c];
      w = (0.5F * w + shared / std::sqrt(static_cast<float>(kRank))) * row_scale[r] * column_scale[c / taps];
    }
  }
  return weights;
}

// first, then the layer that is looked at, then one that lets its outputs move.
graph::Graph three_layers(const LayerShape& layer, bool trained) {
  graph::Graph graph;
  graph.name = "three layers";
  graph.input = "input";
  graph.values["input"].shape = {graph::kBatch, 4, 8, 8};
  std::string value = "input";
  const auto conv = [&](const std::string& name, const Shape& shape) {
    graph.initializers[name + ".weight"] = graph::Initializer::f32(shape, make_weights(shape, trained, shape.size()));
    graph.nodes.push_back({name, "Conv", {value, name + ".weight"}, name + ".out", {}});
    value = name + ".out";
  };
  conv("first", {layer.columns, 4, 1, 1});
  conv("layer", {layer.rows, layer.columns, layer.kernel, layer.kernel});
  conv("last", {4, layer.rows, 1, 1});
  graph.output = value;
  graph::infer_shapes(graph);
  return graph;
}

void bench_permutation(benchmark::State& state, const LayerShape& layer, const format::VnmPattern& pattern,
                       bool trained) {
  const graph::Graph graph = three_layers(layer, trained);
  PermutationOptions options;
  options.max_seconds = 120.0;
  for (auto iteration : state) {
    static_cast<void>(iteration);
    const SparsityPermutation found = permute_for_sparsity(graph, {{"layer.weight", pattern}}, options);
    state.counters["natural"] = found.fraction_before;
    state.counters["permuted"] = found.fraction_after;
    state.counters["complete"] = found.complete ? 1.0 : 0.0;
  }
}

void register_all() {
  const std::map<std::string, LayerShape> layers{
      {"64x32x3x3", {64, 32, 3}}, {"256x128x3x3", {256, 128, 3}}, {"512x512x1x1", {512, 512, 1}}};
  const std::vector<std::pair<std::string, format::VnmPattern>> patterns{
      {"2:4", {1, 2, 4}}, {"1:4", {1, 1, 4}}, {"16:2:4", {16, 2, 4}}, {"64:2:4", {64, 2, 4}}, {"64:1:4", {64, 1, 4}}};
  for (const bool trained : {false, true}) {
    for (const auto& [layer_name, layer] : layers) {
      for (const auto& [pattern_name, pattern] : patterns) {
        const std::string name = std::string(trained ? "trained/" : "normal/") + layer_name + "/" + pattern_name;
        benchmark::RegisterBenchmark(name.c_str(), bench_permutation, layer, pattern, trained)
            ->Iterations(1)
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

}  // namespace
}  // namespace pare::channels

int main(int argc, char** argv) {
  pare::channels::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
