#include "pare/base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace pare {
namespace {

TEST(Rng, IsSplitMix64) {
  // The reference sequence of Vigna's splitmix64.c for seed 1234567.
  Rng rng(1234567);
  for (const std::uint64_t expected : {6457827717110365317U, 3203168211198807973U, 9817491932198370423U,
                                       4593380528125082431U, 16408922859458223821U}) {
    EXPECT_EQ(rng.next(), expected);
  }
}

TEST(Rng, StreamsAreRepeatableAndDifferent) {
  std::set<std::uint64_t> firsts;
  constexpr std::uint64_t kEach = 12;
  for (std::uint64_t seed = 0; seed < kEach; ++seed) {
    for (std::uint64_t a = 0; a < kEach; ++a) {
      for (std::uint64_t b = 0; b < kEach; ++b) {
        Rng once(seed, a, b);
        Rng again(seed, a, b);
        const std::uint64_t first = once.next();
        EXPECT_EQ(again.next(), first);
        firsts.insert(first);
        // A neighbour that is one step behind would show its first number here.
        firsts.insert(once.next());
      }
    }
  }
  EXPECT_EQ(firsts.size(), 2 * kEach * kEach * kEach);
}

TEST(Rng, BelowStaysBelowAndReachesEveryValue) {
  Rng rng(1);
  for (const std::uint64_t bound : {1U, 2U, 3U, 7U, 10U}) {
    std::vector<int> counts(bound);
    constexpr int kDraws = 7000;
    for (int i = 0; i < kDraws; ++i) {
      const std::uint64_t value = rng.below(bound);
      ASSERT_LT(value, bound);
      ++counts[value];
    }
    // Binomial: six standard deviations either side.
    const double p = 1.0 / static_cast<double>(bound);
    for (const int count : counts) EXPECT_NEAR(count, kDraws * p, 6 * std::sqrt(kDraws * p * (1 - p)) + 1e-9) << bound;
  }
}

TEST(Rng, BelowHasNoModuloBias) {
  // With a bound of 3/4 of 2^64 the plain remainder would give the lowest third twice as often as the others.
  constexpr std::uint64_t kBound = 3ULL << 62;
  Rng rng(2);
  constexpr int kDraws = 6000;
  int lowest_third = 0;
  for (int i = 0; i < kDraws; ++i) lowest_third += rng.below(kBound) < (kBound / 3) ? 1 : 0;
  EXPECT_NEAR(lowest_third, kDraws / 3, 6 * std::sqrt(kDraws * 2.0 / 9.0));
}

TEST(Rng, UniformFillsTheHalfOpenUnitInterval) {
  Rng rng(3);
  constexpr int kDraws = 20'000;
  double sum = 0;
  float lowest = 1;
  float highest = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float value = rng.uniform();
    ASSERT_GE(value, 0.0F);
    ASSERT_LT(value, 1.0F);
    EXPECT_EQ(value * 0x1p24F, std::floor(value * 0x1p24F));
    sum += value;
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 6 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_LT(lowest, 0.01F);
  EXPECT_GT(highest, 0.99F);
}

TEST(Rng, NormalHasTheMomentsOfANormal) {
  Rng rng(4);
  constexpr int kDraws = 100'000;
  std::array<double, 5> moments{};
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = rng.normal();
    ASSERT_TRUE(std::isfinite(value));
    double power = 1;
    for (double& moment : moments) {
      moment += power / kDraws;
      power *= value;
    }
    beyond_two += std::abs(value) > 2 ? 1 : 0;
  }
  // Standard errors: sqrt(var(x^k) / n), var = 1, 2, 15, 96 for k = 1 to 4.
  const double n = kDraws;
  EXPECT_NEAR(moments[1], 0, 6 * std::sqrt(1 / n));
  EXPECT_NEAR(moments[2], 1, 6 * std::sqrt(2 / n));
  EXPECT_NEAR(moments[3], 0, 6 * std::sqrt(15 / n));
  EXPECT_NEAR(moments[4], 3, 6 * std::sqrt(96 / n));
  const double p = std::erfc(std::sqrt(2.0));
  EXPECT_NEAR(beyond_two / n, p, 6 * std::sqrt(p * (1 - p) / n));
}

TEST(Rng, NormalIsThePolarFormToTheLastBitOfAFloat) {
  // The same formula with the C library's logarithm, which may differ by a bit of a double, not of a float.
  Rng rng(5);
  Rng raw(5);
  for (int i = 0; i < 10'000; ++i) {
    double u = 0;
    double radius_squared = 0;
    do {
      u = static_cast<double>(raw.next() >> 11) * 0x1p-52 - 1;
      const double v = static_cast<double>(raw.next() >> 11) * 0x1p-52 - 1;
      radius_squared = u * u + v * v;
    } while (radius_squared >= 1 || radius_squared == 0);
    const double expected = u * std::sqrt(-2 * std::log(radius_squared) / radius_squared);
    EXPECT_FLOAT_EQ(rng.normal(), static_cast<float>(expected));
  }
}

TEST(Rng, ShuffleReachesEveryPermutationEquallyOften) {
  Rng rng(6);
  std::array<int, 24> counts{};
  constexpr int kDraws = 12'000;
  for (int i = 0; i < kDraws; ++i) {
    std::array<std::uint32_t, 4> items = {0, 1, 2, 3};
    rng.shuffle(items);
    int rank = 0;  // in lexicographic order
    for (std::size_t at = 0; at < 4; ++at) {
      const auto smaller = std::count_if(items.begin() + at, items.end(), [&](auto item) { return item < items[at]; });
      rank = rank * static_cast<int>(4 - at) + static_cast<int>(smaller);
    }
    ++counts.at(static_cast<std::size_t>(rank));
  }
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 24, 6 * std::sqrt(kDraws / 24.0));
}

TEST(Rng, ShuffleTakesEmptyAndSingle) {
  Rng rng(7);
  rng.shuffle({});
  std::array<std::uint32_t, 1> one = {9};
  rng.shuffle(one);
  EXPECT_EQ(one[0], 9U);
}

}  // namespace
}  // namespace pare
