#include "pare/channels/order_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/channels/testing/kept_reference.h"

namespace pare::channels {
namespace {

using testing::reference_kept;
using Order = std::vector<std::int64_t>;

std::vector<float> random_importance(std::int64_t count, Rng& rng) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = std::abs(rng.normal());
  return values;
}

Order natural(std::int64_t channels) {
  Order order(static_cast<std::size_t>(channels));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

Order shuffled(std::int64_t channels, Rng& rng) {
  std::vector<std::uint32_t> items(static_cast<std::size_t>(channels));
  std::iota(items.begin(), items.end(), 0);
  rng.shuffle(items);
  return {items.begin(), items.end()};
}

ColumnTerm random_columns(std::int64_t channels, std::int64_t n, std::int64_t m, std::int64_t rows, Rng& rng) {
  return {.n = n, .m = m, .rows = rows, .importance = random_importance(channels * rows, rng)};
}

RowTerm random_rows(std::int64_t channels, std::int64_t v, std::int64_t segments, std::int64_t elems, Rng& rng) {
  return {.v = v,
          .n = 2,
          .m = 4,
          .segments = segments,
          .segment_elems = elems,
          .importance = random_importance(channels * segments * elems, rng)};
}

// Tails in groups and blocks, more rows than one tile, several terms with different groups.
std::vector<OrderProblem> problems(std::uint64_t seed) {
  Rng rng(seed, 1);
  std::vector<OrderProblem> all;
  for (const std::int64_t channels : {1, 3, 16, 37}) {
    all.push_back({channels, {random_columns(channels, 2, 4, 23, rng)}, {}});
    all.push_back({channels, {random_columns(channels, 1, 4, 1100, rng)}, {}});
    all.push_back({channels, {random_columns(channels, 3, 16, 5, rng), random_columns(channels, 2, 8, 9, rng)}, {}});
    all.push_back({channels, {}, {random_rows(channels, 8, 3, 10, rng)}});
    all.push_back({channels,
                   {random_columns(channels, 2, 4, 23, rng)},
                   {random_rows(channels, 8, 1, 21, rng), random_rows(channels, 4, 2, 7, rng)}});
    all.push_back({channels, {}, {}});
  }
  return all;
}

std::string label(const OrderProblem& problem) {
  return std::to_string(problem.channels) + " channels, " + std::to_string(problem.columns.size()) + " column and " +
         std::to_string(problem.rows.size()) + " row terms";
}

TEST(OrderSearch, KeptImportanceIsWhatSortingGives) {
  for (const std::uint64_t seed : {1U, 2U}) {
    for (const OrderProblem& problem : problems(seed)) {
      SCOPED_TRACE(label(problem));
      Rng rng(seed, 2);
      const Order order = shuffled(problem.channels, rng);
      const double expected = reference_kept(problem, order);
      // Sums over the 8 rows of a block are float32; everything else is double.
      EXPECT_NEAR(kept_importance(problem, order), expected, 8 * 6e-8 * expected + 1e-12);
    }
  }
}

TEST(OrderSearch, GivesAPermutationThatKeepsNoLess) {
  for (const std::uint64_t seed : {1U, 2U}) {
    for (const OrderProblem& problem : problems(seed)) {
      SCOPED_TRACE(label(problem));
      const OrderSearchResult result = search_order(problem, {.seed = seed});
      Order sorted = result.order;
      std::ranges::sort(sorted);
      EXPECT_EQ(sorted, natural(problem.channels));
      EXPECT_EQ(result.kept_before, kept_importance(problem, natural(problem.channels)));
      EXPECT_EQ(result.kept_after, kept_importance(problem, result.order));
      const bool can_gain = problem.channels > 16 && problem.columns.size() + problem.rows.size() > 0;
      EXPECT_GE(result.kept_after, result.kept_before * (can_gain ? 1.001 : 1.0));
    }
  }
}

TEST(OrderSearch, EndsWhereNoSwapGains) {
  for (const std::uint64_t seed : {1U, 2U}) {
    for (const OrderProblem& problem : problems(seed)) {
      // With several column terms, swaps within a group of one of them are passed over.
      if (problem.columns.size() != 1 || !problem.rows.empty()) continue;
      SCOPED_TRACE(label(problem));
      const Order order = search_order(problem, {.seed = seed}).order;
      const double kept = reference_kept(problem, order);
      for (std::size_t a = 0; a < order.size(); ++a) {
        for (std::size_t b = 0; b < a; ++b) {
          Order swapped = order;
          std::swap(swapped[a], swapped[b]);
          EXPECT_LE(reference_kept(problem, swapped), kept * (1 + 3e-5)) << a << " " << b;
        }
      }
    }
  }
}

TEST(OrderSearch, FindsThePlantedGroups) {
  // Each row needs two channels, which stand in one group, and of which the search is told nothing.
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    Rng rng(seed, 3);
    constexpr std::int64_t kChannels = 32;
    const Order hidden = shuffled(kChannels, rng);
    OrderProblem problem{kChannels, {{.n = 1, .m = 4, .rows = 64, .importance = {}}}, {}};
    problem.columns[0].importance.assign(kChannels * 64, 0.0F);
    for (std::int64_t row = 0; row < 64; ++row) {
      for (std::int64_t group = 0; group < kChannels / 4; ++group) {
        const auto place = static_cast<std::size_t>(group * 4) + rng.below(4);
        problem.columns[0].importance[static_cast<std::size_t>(hidden[place] * 64 + row)] = 1.0F;
      }
    }
    const OrderSearchResult result = search_order(problem, {.seed = seed, .escapes = 50});
    EXPECT_LT(result.kept_before, 0.8 * 64 * kChannels / 4);
    EXPECT_EQ(result.kept_after, 64.0 * kChannels / 4);
  }
}

TEST(OrderSearch, FindsThePlantedBlocks) {
  // Four kinds of rows, each with columns of its own; blocks of 8 rows, the last one of 4.
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    Rng rng(seed, 4);
    constexpr std::int64_t kChannels = 28;
    constexpr std::int64_t kElems = 40;
    OrderProblem problem{kChannels, {}, {random_rows(kChannels, 8, 2, kElems / 2, rng)}};
    const Order hidden = shuffled(kChannels, rng);
    std::vector<float>& importance = problem.rows[0].importance;
    for (std::int64_t i = 0; i < kChannels; ++i) {
      const std::int64_t kind = i / 8;
      for (std::int64_t k = 0; k < kElems; ++k) {
        float& value = importance[static_cast<std::size_t>(hidden[static_cast<std::size_t>(i)] * kElems + k)];
        const bool kept = ((kind >> (k / 4 % 2)) & 1) == (k % 4) / 2;
        value = kept ? 1.0F + value : 0.0F;
      }
    }
    const double total = std::accumulate(importance.begin(), importance.end(), 0.0);
    const OrderSearchResult result = search_order(problem, {.seed = seed, .escapes = 50});
    EXPECT_LT(result.kept_before, 0.9 * total);
    EXPECT_NEAR(result.kept_after, total, 8 * 6e-8 * total);
  }
}

