// What patterns keep, stated a second time: literally, in double, by sorting. Test-only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "pare/channels/order_search.h"
#include "pare/format/vnm_pattern.h"
#include "pare/graph/graph.h"

namespace pare::channels::testing {

// Sum of the n largest.
[[nodiscard]] inline double largest(std::vector<double> sums, std::int64_t n) {
  std::sort(sums.begin(), sums.end(), std::greater<>());
  double kept = 0.0;
  for (std::size_t i = 0; i < sums.size() && i < static_cast<std::size_t>(n); ++i) kept += sums[i];
  return kept;
}

[[nodiscard]] inline double reference_kept(const graph::Initializer& weight, const format::VnmPattern& pattern,
                                           int norm) {
  const auto w = weight.data.as<float>();
  const std::int64_t taps = static_cast<std::int64_t>(w.size()) / (weight.shape[0] * weight.shape[1]);
  double kept = 0.0;
  for (std::int64_t top = 0; top < weight.shape[0]; top += pattern.v) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t left = 0; left < weight.shape[1]; left += pattern.m) {
        std::vector<double> sums;
        for (std::int64_t column = left; column < std::min(left + pattern.m, weight.shape[1]); ++column) {
          double sum = 0.0;
          for (std::int64_t row = top; row < std::min(top + pattern.v, weight.shape[0]); ++row) {
            const double x = w[static_cast<std::size_t>((row * weight.shape[1] + column) * taps + tap)];
            sum += norm == 1 ? std::abs(x) : x * x;
          }
          sums.push_back(sum);
        }
        kept += largest(std::move(sums), pattern.n);
      }
    }
  }
  return kept;
}

[[nodiscard]] inline double reference_kept(const OrderProblem& problem, const std::vector<std::int64_t>& order) {
  double kept = 0.0;
  const auto at = [](const std::vector<float>& importance, std::int64_t channel, std::int64_t elems, std::int64_t i) {
    return importance[static_cast<std::size_t>(channel * elems + i)];
  };
  for (const ColumnTerm& term : problem.columns) {
    for (std::int64_t row = 0; row < term.rows; ++row) {
      for (std::size_t first = 0; first < order.size(); first += static_cast<std::size_t>(term.m)) {
        std::vector<double> group;
        for (std::size_t slot = first; slot < std::min(order.size(), first + static_cast<std::size_t>(term.m));
             ++slot) {
          group.push_back(at(term.importance, order[slot], term.rows, row));
        }
        kept += largest(std::move(group), term.n);
      }
    }
  }
  for (const RowTerm& term : problem.rows) {
    const std::int64_t elems = term.segments * term.segment_elems;
    for (std::size_t first = 0; first < order.size(); first += static_cast<std::size_t>(term.v)) {
      for (std::int64_t segment = 0; segment < elems; segment += term.segment_elems) {
        for (std::int64_t left = 0; left < term.segment_elems; left += term.m) {
          std::vector<double> sums;
          for (std::int64_t i = left; i < std::min(left + term.m, term.segment_elems); ++i) {
            sums.push_back(0.0);
            for (std::size_t slot = first; slot < std::min(order.size(), first + static_cast<std::size_t>(term.v));
                 ++slot) {
              sums.back() += at(term.importance, order[slot], elems, segment + i);
            }
          }
          kept += largest(std::move(sums), term.n);
        }
      }
    }
  }
  return kept;
}

}  // namespace pare::channels::testing
