#include "pare/kernels/dot/dot_s16.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/two_four.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

TEST(DotS16, AddsTheSumOfProductsAtFullRange) {
  const std::uint64_t seed = 7;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const std::int64_t k : {0, 16, 32, 1008, 1024}) {
    std::vector<std::int16_t> a(static_cast<std::size_t>(4 * k + 1));
    std::vector<std::int16_t> w(static_cast<std::size_t>(2 * k + 1));
    for (std::int16_t& code : a) code = static_cast<std::int16_t>(static_cast<int>(rng.below(511)) - 255);
    for (std::int16_t& code : w) code = static_cast<std::int16_t>(static_cast<int>(rng.below(256)) - 128);
    std::vector<std::int32_t> acc(4 * kDotBlock, 1000);
    dot_s16_4x2(a.data(), k, w.data(), k, k, acc.data(), kDotBlock);
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t j = 0; j < 2; ++j) {
        std::int64_t sum = 1000;
        for (std::int64_t i = 0; i < k; ++i) {
          sum += std::int64_t{a[static_cast<std::size_t>(r * k + i)]} * w[static_cast<std::size_t>(j * k + i)];
        }
        EXPECT_EQ(acc[static_cast<std::size_t>(r * kDotBlock + j)], sum) << "k " << k;
      }
      EXPECT_EQ(acc[static_cast<std::size_t>(r * kDotBlock + 2)], 1000) << "a column beyond the tile was written";
    }
  }
}

// Packing expands 2:4 by its own code; what is compared here was decoded by format/.
TEST(PackS16, HoldsTheCodesThatFormatDecodesAndZerosElsewhere) {
  const std::uint64_t seed = 11;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const WeightFormat format : {WeightFormat::kDense, WeightFormat::kTwoFour}) {
    for (const std::int64_t n : {1, 2, 3, 8}) {
      for (const std::int64_t segments : {1, 3, 9, 16}) {
        for (const std::int64_t elems : {1, 2, 3, 4, 5, 7, 8, 13, 30, 64}) {
          const testing::StoredWeights weights = testing::random_weights(rng, format, n, segments, elems);
          const std::vector<std::int8_t> decoded =
              format == WeightFormat::kDense
                  ? weights.dense
                  : format::decode_two_four(weights.two_four.values, weights.two_four.indices, {n, segments, elems});
          const std::int64_t stride = dot_padded(segments * elems);
          for (const std::uint8_t poison : kPoisons) {
            const std::size_t bytes = packed_bytes_s16(weights.view());
            ASSERT_EQ(bytes, static_cast<std::size_t>((n + 1) / 2 * 2 * stride * 2));
            Guarded<std::int16_t> packed(static_cast<std::int64_t>(bytes / 2), poison, 64);
            (format == WeightFormat::kDense ? pack_s16_dense : pack_s16_two_four)(weights.view(), packed.data());
            EXPECT_TRUE(packed.guards_intact());
            for (std::int64_t i = 0; i < static_cast<std::int64_t>(bytes / 2); ++i) {
              const std::int64_t row = i / stride;
              const std::int64_t k = i % stride;
              const bool is_weight = row < n && k < segments * elems;
              const int expected = is_weight ? decoded[static_cast<std::size_t>(row * segments * elems + k)] : 0;
              ASSERT_EQ(packed.data()[i], expected)
                  << "row " << row << " k " << k << " segments " << segments << " x " << elems << " n " << n;
            }
          }
        }
      }
    }
  }
}

TEST(WeightAt, ReadsWhatFormatDecodes) {
  const std::uint64_t seed = 12;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const std::int64_t elems : {1, 2, 3, 4, 6, 9, 16}) {
    const testing::StoredWeights weights = testing::random_weights(rng, WeightFormat::kTwoFour, 3, 5, elems);
    const std::vector<std::int8_t> decoded =
        format::decode_two_four(weights.two_four.values, weights.two_four.indices, {3, 5, elems});
    ASSERT_EQ(decoded, weights.dense);
    for (std::int64_t i = 0; i < 15 * elems; ++i) {
      EXPECT_EQ(weight_at(weights.view(), WeightFormat::kTwoFour, i / (5 * elems), i % (5 * elems)),
                decoded[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
