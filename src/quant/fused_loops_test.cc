#include "pare/quant/fused_loops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "pare/base/rng.h"

namespace pare::quant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Scheme {
  format::AffineParams params;
  format::QuantRange range;
};

std::vector<Scheme> schemes() {
  std::vector<Scheme> all;
  for (const float scale : {0.125F, 0.0370000005F, 1.0F / 3.0F, format::kMinScale, 1e-3F, 17.3F, 1e30F}) {
    all.push_back({{scale, 0}, format::kInt8WeightRange});
    all.push_back({{scale, 0}, format::kInt8Range});
    all.push_back({{scale, -3}, format::kInt4Range});
    for (const int zero_point : {0, 1, 113, 128, 254, 255}) {
      all.push_back({{scale, zero_point}, format::kUint8Range});
    }
  }
  return all;
}

// Every half step and its float neighbours from beyond one end of the range to beyond the other; ends of float32;
// random values on all scales.
std::vector<float> interesting_values(const Scheme& scheme, std::uint64_t seed) {
  std::vector<float> values = {0.0F,
                               -0.0F,
                               kInfinity,
                               -kInfinity,
                               kNaN,
                               -kNaN,
                               1e30F,
                               -1e30F,
                               1e-40F,
                               -1e-40F,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::lowest(),
                               std::numeric_limits<float>::denorm_min()};
  for (int half = 2 * (scheme.range.qmin - 3); half <= 2 * (scheme.range.qmax + 3); ++half) {
    const float x =
        (static_cast<float>(half) / 2.0F - static_cast<float>(scheme.params.zero_point)) * scheme.params.scale;
    values.insert(values.end(), {x, std::nextafter(x, kInfinity), std::nextafter(x, -kInfinity)});
  }
  Rng rng(seed);
  for (int i = 0; i < 2000; ++i) {
    values.push_back(rng.normal() * scheme.params.scale * 100.0F);
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(rng.next())));
  }
  return values;
}

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(FusedLoops, FakeQuantizeEqualsTheFormatInEveryBit) {
  for (const Scheme& scheme : schemes()) {
    const std::vector<float> x = interesting_values(scheme, 1);
    std::vector<float> y(x.size());
    const QuantizeConstants constants(scheme.params, scheme.range);
    EXPECT_FALSE(fake_quantize(x.data(), y.data(), static_cast<std::int64_t>(x.size()), constants));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(bits(y[i]), bits(format::fake_quantize(x[i], scheme.params, scheme.range)))
          << "x = " << x[i] << ", scale " << scheme.params.scale << ", zero point " << scheme.params.zero_point;
    }
  }
}

TEST(FusedLoops, CodesEqualTheFormat) {
  for (const Scheme& scheme : schemes()) {
    const std::vector<float> x = interesting_values(scheme, 2);
    std::vector<double> codes(x.size());
    quantize(x.data(), codes.data(), static_cast<std::int64_t>(x.size()), {scheme.params, scheme.range});
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(codes[i], format::quantize(x[i], scheme.params, scheme.range)) << "x = " << x[i];
    }
  }
}

TEST(FusedLoops, GradientPassesWhereTheFormatSaysSo) {
  for (const Scheme& scheme : schemes()) {
    const std::vector<float> x = interesting_values(scheme, 3);
    Rng rng(4);
    std::vector<float> grad_y(x.size());
    for (float& g : grad_y) {
      g = rng.normal();
    }
    std::vector<float> grad_x(x.size());
    const QuantizeConstants constants(scheme.params, scheme.range);
    fake_quantize_gradient(x.data(), grad_y.data(), grad_x.data(), static_cast<std::int64_t>(x.size()),
                           GradientBounds(constants.reciprocal, constants.lo, constants.hi));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const bool passes = format::fake_quantize_passes_gradient(x[i], scheme.params, scheme.range);
      ASSERT_EQ(bits(grad_x[i]), passes ? bits(grad_y[i]) : 0U)
          << "x = " << x[i] << ", scale " << scheme.params.scale << ", zero point " << scheme.params.zero_point;
    }
  }
}

