#include "pare/kernels/epilogue.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "pare/base/rng.h"
#include "pare/format/affine.h"

namespace pare::kernels {
namespace {

TEST(RoundSmall, EqualsNearbyintAtTiesAndBesideThem) {
  for (std::int32_t half = -2048; half <= 2048; ++half) {
    const float tie = static_cast<float>(half) * 0.5F;
    const float inf = std::numeric_limits<float>::infinity();
    for (const float x : {tie, std::nextafterf(tie, inf), std::nextafterf(tie, -inf)}) {
      ASSERT_EQ(round_small(x), static_cast<std::int32_t>(std::nearbyintf(x))) << x;
    }
  }
  EXPECT_EQ(round_small(-0.0F), 0);
  EXPECT_EQ(round_small(4194304.0F), 4194304);
  EXPECT_EQ(round_small(-4194304.0F), -4194304);
}

TEST(RequantizeU8, EqualsFormatForEveryAccumulatorNearTheClamps) {
  // Multipliers with which products fall on ties (powers of two), near them, and anywhere.
  for (const float multiplier : {1.0F, 0.5F, 0.25F, 0.125F, 1.0F / 3.0F, 0.0078125F, 0.0123F, 3.9e-4F}) {
    for (const std::int32_t zero_point : {0, 1, 117, 128, 254, 255}) {
      for (const std::int32_t qmin : {0, zero_point}) {
        const auto limit = static_cast<std::int32_t>(300.0F / multiplier);
        for (std::int32_t acc = -limit; acc <= limit; ++acc) {
          ASSERT_EQ(requantize_u8(acc, multiplier, zero_point, qmin, 255),
                    format::requantize(acc, multiplier, zero_point, {qmin, 255}))
              << "acc " << acc << " multiplier " << multiplier << " zero point " << zero_point << " qmin " << qmin;
        }
      }
    }
  }
}

TEST(RequantizeU8, EqualsFormatForRandomOperandsOfAnySize) {
  const std::uint64_t seed = 20260601;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (int i = 0; i < 2000000; ++i) {
    const auto acc = static_cast<std::int32_t>(static_cast<std::uint32_t>(rng.next()) >> rng.below(32));
    const float multiplier = std::ldexp(1.0F + rng.uniform(), static_cast<int>(rng.below(60)) - 45);
    const auto zero_point = static_cast<std::int32_t>(rng.below(256));
    const std::int32_t qmin = rng.below(2) == 0 ? 0 : zero_point;
    for (const std::int32_t signed_acc : {acc, acc == INT32_MIN ? acc : -acc}) {
      ASSERT_EQ(requantize_u8(signed_acc, multiplier, zero_point, qmin, 255),
                format::requantize(signed_acc, multiplier, zero_point, {qmin, 255}))
          << "acc " << signed_acc << " multiplier " << multiplier << " zero point " << zero_point;
    }
  }
}

}  // namespace
}  // namespace pare::kernels
