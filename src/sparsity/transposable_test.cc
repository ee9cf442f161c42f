#include "pare/sparsity/transposable.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "pare/base/error.h"
#include "pare/format/two_four.h"
#include "pare/sparsity/mask.h"
#include "pare/sparsity/sparse_gpt.h"
#include "pare/sparsity/testing/mask_reference.h"

namespace pare::sparsity {
namespace {

using testing::random_weights;

const MaskConfig kTransposable = MaskConfig::from_pattern("2:4t");

std::vector<float> mask_of(const std::vector<float>& weight, const MaskShape& shape, const MaskConfig& config) {
  std::vector<float> mask(weight.size(), -1.0F);
  weight_norm_mask(weight.data(), shape, config, mask.data());
  return mask;
}

// All that 16 bits can be, tried one after the other.
std::vector<unsigned> patterns_by_brute_force() {
  std::vector<unsigned> patterns;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    bool two_everywhere = true;
    for (unsigned i = 0; i < 4; ++i) {
      two_everywhere =
          two_everywhere && std::popcount(bits & 0xFU << 4 * i) == 2 && std::popcount(bits & 0x1111U << i) == 2;
    }
    if (two_everywhere) {
      patterns.push_back(bits);
    }
  }
  return patterns;
}

// Sum of |w|^norm that a pattern keeps of the tile at (top, left); `mask` in place of a pattern if it is not null.
double kept(const std::vector<float>& weight, std::int64_t rows, std::int64_t cols, std::int64_t top, std::int64_t left,
            unsigned pattern, const std::vector<float>* mask, int norm) {
  double sum = 0.0;
  for (std::int64_t r = top; r < std::min(top + 4, rows); ++r) {
    for (std::int64_t c = left; c < std::min(left + 4, cols); ++c) {
      const auto i = static_cast<std::size_t>(r * cols + c);
      const bool stays = mask != nullptr ? (*mask)[i] != 0.0F : (pattern >> (4 * (r - top) + c - left) & 1U) != 0;
      sum += stays ? std::pow(std::abs(static_cast<double>(weight[i])), norm) : 0.0;
    }
  }
  return sum;
}

TEST(TransposableMask, HasNinetyPatternsThatKeepTheFirstFirst) {
  std::vector<unsigned> expected = patterns_by_brute_force();
  ASSERT_EQ(expected.size(), kTransposablePatterns);
  // Bit 0 is the first position: a pattern comes earlier if it has the lowest bit in which two differ.
  std::sort(expected.begin(), expected.end(), [](unsigned a, unsigned b) {
    const unsigned differ = a ^ b;
    return (a & (differ & (~differ + 1))) != 0;
  });
  EXPECT_EQ(std::vector<unsigned>(transposable_patterns().begin(), transposable_patterns().end()), expected);
}

// Weights of few magnitudes have exact sums, so that the best is the best to the last bit, ties included.
TEST(TransposableMask, KeepsTheMostThatAnyPatternCan) {
  const std::vector<unsigned> patterns = patterns_by_brute_force();
  std::uint64_t seed = 0;
  for (std::int64_t rows = 1; rows <= 9; ++rows) {
    for (std::int64_t cols = 1; cols <= 9; ++cols) {
      for (const bool ties : {true, false}) {
        for (const int norm : {1, 2}) {
          SCOPED_TRACE(::testing::Message() << rows << "x" << cols << " ties " << ties << " norm " << norm);
          MaskConfig config = kTransposable;
          config.norm = norm;
          const std::vector<float> weight = random_weights(static_cast<std::size_t>(rows * cols), ++seed, ties);
          const std::vector<float> mask = mask_of(weight, {rows, cols}, config);
          EXPECT_TRUE(is_transposable(mask.data(), rows, cols));
          for (std::int64_t top = 0; top < rows; top += 4) {
            for (std::int64_t left = 0; left < cols; left += 4) {
              double best = 0.0;
              for (const unsigned pattern : patterns) {
                best = std::max(best, kept(weight, rows, cols, top, left, pattern, nullptr, norm));
              }
              // Eight float64 sums in another order: 8 * 2^-53 of the sum.
              const double tolerance = ties ? 0.0 : best * 8 * 0x1p-53;
              EXPECT_GE(kept(weight, rows, cols, top, left, 0, &mask, norm), best - tolerance);
            }
          }
        }
      }
    }
  }
}

TEST(TransposableMask, KeepsTheFirstAmongEquals) {
  EXPECT_EQ(mask_of(std::vector<float>(16, -3.0F), {4, 4}, kTransposable),
            (std::vector<float>{1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1}));
}

// What torch does instead: the greatest magnitude that row and column still have room for, and so on.
double greedy_sum(const std::vector<float>& tile) {
  std::vector<std::size_t> order(16);
  for (std::size_t i = 0; i < 16; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return std::abs(tile[a]) > std::abs(tile[b]); });
  std::vector<int> row(4);
  std::vector<int> col(4);
  double sum = 0.0;
  for (const std::size_t i : order) {
    if (row[i / 4] < 2 && col[i % 4] < 2) {
      ++row[i / 4];
      ++col[i % 4];
      sum += std::abs(static_cast<double>(tile[i]));
    }
  }
  return sum;
}