TEST(FusedLoops, EveryLengthIsWrittenExactly) {
  const Scheme scheme{{0.1F, 7}, format::kUint8Range};
  const QuantizeConstants constants(scheme.params, scheme.range);
  Rng rng(5);
  std::vector<float> x(67);
  for (float& value : x) {
    value = rng.normal() * 5.0F;
  }
  for (std::int64_t elems = 0; elems <= 66; ++elems) {
    std::vector<float> y(67, 99.0F);
    std::vector<float> grad(67, 99.0F);
    std::vector<double> codes(67, 99.0);
    // From an odd address, so that vectors straddle.
    EXPECT_TRUE(fake_quantize(x.data() + 1, y.data() + 1, elems, constants));
    quantize(x.data() + 1, codes.data() + 1, elems, constants);
    fake_quantize_gradient(x.data() + 1, x.data() + 1, grad.data() + 1, elems,
                           GradientBounds(constants.reciprocal, constants.lo, constants.hi));
    for (std::int64_t i = 0; i < 67; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const bool inside = i >= 1 && i <= elems;
      const bool passes = format::fake_quantize_passes_gradient(x[at], scheme.params, scheme.range);
      EXPECT_EQ(y[at], inside ? format::fake_quantize(x[at], scheme.params, scheme.range) : 99.0F);
      EXPECT_EQ(codes[at], inside ? format::quantize(x[at], scheme.params, scheme.range) : 99.0);
      EXPECT_EQ(grad[at], inside ? (passes ? x[at] : 0.0F) : 99.0F);
    }
  }
}

TEST(FusedLoops, FakeQuantizeWorksInPlace) {
  const QuantizeConstants constants({0.1F, 7}, format::kUint8Range);
  std::vector<float> x = {0.31F, -0.22F, 7.7F, 100.0F, -100.0F, 0.05F, 1.0F};
  std::vector<float> y(x.size());
  (void)fake_quantize(x.data(), y.data(), static_cast<std::int64_t>(x.size()), constants);
  (void)fake_quantize(x.data(), x.data(), static_cast<std::int64_t>(x.size()), constants);
  EXPECT_EQ(x, y);
}

TEST(FusedLoops, MinMaxFindsBothEndsWhereverTheyStand) {
  for (const std::int64_t elems : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 40}) {
    for (std::int64_t low = 0; low < elems; ++low) {
      std::vector<float> x(static_cast<std::size_t>(elems), 0.5F);
      const auto high = static_cast<std::size_t>((low + 1) % elems);
      x[high] = 2.0F;
      x[static_cast<std::size_t>(low)] = -3.0F;
      float min = 0.0F;
      float max = 0.0F;
      ASSERT_TRUE(min_max(x.data(), elems, min, max));
      EXPECT_EQ(min, -3.0F);
      EXPECT_EQ(max, elems == 1 ? -3.0F : 2.0F);
    }
  }
}

TEST(FusedLoops, EveryFaultyElementIsNoticed) {
  for (const float fault : {kNaN, kInfinity, -kInfinity}) {
    for (const std::int64_t elems : {1, 3, 4, 5, 8, 13, 33}) {
      for (std::int64_t at = 0; at < elems; ++at) {
        std::vector<float> x(static_cast<std::size_t>(elems), 1.5F);
        x[static_cast<std::size_t>(at)] = fault;
        std::vector<float> y(x.size());
        float min = 0.0F;
        float max = 0.0F;
        EXPECT_FALSE(min_max(x.data(), elems, min, max)) << fault << " at " << at << " of " << elems;
        EXPECT_FALSE(fake_quantize(x.data(), y.data(), elems, {{0.1F, 3}, format::kUint8Range}));
      }
    }
  }
}

TEST(FusedLoops, LargeFiniteValuesAreNoFault) {
  const std::vector<float> x(40, std::numeric_limits<float>::max());
  std::vector<float> y(x.size());
  float min = 0.0F;
  float max = 0.0F;
  EXPECT_TRUE(min_max(x.data(), 40, min, max));
  EXPECT_TRUE(fake_quantize(x.data(), y.data(), 40, {{0.1F, 3}, format::kUint8Range}));
}

}  // namespace
}  // namespace pare::quant
