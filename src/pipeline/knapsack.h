// A multiple-choice knapsack: one option for each layer, and every trade-off between total cost and total value that is
// worth having. Plain numbers: no LibTorch, no files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace pare::pipeline {

struct KnapsackOption {
  std::int64_t cost = 0;  // >= 0, what a budget limits: bytes, nanoseconds, images
  double value = 0.0;     // >= 0, what is to be small
};

// The selections of which no other costs as little and is worth as much, by ascending cost and descending value.
class ParetoFront {
 public:
  struct Point {
    std::int64_t cost = 0;
    double value = 0.0;
    std::vector<std::size_t> options;  // one for each layer
  };

  ParetoFront(std::vector<Point> points, std::int64_t step) : points_(std::move(points)), step_(step) {}

  [[nodiscard]] const std::vector<Point>& points() const { return points_; }
  // 1: the front is exact. Otherwise selections were compared by costs in such steps, so that a point may be missed
  // whose cost is less than layers * step below that of one in the front. Costs of points are exact all the same.
  [[nodiscard]] std::int64_t step() const { return step_; }
  // The number of the point with the least value that costs at most `budget`; none if even the cheapest costs more.
  [[nodiscard]] std::optional<std::size_t> best_within(std::int64_t budget) const;

 private:
  std::vector<Point> points_;
  std::int64_t step_;
};

// How many partial selections are held at most: some 6 MB, and while a layer is added so much again for each option.
inline constexpr std::size_t kMaxKnapsackStates = std::size_t{1} << 18;

// Dynamic programming over the layers: after each, the partial selections that no other of the same layers beats
// (Kellerer, Pferschy and Pisinger, "Knapsack Problems", 2004, chapter 11, with the lists of section 3.4 in place of a
// table). Where that would be more than `max_states`, costs are compared in steps of 2, 4, 8 … until it is not. Of
// equals the first options win.
// Preconditions: every layer has an option; costs are not negative, their sum fits an int64; values are finite and
// not negative; max_states is (number of layers + 1)^2 at least.
[[nodiscard]] ParetoFront pareto_front(const std::vector<std::vector<KnapsackOption>>& layers,
                                       std::size_t max_states = kMaxKnapsackStates);

}  // namespace pare::pipeline
