// Every kernel of the table over the shapes of real layers; at the end, for each instruction set and shape, the time of
// sparse weights over that of dense. Activations and weights stay warm in the cache, one thread.
#include "pare/kernels/qconv/qconv.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "pare/kernels/testing/bench_ratios.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels {
namespace {

struct Case {
  const char* name;
  std::int64_t batch;
  QConvShape shape;
};
// The first two are the convnet's, the next three resnet20's.
constexpr Case kCases[] = {
    {"28x28x1-32,3x3", 8, {28, 28, 1, 28, 28, 32, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"14x14x32-64,3x3", 8, {14, 14, 32, 14, 14, 64, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"28x28x16-16,3x3", 8, {28, 28, 16, 28, 28, 16, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"28x28x16-32,3x3s2", 8, {28, 28, 16, 14, 14, 32, 3, 3, 2, 2, 1, 1, 1, 1}},
    {"14x14x32-32,3x3", 8, {14, 14, 32, 14, 14, 32, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"28x28x128-128,3x3", 1, {28, 28, 128, 28, 28, 128, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"7x7x512-512,3x3", 1, {7, 7, 512, 7, 7, 512, 3, 3, 1, 1, 1, 1, 1, 1}},
    {"14x14x256-1024,1x1", 1, {14, 14, 256, 14, 14, 1024, 1, 1, 1, 1, 1, 1, 0, 0}},
};

void run(benchmark::State& state, const QConvKernel& kernel, const Case& test) {
  const QConvShape& s = test.shape;
  Rng rng(1);
  const std::int64_t taps = s.kernel_h * s.kernel_w;
  const testing::StoredWeights weights = testing::random_weights(rng, kernel.format, s.out_c, taps, s.in_c);
  const std::vector<std::int32_t> bias(static_cast<std::size_t>(s.out_c), 5);
  const std::vector<float> multiplier(static_cast<std::size_t>(s.out_c), 1e-4F);
  std::vector<std::uint8_t> x(static_cast<std::size_t>(test.batch * s.in_h * s.in_w * s.in_c));
  for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
  std::vector<std::uint8_t> y(static_cast<std::size_t>(test.batch * s.out_h * s.out_w * s.out_c));
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  std::vector<Line> packed((kernel.packed_bytes(weights.view(s.kernel_w)) + 63) / 64);
  kernel.pack(weights.view(s.kernel_w), packed.data());
  QConvArgs args;
  args.shape = s;
  args.x = x.data();
  args.x_zero_point = 117;
  args.packed = packed.data();
  args.y = y.data();
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  std::vector<Line> scratch((kernel.scratch_bytes(args) + 63) / 64);
  for (auto _ : state) {
    kernel.run(args, 0, test.batch * s.out_h, scratch.data());
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  state.counters["MAC/s"] =
      benchmark::Counter(static_cast<double>(test.batch * s.out_h * s.out_w * s.out_c * taps * s.in_c),
                         benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace
}  // namespace pare::kernels

int main(int argc, char** argv) {
  using namespace pare::kernels;
  const std::vector<pare::Isa> here = pare::supported_isas();
  for (const Case& test : kCases) {
    for (const QConvKernel& kernel : qconv_kernels()) {
      if (std::find(here.begin(), here.end(), kernel.isa) == here.end()) continue;
      const std::string format = testing::format_name(kernel.format);
      testing::register_case(test.name, format, std::string(pare::to_string(kernel.isa)), kernel.name,
                             [&kernel, &test](benchmark::State& state) { run(state, kernel, test); });
    }
  }
  return testing::run_and_print_ratios(argc, argv);
}
