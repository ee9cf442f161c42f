// Every kernel of the table over the shapes of real layers; at the end, for each instruction set and shape, the time of
// sparse weights over that of dense. Activations and weights stay warm in the cache, one thread.
#include "pare/kernels/qgemm/qgemm.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pare/kernels/testing/bench_ratios.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels {
namespace {

struct Shape {
  std::int64_t m, n, k;
};
// The first two are the convnet's, at the batch that a session plans for.
constexpr Shape kShapes[] = {{64, 256, 3136}, {64, 10, 256}, {1, 256, 3136}, {128, 768, 768}, {16, 3072, 3072}};

void run(benchmark::State& state, const QGemmKernel& kernel, const Shape& shape) {
  Rng rng(1);
  const testing::StoredWeights weights = testing::random_weights(rng, kernel.format, shape.n, 1, shape.k);
  const std::vector<std::int32_t> bias(static_cast<std::size_t>(shape.n), 5);
  const std::vector<float> multiplier(static_cast<std::size_t>(shape.n), 1e-4F);
  std::vector<std::uint8_t> a(static_cast<std::size_t>(shape.m * shape.k));
  for (std::uint8_t& code : a) code = static_cast<std::uint8_t>(rng.below(256));
  std::vector<std::uint8_t> c(static_cast<std::size_t>(shape.m * shape.n));
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  std::vector<Line> packed((kernel.packed_bytes(weights.view()) + 63) / 64);
  kernel.pack(weights.view(), packed.data());
  QGemmArgs args;
  args.a = a.data();
  args.a_stride_bytes = shape.k;
  args.a_zero_point = 3;
  args.packed = packed.data();
  args.c = c.data();
  args.c_stride_elems = shape.n;
  args.m = shape.m;
  args.n = shape.n;
  args.k = shape.k;
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  std::vector<Line> scratch((kernel.scratch_bytes(args) + 63) / 64);
  for (auto _ : state) {
    kernel.run(args, 0, shape.m, 0, shape.n, scratch.data());
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  state.counters["MAC/s"] = benchmark::Counter(static_cast<double>(shape.m * shape.n * shape.k),
                                               benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace
}  // namespace pare::kernels

int main(int argc, char** argv) {
  using namespace pare::kernels;
  const std::vector<pare::Isa> here = pare::supported_isas();
  for (const Shape& shape : kShapes) {
    const std::string size = std::to_string(shape.m) + "x" + std::to_string(shape.n) + "x" + std::to_string(shape.k);
    for (const QGemmKernel& kernel : qgemm_kernels()) {
      if (std::find(here.begin(), here.end(), kernel.isa) == here.end()) continue;
      const std::string format = testing::format_name(kernel.format);
      testing::register_case(size, format, std::string(pare::to_string(kernel.isa)), kernel.name,
                             [&kernel, shape](benchmark::State& state) { run(state, kernel, shape); });
    }
  }
  return testing::run_and_print_ratios(argc, argv);
}
