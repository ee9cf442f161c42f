// Time of one mask update, by configuration. The weight is fc1's of the built-in convnet: 256 x 3136.
#include "pare/sparsity/mask.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "pare/sparsity/testing/mask_reference.h"

namespace pare::sparsity {
namespace {

constexpr std::int64_t kRows = 256;
constexpr std::int64_t kCols = 3136;

void bench_mask(benchmark::State& state, const MaskConfig& config) {
  const std::vector<float> weight = testing::random_weights(kRows * kCols, 1, false);
  std::vector<float> mask(weight.size());
  for (auto iteration : state) {
    static_cast<void>(iteration);
    weight_norm_mask(weight.data(), {kRows, kCols}, config, mask.data());
    benchmark::DoNotOptimize(mask.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kRows * kCols);
}

BENCHMARK_CAPTURE(bench_mask, two_four, MaskConfig::from_pattern("2:4"))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, transposable, MaskConfig::from_pattern("2:4t"))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, two_eight, MaskConfig::from_pattern("2:8"))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, v64_two_four, MaskConfig::from_pattern("64:2:4"))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, two_four_in_half, MaskConfig{0.5, {1, 4}, 2, 2})->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, unstructured_half, MaskConfig{0.5, {1, 1}, 1, 2})->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(bench_mask, block_4x4_keeping_8, MaskConfig{1.0, {4, 4}, 8, 2})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace pare::sparsity

BENCHMARK_MAIN();
