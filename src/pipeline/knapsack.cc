#include "pare/pipeline/knapsack.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "pare/base/error.h"

namespace pare::pipeline {
namespace {

// A selection for the layers so far: the state of the layer before that it goes on from, and its option.
struct State {
  std::int64_t units = 0;  // cost in steps
  double value = 0.0;
  std::uint32_t parent = 0;
  std::uint32_t option = 0;
};

bool comes_before(const State& a, const State& b) {
  if (a.units != b.units) return a.units < b.units;
  if (a.value != b.value) return a.value < b.value;
  return a.parent != b.parent ? a.parent < b.parent : a.option < b.option;
}

// Leaves what nothing beats; the rest of `states` goes.
void keep_front(std::vector<State>& states) {
  std::sort(states.begin(), states.end(), comes_before);
  double best = std::numeric_limits<double>::infinity();
  const auto beaten = [&best](const State& state) {
    const bool worse = !(state.value < best);
    best = std::min(best, state.value);
    return worse;
  };
  std::vector<State> kept;
  std::copy_if(states.begin(), states.end(), std::back_inserter(kept),
               [&](const State& state) { return !beaten(state); });
  states = std::move(kept);
}

// The states after each layer, or nothing where they are more than `max_states`.
std::optional<std::vector<std::vector<State>>> fill(const std::vector<std::vector<KnapsackOption>>& layers,
                                                    std::int64_t step, std::size_t max_states) {
  std::vector<std::vector<State>> table = {{State{}}};
  std::size_t held = 1;
  for (const std::vector<KnapsackOption>& options : layers) {
    const std::vector<State>& before = table.back();
    std::vector<State> after;
    after.reserve(before.size() * options.size());
    for (std::size_t parent = 0; parent < before.size(); ++parent) {
      for (std::size_t option = 0; option < options.size(); ++option) {
        after.push_back({before[parent].units + options[option].cost / step,
                         before[parent].value + options[option].value, static_cast<std::uint32_t>(parent),
                         static_cast<std::uint32_t>(option)});
      }
    }
    keep_front(after);
    held += after.size();
    if (held > max_states) return std::nullopt;
    table.push_back(std::move(after));
  }
  return table;
}

ParetoFront::Point trace(const std::vector<std::vector<KnapsackOption>>& layers,
                         const std::vector<std::vector<State>>& table, std::size_t last) {
  ParetoFront::Point point;
  point.options.resize(layers.size());
  std::size_t at = last;
  for (std::size_t layer = layers.size(); layer-- > 0;) {
    const State& state = table[layer + 1][at];
    point.options[layer] = state.option;
    at = state.parent;
  }
  // In the layers' order, as the states were added up.
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const KnapsackOption& option = layers[layer][point.options[layer]];
    point.cost += option.cost;
    point.value += option.value;
  }
  return point;
}

}  // namespace

std::optional<std::size_t> ParetoFront::best_within(std::int64_t budget) const {
  const auto above = std::upper_bound(points_.begin(), points_.end(), budget,
                                      [](std::int64_t limit, const Point& point) { return limit < point.cost; });
  if (above == points_.begin()) return std::nullopt;
  return static_cast<std::size_t>(above - points_.begin()) - 1;
}

ParetoFront pareto_front(const std::vector<std::vector<KnapsackOption>>& layers, std::size_t max_states) {
  PARE_CHECK(max_states >= (layers.size() + 1) * (layers.size() + 1));  // enough at any step
  for (const std::vector<KnapsackOption>& options : layers) {
    PARE_CHECK(!options.empty());
    for (const KnapsackOption& option : options) {
      PARE_CHECK(option.cost >= 0 && std::isfinite(option.value) && option.value >= 0.0);
    }
  }
  std::int64_t step = 1;
  auto table = fill(layers, step, max_states);
  while (!table) {
    step *= 2;
    table = fill(layers, step, max_states);
  }
  std::vector<ParetoFront::Point> points;
  for (std::size_t i = 0; i < table->back().size(); ++i) {
    points.push_back(trace(layers, *table, i));
  }
  // Steps hide differences of cost; by their own costs some points may change places, or be beaten.
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& a, const auto& b) { return a.cost != b.cost ? a.cost < b.cost : a.value < b.value; });
  std::vector<ParetoFront::Point> front;
  for (ParetoFront::Point& point : points) {
    if (front.empty() || point.value < front.back().value) front.push_back(std::move(point));
  }
  return {std::move(front), step};
}

}  // namespace pare::pipeline
