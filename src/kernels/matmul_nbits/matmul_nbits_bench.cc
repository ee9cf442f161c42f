// Every kernel of the table over the shapes of real layers; at the end, for each instruction set and shape, the time of
// 2:4 over that of dense. A product of one row passes over layers enough that their weights come from memory; others
// stay warm in the cache. One thread.
#include "pare/kernels/matmul_nbits/matmul_nbits.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "pare/kernels/testing/bench_ratios.h"
#include "pare/kernels/testing/random_nbits.h"

namespace pare::kernels {
namespace {

struct Shape {
  std::int64_t m, n, k, group, layers;
};
constexpr Shape kShapes[] = {{1, 4096, 4096, 32, 12}, {1, 4096, 4096, 128, 12}, {1, 768, 768, 32, 1},
                             {4, 4096, 4096, 32, 12}, {16, 3072, 3072, 32, 1},  {128, 768, 768, 32, 1}};

struct alignas(64) Line {
  std::uint8_t bytes[64];
};

void run(benchmark::State& state, const MatMulNBitsKernel& kernel, const Shape& shape) {
  Rng rng(1);
  const testing::StoredNBits weights = testing::random_nbits(rng, kernel.form, shape.n, shape.k, shape.group);
  const std::size_t lines = (kernel.packed_bytes(weights.view()) + 63) / 64;
  std::vector<Line> packed(lines * static_cast<std::size_t>(shape.layers));
  kernel.pack(weights.view(), packed.data());
  for (std::size_t layer = 1; layer < static_cast<std::size_t>(shape.layers); ++layer) {
    std::copy_n(packed.begin(), lines, packed.begin() + static_cast<std::ptrdiff_t>(layer * lines));
  }
  const std::int64_t a_stride = nbits_k_padded(shape.k) + 64;
  std::vector<std::uint8_t> a(static_cast<std::size_t>(shape.m * a_stride));
  for (std::uint8_t& code : a) code = static_cast<std::uint8_t>(rng.below(255) - 127 + kernel.a_zero_point);
  const std::vector<float> a_scale(static_cast<std::size_t>(shape.m), 0.01F);
  std::vector<float> c(static_cast<std::size_t>(shape.m * shape.n));
  MatMulNBitsArgs args;
  args.a = a.data();
  args.a_stride_bytes = a_stride;
  args.a_scale = a_scale.data();
  args.packed = packed.data();
  args.c = c.data();
  args.c_stride_elems = shape.n;
  args.m = shape.m;
  args.n = shape.n;
  args.k = shape.k;
  std::vector<Line> scratch((kernel.scratch_bytes(args) + 63) / 64);
  std::size_t layer = 0;
  for (auto _ : state) {
    args.packed = packed.data() + layer * lines;
    layer = (layer + 1) % static_cast<std::size_t>(shape.layers);
    kernel.run(args, 0, shape.m, 0, shape.n, scratch.data());
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  state.counters["MAC/s"] = benchmark::Counter(static_cast<double>(shape.m * shape.n * shape.k),
                                               benchmark::Counter::kIsIterationInvariantRate);
  state.counters["B/s"] =
      benchmark::Counter(static_cast<double>(lines * 64), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace
}  // namespace pare::kernels

int main(int argc, char** argv) {
  using namespace pare::kernels;
  const std::vector<pare::Isa> here = pare::supported_isas();
  for (const Shape& shape : kShapes) {
    const std::string size = std::to_string(shape.m) + "x" + std::to_string(shape.n) + "x" + std::to_string(shape.k) +
                             "g" + std::to_string(shape.group);
    for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
      if (std::find(here.begin(), here.end(), kernel.isa) == here.end()) continue;
      testing::register_case(size, kernel.form == NBitsForm::kDense ? "dense" : "2:4",
                             std::string(pare::to_string(kernel.isa)), kernel.name,
                             [&kernel, shape](benchmark::State& state) { run(state, kernel, shape); });
    }
  }
  return testing::run_and_print_ratios(argc, argv);
}
