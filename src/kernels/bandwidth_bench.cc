// The kernels that move codes rather than multiply them, each beside the scalar one of its table, over the shapes of
// small networks (docs/runtime.md). Operands stay in the cache, as between two layers.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/add/add.h"
#include "pare/kernels/depthwise/depthwise.h"
#include "pare/kernels/pool/global_average_pool.h"
#include "pare/kernels/pool/max_pool.h"
#include "pare/kernels/quantize/quantize.h"
#include "pare/kernels/testing/this_machine.h"
#include "pare/kernels/transpose/transpose.h"

namespace pare::kernels {
namespace {

struct alignas(64) Line {
  std::uint8_t bytes[64];
};

void fill(std::uint8_t* codes, std::int64_t count) {
  Rng rng(1);
  for (std::int64_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(rng.below(256));
}

// Registers one case for every row of a table that runs here; `body(kernel)` runs it once.
template <typename Table, typename Body>
void register_rows(const std::string& shape, const Table& table, std::int64_t bytes, Body body) {
  for (const auto& kernel : table) {
    if (!testing::runs_here(kernel.isa)) continue;
    const std::string name = shape + "/" + kernel.name;
    benchmark::RegisterBenchmark(name.c_str(), [&kernel, body, bytes](benchmark::State& state) {
      for (auto _ : state) {
        body(kernel);
        benchmark::ClobberMemory();
      }
      state.SetBytesProcessed(bytes * static_cast<std::int64_t>(state.iterations()));
    })->Unit(benchmark::kMicrosecond);
  }
}

// Fastest repetition of each row, and how many times faster than the scalar one.
class Reporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.error_occurred || run.run_type != Run::RT_Iteration) continue;
      const std::string& name = run.run_name.function_name;
      const std::size_t slash = name.find('/');
      double& best = times_[name.substr(0, slash)][name.substr(slash + 1)];
      const double time = run.GetAdjustedCPUTime();  // one thread, on a machine that others may use
      best = best == 0.0 || time < best ? time : best;
    }
  }

  void print_ratios() const {
    std::printf("\n%-32s %-32s %10s %14s\n", "shape", "kernel", "us", "scalar/kernel");
    for (const auto& [shape, by_kernel] : times_) {
      double scalar = 0.0;
      for (const auto& [kernel, time] : by_kernel) scalar = kernel.ends_with("_scalar") ? time : scalar;
      for (const auto& [kernel, time] : by_kernel) {
        std::printf("%-32s %-32s %10.2f %14.2f\n", shape.c_str(), kernel.c_str(), time, scalar / time);
      }
    }
  }

 private:
  std::map<std::string, std::map<std::string, double>> times_;
};

// 3 x 3, padding 1, on extent x extent pixels.
void register_depthwise(std::int64_t extent, std::int64_t channels, std::int64_t stride, const std::uint8_t* x,
                        std::uint8_t* y) {
  const std::int64_t out = (extent - 1) / stride + 1;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(9 * channels));
  fill(codes.data(), 9 * channels);
  const std::vector<std::int8_t> values(codes.begin(), codes.end());
  const std::vector<std::int32_t> bias(static_cast<std::size_t>(channels), 100);
  const std::vector<float> multiplier(bias.size(), 0.004F);
  const DepthwiseWeights weights{channels, 3, 3, values.data(), bias.data(), multiplier.data(), 117};
  const std::string shape =
      "depthwise 3x3 s" + std::to_string(stride) + " " + std::to_string(extent) + "^2x" + std::to_string(channels);
  for (const DepthwiseKernel& kernel : depthwise_kernels()) {
    const std::shared_ptr<Line[]> packed(new Line[(kernel.packed_bytes(weights) + 63) / 64]);
    kernel.pack(weights, packed.get());
    register_rows(shape, std::span<const DepthwiseKernel>(&kernel, 1), (extent * extent + out * out) * channels,
                  [=](const DepthwiseKernel& row) {
                    const DepthwiseArgs args{extent, extent, channels, out, out,          3,   3, stride, stride, 1, 1,
                                             1,      1,      x,        y,   packed.get(), 117, 9, 9};
                    row.run(args, 0, out);
                  });
  }
}

void register_all() {
  // Aligned as the values of a session are.
  alignas(64) static std::uint8_t x[1 << 18];
  alignas(64) static std::uint8_t y[1 << 18];
  alignas(64) static std::uint8_t table[3 * 256];
  alignas(64) static float reals[3 * 1024];
  fill(x, sizeof x);
  fill(table, sizeof table);
  Rng rng(2);
  for (float& real : reals) real = rng.normal();

  for (const std::int64_t elems : {8 * 8 * 256, 32 * 32 * 64}) {
    AddArgs add{x, x + elems, y, 0.02F, 0.03F, 0.04F, 10, 20, 30, 30};
    register_rows("add " + std::to_string(elems), add_kernels(), 3 * elems,
                  [=](const AddKernel& kernel) { kernel.run(add, 0, elems); });
  }
  for (const std::int64_t channels : {32, 64, 128}) {
    const std::int64_t extent = channels == 128 ? 14 : 28;
    MaxPoolArgs pool{extent, extent, channels, extent / 2, extent / 2, 2, 2, 2, 2, 1, 1, 0, 0, x, y};
    register_rows("maxpool 2x2 " + std::to_string(extent) + "^2x" + std::to_string(channels), max_pool_kernels(),
                  extent * extent * channels, [=](const MaxPoolKernel& kernel) { kernel.run(pool, 0, pool.out_h); });
  }
  MaxPoolArgs stem{56, 56, 64, 28, 28, 3, 3, 2, 2, 1, 1, 1, 1, x, y};
  register_rows("maxpool 3x3 s2 56^2x64", max_pool_kernels(), 56 * 56 * 64,
                [=](const MaxPoolKernel& kernel) { kernel.run(stem, 0, stem.out_h); });
  for (const auto& [pixels, channels] : {std::pair<std::int64_t, std::int64_t>{49, 128}, {16, 512}}) {
    GlobalAveragePoolArgs average{pixels, channels, x, y, 0.02F, 0.01F, 10, 20};
    register_rows("gap " + std::to_string(pixels) + "x" + std::to_string(channels), global_average_pool_kernels(),
                  pixels * channels, [=](const GlobalAveragePoolKernel& kernel) { kernel.run(average, 0, 1); });
    TransposeArgs transpose{channels, pixels, x, y};
    register_rows("transpose " + std::to_string(pixels) + "x" + std::to_string(channels), transpose_kernels(),
                  2 * pixels * channels, [=](const TransposeKernel& kernel) { kernel.run(transpose, 0, 1); });
  }
  for (const std::int64_t stride : {1, 2}) {
    register_depthwise(28, 128, stride, x, y);
  }
  for (const auto& [channels, pixels] : {std::pair<std::int64_t, std::int64_t>{1, 784}, {3, 1024}}) {
    QuantizeArgs quantize{channels, pixels, x, table, reals, 0.02F, 128, y};
    const std::string shape = std::to_string(channels) + "x" + std::to_string(pixels);
    register_rows("quantize table " + shape, quantize_table_kernels(), 2 * channels * pixels,
                  [=](const QuantizeKernel& kernel) { kernel.run(quantize, 0, pixels); });
    register_rows("quantize affine " + shape, quantize_affine_kernels(), 5 * channels * pixels,
                  [=](const QuantizeKernel& kernel) { kernel.run(quantize, 0, pixels); });
  }
}

}  // namespace
}  // namespace pare::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  pare::kernels::register_all();
  pare::kernels::Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.print_ratios();
  return 0;
}
