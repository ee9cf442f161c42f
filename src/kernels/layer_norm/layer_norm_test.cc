#include "pare/kernels/layer_norm/layer_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

std::vector<float> numbers(Rng& rng, std::int64_t count, float middle) {
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = middle + 3.0F * (2.0F * rng.uniform() - 1.0F);
  return x;
}

TEST(LayerNorm, EveryKernelEqualsTheReferenceAndKeepsToItsRows) {
  const std::uint64_t seed = 67;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  constexpr std::int64_t kRows = 4;
  for (const LayerNormKernel& kernel : layer_norm_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t features : {1, 2, 7, 15, 16, 17, 31, 32, 33, 100, 512, 1001}) {
      const std::vector<float> x = numbers(rng, kRows * features, 1.0F);
      const std::vector<float> weight = numbers(rng, features, 0.0F);
      const std::vector<float> bias = numbers(rng, features, 0.0F);
      std::vector<float> expected(x.size());
      std::vector<std::uint8_t> expected_codes(x.size());
      LayerNormArgs args{features, x.data(), weight.data(), bias.data(), 1e-5F, {expected.data(), nullptr, 1.0F, 0}};
      reference_layer_norm(args, 0, kRows);
      args.y = {nullptr, expected_codes.data(), 0.05F, 120};
      reference_layer_norm(args, 0, kRows);
      for (const std::uint8_t poison : kPoisons) {
        Guarded<float> x_guarded(kRows * features, poison);
        Guarded<float> weight_guarded(features, poison);
        Guarded<float> bias_guarded(features, poison);
        Guarded<float> y(kRows * features, poison);
        Guarded<std::uint8_t> codes(kRows * features, poison);
        x_guarded.assign(x);
        weight_guarded.assign(weight);
        bias_guarded.assign(bias);
        args.x = x_guarded.data();
        args.weight = weight_guarded.data();
        args.bias = bias_guarded.data();
        args.y = {y.data(), nullptr, 1.0F, 0};
        kernel.run(args, 1, kRows);
        kernel.run(args, 0, 1);
        EXPECT_EQ(std::vector<float>(y.items().begin(), y.items().end()), expected) << kernel.name << " " << features;
        args.y = {nullptr, codes.data(), 0.05F, 120};
        kernel.run(args, 0, kRows);
        EXPECT_EQ(std::vector<std::uint8_t>(codes.items().begin(), codes.items().end()), expected_codes)
            << kernel.name << " " << features;
        EXPECT_TRUE(x_guarded.guards_intact() && weight_guarded.guards_intact() && bias_guarded.guards_intact() &&
                    y.guards_intact() && codes.guards_intact())
            << kernel.name << " " << features;
      }
    }
  }
}

// Against doubles. 512 numbers of size 4 in 16 parts: the mean is off by at most (32 + 4) * 2^-24 * 4 = 9e-6, which the
// division by a deviation near 1.7 makes less of; the variance's relative error is of the same order.
TEST(LayerNorm, ReferenceNormalizesRows) {
  Rng rng(68);
  constexpr std::int64_t kFeatures = 512;
  const std::vector<float> x = numbers(rng, kFeatures, 1.0F);
  const std::vector<float> weight(kFeatures, 1.0F);
  const std::vector<float> bias(kFeatures, 0.0F);
  std::vector<float> y(kFeatures);
  const LayerNormArgs args{kFeatures, x.data(), weight.data(), bias.data(), 1e-5F, {y.data(), nullptr, 1.0F, 0}};
  reference_layer_norm(args, 0, 1);
  double mean = 0.0;
  for (const float value : x) mean += value;
  mean /= kFeatures;
  double variance = 0.0;
  for (const float value : x) variance += (value - mean) * (value - mean);
  variance /= kFeatures;
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(y[i], (x[i] - mean) / std::sqrt(variance + 1e-5), 2e-5) << i;
  }
}

}  // namespace
}  // namespace pare::kernels
