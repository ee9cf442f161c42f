// SparseGPT and GPTQ of one layer against the linear algebra that they cannot do without: the Cholesky factor of the
// inverse Hessian and the products that bring the rest of the weight up to date after each block of columns.
#include "pare/quant/gptq.h"

#include <benchmark/benchmark.h>

#include "pare/sparsity/sparse_gpt.h"

namespace pare::quant {
namespace {

struct Layer {
  torch::Tensor weight, hessian;
};

Layer layer_of(std::int64_t n, std::int64_t k) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({k + 256, k});
  return {torch::randn({n, k}), x.t().mm(x)};
}

void bench_sparse_gpt(benchmark::State& state) {
  const Layer layer = layer_of(state.range(0), state.range(1));
  for (auto iteration : state) {
    static_cast<void>(iteration);
    benchmark::DoNotOptimize(sparsity::sparse_gpt(layer.weight, layer.hessian, layer.weight.size(1),
                                                  sparsity::MaskConfig::from_pattern("2:4")));
  }
}

void bench_gptq(benchmark::State& state) {
  const Layer layer = layer_of(state.range(0), state.range(1));
  const WeightGrid grid{layer.weight.abs().amax(1, /*keepdim=*/true) / 127.0, layer.weight.size(1)};
  for (auto iteration : state) {
    static_cast<void>(iteration);
    benchmark::DoNotOptimize(gptq(layer.weight, {}, layer.hessian, grid));
  }
}

void bench_linear_algebra(benchmark::State& state) {
  const Layer layer = layer_of(state.range(0), state.range(1));
  const std::int64_t k = layer.weight.size(1);
  constexpr std::int64_t kBlock = 128;
  const torch::Tensor errors = torch::randn({layer.weight.size(0), kBlock});
  for (auto iteration : state) {
    static_cast<void>(iteration);
    torch::Tensor weight = layer.weight.clone();
    const torch::Tensor factor =
        torch::linalg_cholesky(torch::cholesky_inverse(torch::linalg_cholesky(layer.hessian)), /*upper=*/true);
    for (std::int64_t end = kBlock; end < k; end += kBlock) {
      weight.narrow(1, end, k - end).addmm_(errors, factor.narrow(0, end - kBlock, kBlock).narrow(1, end, k - end));
    }
    benchmark::DoNotOptimize(weight);
  }
}

BENCHMARK(bench_sparse_gpt)->Args({768, 768})->Args({4096, 4096})->Unit(benchmark::kMillisecond);
BENCHMARK(bench_gptq)->Args({768, 768})->Args({4096, 4096})->Unit(benchmark::kMillisecond);
BENCHMARK(bench_linear_algebra)->Args({768, 768})->Args({4096, 4096})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pare::quant

BENCHMARK_MAIN();