TEST(OrderSearch, RepeatsForASeedAndGainsByEscapes) {
  Rng rng(5, 5);
  const OrderProblem problem{64, {random_columns(64, 2, 4, 50, rng)}, {random_rows(64, 16, 1, 64, rng)}};
  const OrderSearchResult once = search_order(problem, {.seed = 9});
  const OrderSearchResult again = search_order(problem, {.seed = 9});
  EXPECT_EQ(once.order, again.order);
  EXPECT_EQ(once.swaps, again.swaps);
  EXPECT_GT(once.kept_after, search_order(problem, {.seed = 9, .escapes = 0}).kept_after);
  EXPECT_NE(once.order, search_order(problem, {.seed = 10}).order);
}

TEST(OrderSearch, EndsWhenToldToWithTheBestSoFar) {
  Rng rng(6, 6);
  const OrderProblem problem{64, {random_columns(64, 2, 4, 50, rng)}, {}};
  const OrderSearchResult none = search_order(problem, {.keep_going = [] { return false; }});
  EXPECT_EQ(none.order, natural(64));
  EXPECT_EQ(none.kept_after, none.kept_before);
  int rounds = 3;
  const OrderSearchResult some = search_order(problem, {.keep_going = [&rounds] { return rounds-- > 0; }});
  EXPECT_GT(some.kept_after, some.kept_before);
  EXPECT_LT(some.kept_after, search_order(problem, {}).kept_after);
}

TEST(OrderSearch, EndsWhereOneChannelOutweighsAllOthers) {
  // Gains among the small ones drown in the rounding of sums that the large one is in.
  Rng rng(7, 7);
  OrderProblem problem{64, {random_columns(64, 2, 4, 3000, rng)}, {}};
  for (std::size_t i = 0; i < 3000; ++i) problem.columns[0].importance[i] *= 1e6F;
  const OrderSearchResult result = search_order(problem, {.escapes = 1});
  EXPECT_GE(result.kept_after, result.kept_before);
}

TEST(OrderSearch, OfNothingButZerosKeepsTheOrder) {
  const OrderProblem problem{8, {{.n = 2, .m = 4, .rows = 3, .importance = std::vector<float>(24, 0.0F)}}, {}};
  const OrderSearchResult result = search_order(problem, {});
  EXPECT_EQ(result.order, natural(8));
  EXPECT_EQ(result.kept_after, 0.0);
}

}  // namespace
}  // namespace pare::channels
