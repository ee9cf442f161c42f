#include "pare/pipeline/knapsack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "pare/base/rng.h"

namespace pare::pipeline {
namespace {

using Layers = std::vector<std::vector<KnapsackOption>>;

Layers random_layers(Rng& rng, std::uint64_t largest_cost) {
  Layers layers(1 + rng.below(5));
  for (auto& options : layers) {
    options.resize(1 + rng.below(4));
    for (KnapsackOption& option : options) {
      option.cost = static_cast<std::int64_t>(rng.below(largest_cost));
      // Few different values, so that there are ties.
      option.value = 0.25 * static_cast<double>(rng.below(8));
    }
  }
  return layers;
}

// The least value within the budget, by trying all selections.
std::optional<double> brute_force(const Layers& layers, std::int64_t budget) {
  std::optional<double> best;
  std::vector<std::size_t> selection(layers.size(), 0);
  while (true) {
    std::int64_t cost = 0;
    double value = 0.0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      cost += layers[i][selection[i]].cost;
      value += layers[i][selection[i]].value;
    }
    if (cost <= budget && (!best || value < *best)) best = value;
    std::size_t i = 0;
    while (i < layers.size() && ++selection[i] == layers[i].size()) selection[i++] = 0;
    if (i == layers.size()) return best;
  }
}

void expect_consistent(const Layers& layers, const ParetoFront& front) {
  ASSERT_FALSE(front.points().empty());
  for (std::size_t p = 0; p < front.points().size(); ++p) {
    const ParetoFront::Point& point = front.points()[p];
    ASSERT_EQ(point.options.size(), layers.size());
    std::int64_t cost = 0;
    double value = 0.0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      cost += layers[i][point.options[i]].cost;
      value += layers[i][point.options[i]].value;
    }
    EXPECT_EQ(cost, point.cost);
    EXPECT_EQ(value, point.value);
    if (p > 0) {
      EXPECT_LT(front.points()[p - 1].cost, point.cost);
      EXPECT_GT(front.points()[p - 1].value, point.value);
    }
  }
}

TEST(Knapsack, EqualsBruteForceForEveryBudget) {
  Rng rng(20);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE("seed 20, round " + std::to_string(round));
    const Layers layers = random_layers(rng, 12);
    const ParetoFront front = pareto_front(layers);
    EXPECT_EQ(front.step(), 1);
    expect_consistent(layers, front);
    for (std::int64_t budget = 0; budget < 60; ++budget) {
      const std::optional<double> expected = brute_force(layers, budget);
      const auto found = front.best_within(budget);
      ASSERT_EQ(found.has_value(), expected.has_value()) << "budget " << budget;
      if (found) {
        EXPECT_LE(front.points()[*found].cost, budget);
        EXPECT_EQ(front.points()[*found].value, *expected) << "budget " << budget;
      }
    }
  }
}

// Costs in steps hide differences: a budget is kept all the same, and what is missed is at most a step a layer.
TEST(Knapsack, KeepsTheBudgetWhereStatesAreFew) {
  Rng rng(21);
  std::int64_t largest_step = 1;
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE("seed 21, round " + std::to_string(round));
    const Layers layers = random_layers(rng, 1000);
    const ParetoFront front = pareto_front(layers, 36);
    largest_step = std::max(largest_step, front.step());
    expect_consistent(layers, front);
    const std::int64_t slack = static_cast<std::int64_t>(layers.size()) * (front.step() - 1);
    for (std::int64_t budget = 0; budget < 5000; budget += 97) {
      const auto found = front.best_within(budget);
      const std::optional<double> expected = brute_force(layers, budget - slack);
      if (!expected) continue;
      ASSERT_TRUE(found) << "budget " << budget;
      EXPECT_LE(front.points()[*found].cost, budget);
      EXPECT_LE(front.points()[*found].value, *expected) << "budget " << budget;
    }
  }
  EXPECT_GT(largest_step, 1) << "no instance had more states than were allowed";
}

TEST(Knapsack, AManyLayeredNetworkFits) {
  Rng rng(22);
  Layers layers(60);
  for (auto& options : layers) {
    for (int i = 0; i < 5; ++i) {
      options.push_back({static_cast<std::int64_t>(rng.below(2000000)), static_cast<double>(rng.uniform())});
    }
  }
  const ParetoFront front = pareto_front(layers, 100000);
  expect_consistent(layers, front);
  // The ends are what each layer's own ends are, up to the rounding of costs.
  std::int64_t least = 0;
  double best = 0.0;
  for (const auto& options : layers) {
    least += std::min_element(options.begin(), options.end(), [](auto& a, auto& b) { return a.cost < b.cost; })->cost;
    best += std::min_element(options.begin(), options.end(), [](auto& a, auto& b) { return a.value < b.value; })->value;
  }
  EXPECT_LE(front.points().front().cost, least + 60 * front.step());
  EXPECT_DOUBLE_EQ(front.points().back().value, best);
}

TEST(Knapsack, NoLayersCostNothing) {
  const ParetoFront front = pareto_front({});
  ASSERT_EQ(front.points().size(), 1U);
  EXPECT_EQ(front.points()[0].cost, 0);
  EXPECT_EQ(front.best_within(0), 0U);
  EXPECT_EQ(front.best_within(-1), std::nullopt);
}

TEST(Knapsack, OfEqualsTheFirstOptionWins) {
  const ParetoFront front = pareto_front({{{5, 1.0}, {5, 1.0}}, {{3, 0.0}, {4, 0.0}, {3, 0.0}}});
  ASSERT_EQ(front.points().size(), 1U);
  EXPECT_EQ(front.points()[0].options, (std::vector<std::size_t>{0, 0}));
}

}  // namespace
}  // namespace pare::pipeline