TEST(TransposableMask, KeepsMoreThanGreedyChoiceDoes) {
  MaskConfig config = kTransposable;
  config.norm = 1;
  double best_kept = 0.0;
  double greedy_kept = 0.0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const std::vector<float> tile = random_weights(16, seed, false);
    const std::vector<float> mask = mask_of(tile, {4, 4}, config);
    best_kept += kept(tile, 4, 4, 0, 0, 0, &mask, 1);
    greedy_kept += greedy_sum(tile);
  }
  EXPECT_GT(best_kept, greedy_kept);
}

TEST(TransposableMask, IsTwoFourBothWays) {
  const std::int64_t rows = 40;
  const std::int64_t cols = 36;
  const std::vector<float> mask = mask_of(random_weights(rows * cols, 9, false), {rows, cols}, kTransposable);
  std::vector<std::int8_t> codes(mask.size());
  std::vector<std::int8_t> transposed(mask.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<std::int8_t>(mask[static_cast<std::size_t>(r * cols + c)]);
      codes[static_cast<std::size_t>(r * cols + c)] = code;
      transposed[static_cast<std::size_t>(c * rows + r)] = code;
    }
  }
  EXPECT_EQ(std::count(codes.begin(), codes.end(), 1), rows * cols / 2);
  EXPECT_EQ(format::find_two_four_violation(codes, {rows, 1, cols}).violations, 0);
  EXPECT_EQ(format::find_two_four_violation(transposed, {cols, 1, rows}).violations, 0);
}

TEST(TransposableMask, TilesStayWithinATapOfAConvolution) {
  const std::vector<float> weight = random_weights(3 * 6 * 8, 4, false);
  const std::vector<float> all = mask_of(weight, {6, 8, 3}, kTransposable);
  for (std::size_t tap = 0; tap < 3; ++tap) {
    const auto first = static_cast<std::ptrdiff_t>(tap * 48);
    const std::vector<float> one(weight.begin() + first, weight.begin() + first + 48);
    EXPECT_EQ(std::vector<float>(all.begin() + first, all.begin() + first + 48), mask_of(one, {6, 8}, kTransposable));
  }
}

TEST(TransposableMask, BelowLevelOneTakesTheTilesOfLeastNorm) {
  MaskConfig config = kTransposable;
  config.sparsity_level = 0.5;
  std::vector<float> weight(4 * 8, 1.0F);
  weight[4] = 9.0F;  // of the second tile
  const std::vector<float> mask = mask_of(weight, {4, 8}, config);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const std::size_t row = i / 8;
    const std::size_t col = i % 8;
    EXPECT_EQ(mask[i], col >= 4 || (row < 2) == (col < 2) ? 1.0F : 0.0F) << row << " " << col;
  }
  EXPECT_EQ(pattern_name(config), "2:4t in 0.5 of the blocks");
  EXPECT_EQ(config.vnm(), std::nullopt);
}

TEST(TransposableMask, RanksNanAboveInfinityAboveNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> weight(16, 3e38F);
  weight[2] = weight[3] = nan;
  weight[0] = inf;  // row 0 has room for two
  const std::vector<float> mask = mask_of(weight, {4, 4}, kTransposable);
  EXPECT_EQ(std::vector<float>(mask.begin(), mask.begin() + 4), (std::vector<float>{0, 0, 1, 1}));
  EXPECT_TRUE(is_transposable(mask.data(), 4, 4));
}

TEST(TransposableMask, CheckerSeesRowsAndColumns) {
  std::vector<float> mask = mask_of(random_weights(64, 6, false), {8, 8}, kTransposable);
  EXPECT_TRUE(is_transposable(mask.data(), 8, 8));
  const std::vector<float> columns_only = {1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1};  // three in row 0
  EXPECT_FALSE(is_transposable(columns_only.data(), 4, 4));
  const std::vector<float> rows_only = {1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1};  // three in column 0
  EXPECT_FALSE(is_transposable(rows_only.data(), 4, 4));
  std::fill(mask.begin() + 36, mask.begin() + 40, 1.0F);  // row 4, second tile
  EXPECT_FALSE(is_transposable(mask.data(), 8, 8));
}

TEST(TransposableMask, IsOnePatternOfAMaskConfig) {
  EXPECT_EQ(pattern_name(kTransposable), "2:4t");
  EXPECT_EQ(kTransposable.vnm(), (format::VnmPattern{1, 2, 4}));
  EXPECT_FALSE(sparse_gpt_supports(kTransposable));
  for (const MaskConfig& wrong : {MaskConfig{1.0, {1, 4}, 2, 2, BlockRule::kTransposable},
                                  MaskConfig{1.0, {4, 4}, 4, 2, BlockRule::kTransposable}}) {
    try {
      wrong.validate("fc1.weight");
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("2:4t"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace pare::sparsity
