#include "pare/channels/order_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/rng.h"

namespace pare::channels {
namespace {

constexpr std::size_t kMaxGroup = 16;
// Rows whose thresholds are worked on at once, so that they stay in the cache.
constexpr std::size_t kRowTile = 1024;
constexpr std::size_t kSlotTile = 16;
constexpr std::size_t kLanes = 16;

using Order = std::vector<std::int64_t>;

std::size_t index(std::int64_t value) { return static_cast<std::size_t>(value); }

// Sum of max(0, y - t). The lanes let compilers vectorize it, and fix the order of the sum.
float hinge_sum(const float* y, const float* t, std::size_t count) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float over = y[i + lane] - t[i + lane];
      lanes[lane] += over > 0.0F ? over : 0.0F;
    }
  }
  float sum = 0.0F;
  for (; i < count; ++i) sum += std::max(0.0F, y[i] - t[i]);
  for (const float lane : lanes) sum += lane;
  return sum;
}

float dot(const float* y, const float* t, std::size_t count) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += y[i + lane] * t[i + lane];
  }
  float sum = 0.0F;
  for (; i < count; ++i) sum += y[i] * t[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

// One element more for each row's n largest so far, which stand descending in top[0 .. n).
void insert(std::array<std::array<float, kRowTile>, kMaxGroup>& top, std::size_t n, const float* column,
            std::size_t count) {
  for (std::size_t r = 0; r < count; ++r) {
    float sinking = column[r];
    for (std::size_t place = 0; place < n; ++place) {
      const float held = top[place][r];
      top[place][r] = std::max(held, sinking);
      sinking = std::min(held, sinking);
    }
  }
}

// The mask of a block, 1 where it keeps: the n largest sums of each group, among equals the first.
double keep_largest(const RowTerm& term, std::span<const float> sums, std::span<float> mask) {
  double kept = 0.0;
  std::array<std::size_t, kMaxGroup> order{};
  for (std::size_t segment = 0; segment < sums.size(); segment += index(term.segment_elems)) {
    for (std::int64_t first = 0; first < term.segment_elems; first += term.m) {
      const std::size_t elems = index(std::min(term.m, term.segment_elems - first));
      const std::size_t begin = segment + index(first);
      const std::size_t keeps = std::min(elems, index(term.n));
      std::iota(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(elems), begin);
      std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keeps),
                        order.begin() + static_cast<std::ptrdiff_t>(elems),
                        [&](std::size_t a, std::size_t b) { return sums[a] != sums[b] ? sums[a] > sums[b] : a < b; });
      for (std::size_t i = 0; i < elems; ++i) {
        mask[order[i]] = i < keeps ? 1.0F : 0.0F;
        kept += i < keeps ? sums[order[i]] : 0.0;
      }
    }
  }
  return kept;
}

std::size_t row_elems(const RowTerm& term) { return index(term.segments * term.segment_elems); }

// Sums over the rows of the block that begins at slot `first`.
void add_block(const RowTerm& term, const Order& order, std::size_t first, std::span<float> sums) {
  std::ranges::fill(sums, 0.0F);
  const std::size_t end = std::min(order.size(), first + index(term.v));
  for (std::size_t slot = first; slot < end; ++slot) {
    const float* row = term.importance.data() + index(order[slot]) * sums.size();
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += row[k];
  }
}

double kept_columns(const ColumnTerm& term, const Order& order) {
  std::array<std::array<float, kRowTile>, kMaxGroup> top;
  const std::size_t rows = index(term.rows);
  double kept = 0.0;
  for (std::size_t first = 0; first < order.size(); first += index(term.m)) {
    const std::size_t end = std::min(order.size(), first + index(term.m));
    for (std::size_t row = 0; row < rows; row += kRowTile) {
      const std::size_t count = std::min(kRowTile, rows - row);
      for (std::size_t place = 0; place < index(term.n); ++place) top[place].fill(0.0F);
      for (std::size_t slot = first; slot < end; ++slot) {
        insert(top, index(term.n), term.importance.data() + index(order[slot]) * rows + row, count);
      }
      for (std::size_t place = 0; place < index(term.n); ++place) {
        for (std::size_t r = 0; r < count; ++r) kept += top[place][r];
      }
    }
  }
  return kept;
}

double kept_rows(const RowTerm& term, const Order& order) {
  std::vector<float> sums(row_elems(term));
  std::vector<float> mask(sums.size());
  double kept = 0.0;
  for (std::size_t first = 0; first < order.size(); first += index(term.v)) {
    add_block(term, order, first, sums);
    kept += keep_largest(term, sums, mask);
  }
  return kept;
}

struct Swap {
  float gain;
  std::size_t a, b;
};

// Greedy swaps on a table of worths: what channel c is worth in slot s while all others stay where they are.
//
// For a column term that is exact: with t the n-th largest of the row among the other m - 1 columns of the group, c
// adds max(0, importance - t). So with channel c in slot s and d in slot u of another group, swapping them gains
//   worth(s, d) - worth(s, c) + worth(u, c) - worth(u, d),
// and swaps of disjoint groups add up. For a row term the worth is what the mask of the slot's block keeps of the row:
// exact while masks stay, and choosing masks anew only adds to it. The steps of k-means, then, with all blocks full.
class OrderSearch {
 public:
  explicit OrderSearch(const OrderProblem& problem)
      : problem_(problem), channels_(index(problem.channels)), order_(channels_), column_worth_(channels_ * channels_) {
    std::iota(order_.begin(), order_.end(), 0);
    double total = 0.0;
    for (const ColumnTerm& term : problem.columns) {
      total = std::accumulate(term.importance.begin(), term.importance.end(), total);
    }
    for (const RowTerm& term : problem.rows) {
      total = std::accumulate(term.importance.begin(), term.importance.end(), total);
      block_worth_.emplace_back((channels_ + index(term.v) - 1) / index(term.v) * channels_);
    }
    // Above the rounding of float32 sums, so that swaps do not undo each other.
    min_gain_ = static_cast<float>(1e-5 * total / static_cast<double>(channels_));
  }

  [[nodiscard]] const Order& order() const { return order_; }
  [[nodiscard]] std::int64_t swaps() const { return swaps_; }

  // Fills the tables, for the order that is there.
  void start() { update(std::vector<bool>(channels_, true)); }

  void move_to(const Order& order) {
    std::vector<bool> touched(channels_, false);
    for (std::size_t slot = 0; slot < channels_; ++slot) {
      if (order_[slot] != order[slot]) touch(slot, touched);
    }
    order_ = order;
    update(touched);
  }

  // One round of the best swaps whose groups are disjoint; how many.
  std::int64_t round() {
    std::vector<Swap> wanted = best_swaps();
    std::ranges::stable_sort(wanted, std::greater<>(), &Swap::gain);
    std::vector<bool> touched(channels_, false);
    std::int64_t count = 0;
    for (const Swap& swap : wanted) {
      if (touched[swap.a] || touched[swap.b]) continue;
      std::swap(order_[swap.a], order_[swap.b]);
      touch(swap.a, touched);
      touch(swap.b, touched);
      ++count;
    }
    update(touched);
    swaps_ += count;
    return count;
  }

  void shuffle(std::int64_t count, Rng& rng) {
    std::vector<bool> touched(channels_, false);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::size_t a = rng.below(channels_);
      const std::size_t b = rng.below(channels_);
      std::swap(order_[a], order_[b]);
      touch(a, touched);
      touch(b, touched);
    }
    update(touched);
  }

 private:
  // All slots of the slot's groups: what a swap there changes.
  void touch(std::size_t slot, std::vector<bool>& touched) const {
    touched[slot] = true;
    for (const ColumnTerm& term : problem_.columns) {
      const std::size_t first = slot / index(term.m) * index(term.m);
      const std::size_t end = std::min(channels_, first + index(term.m));
      std::fill(touched.begin() + static_cast<std::ptrdiff_t>(first),
                touched.begin() + static_cast<std::ptrdiff_t>(end), true);
    }
  }

  void update(const std::vector<bool>& touched) {
    std::vector<std::size_t> slots;
    for (std::size_t slot = 0; slot < channels_; ++slot) {
      if (touched[slot]) slots.push_back(slot);
    }
    update_columns(slots);
    for (std::size_t t = 0; t < problem_.rows.size(); ++t) {
      std::size_t done = channels_;
      for (const std::size_t slot : slots) {
        const std::size_t first = slot / index(problem_.rows[t].v) * index(problem_.rows[t].v);
        if (first != done) update_block(t, first);
        done = first;
      }
    }
  }

  void update_columns(const std::vector<std::size_t>& slots) {
    for (const std::size_t slot : slots)
      std::fill_n(column_worth_.begin() + static_cast<std::ptrdiff_t>(slot * channels_), channels_, 0.0F);
    std::vector<float> thresholds(kSlotTile * kRowTile);
    for (const ColumnTerm& term : problem_.columns) {
      const std::size_t rows = index(term.rows);
      for (std::size_t row = 0; row < rows; row += kRowTile) {
        const std::size_t count = std::min(kRowTile, rows - row);
        for (std::size_t tile = 0; tile < slots.size(); tile += kSlotTile) {
          const std::size_t tile_slots = std::min(kSlotTile, slots.size() - tile);
          for (std::size_t i = 0; i < tile_slots; ++i) {
            find_thresholds(term, slots[tile + i], row, count, thresholds.data() + i * kRowTile);
          }
          for (std::size_t channel = 0; channel < channels_; ++channel) {
            const float* y = term.importance.data() + channel * rows + row;
            for (std::size_t i = 0; i < tile_slots; ++i) {
              column_worth_[slots[tile + i] * channels_ + channel] +=
                  hinge_sum(y, thresholds.data() + i * kRowTile, count);
            }
          }
        }
      }
    }
  }

  // Of each row the n-th largest among the other columns of the slot's group; 0 where there are fewer.
  void find_thresholds(const ColumnTerm& term, std::size_t slot, std::size_t row, std::size_t count, float* into) {
    const std::size_t n = index(term.n);
    for (std::size_t place = 0; place < n; ++place) top_[place].fill(0.0F);
    const std::size_t first = slot / index(term.m) * index(term.m);
    const std::size_t end = std::min(channels_, first + index(term.m));
    for (std::size_t other = first; other < end; ++other) {
      if (other == slot) continue;
      insert(top_, n, term.importance.data() + index(order_[other]) * index(term.rows) + row, count);
    }
    std::copy_n(top_[n - 1].begin(), count, into);
  }

  void update_block(std::size_t t, std::size_t first) {
    const RowTerm& term = problem_.rows[t];
    sums_.resize(row_elems(term));
    mask_.resize(sums_.size());
    add_block(term, order_, first, sums_);
    (void)keep_largest(term, sums_, mask_);
    float* worth = block_worth_[t].data() + first / index(term.v) * channels_;
    for (std::size_t channel = 0; channel < channels_; ++channel) {
      worth[channel] = dot(term.importance.data() + channel * sums_.size(), mask_.data(), sums_.size());
    }
  }

  // Of every slot the best swap that gains, if there is one.
  [[nodiscard]] std::vector<Swap> best_swaps() {
    gains_.resize(channels_ * channels_);
    for (std::size_t s = 0; s < channels_; ++s) {
      const float* worth = column_worth_.data() + s * channels_;
      float* row = gains_.data() + s * channels_;
      const std::size_t own = index(order_[s]);
      for (std::size_t u = 0; u < channels_; ++u) row[u] = worth[order_[u]] - worth[own];
      for (std::size_t t = 0; t < problem_.rows.size(); ++t) {
        const float* block = block_worth_[t].data() + s / index(problem_.rows[t].v) * channels_;
        for (std::size_t u = 0; u < channels_; ++u) row[u] += block[order_[u]] - block[own];
      }
    }
    std::vector<Swap> best;
    for (std::size_t s = 0; s < channels_; ++s) {
      Swap found{min_gain_, s, s};
      for (std::size_t u = 0; u < channels_; ++u) {
        const float gain = gains_[s * channels_ + u] + gains_[u * channels_ + s];
        if (gain > found.gain && !share_group(s, u)) found = {gain, s, u};
      }
      if (found.b != s) best.push_back(found);
    }
    return best;
  }

  // Then a column term's worths say nothing about a swap. (Where m differs between terms this passes over swaps that
  // change one of them only.)
  [[nodiscard]] bool share_group(std::size_t s, std::size_t u) const {
    return std::ranges::any_of(problem_.columns,
                               [&](const ColumnTerm& term) { return s / index(term.m) == u / index(term.m); });
  }

  const OrderProblem& problem_;
  std::size_t channels_;
  Order order_;
  std::vector<float> column_worth_;              // slots x channels
  std::vector<std::vector<float>> block_worth_;  // of each row term: blocks x channels
  std::vector<float> gains_;                     // slots x slots: what slot s gains by taking slot u's channel
  float min_gain_ = 0.0F;
  std::int64_t swaps_ = 0;
  std::array<std::array<float, kRowTile>, kMaxGroup> top_{};
  std::vector<float> sums_;
  std::vector<float> mask_;
};

void check(const OrderProblem& problem) {
  PARE_CHECK(problem.channels >= 1);
  for (const ColumnTerm& term : problem.columns) {
    PARE_CHECK(term.n >= 1 && term.n <= term.m && index(term.m) <= kMaxGroup);
    PARE_CHECK(term.importance.size() == index(problem.channels * term.rows));
  }
  for (const RowTerm& term : problem.rows) {
    PARE_CHECK(term.n >= 1 && term.n <= term.m && index(term.m) <= kMaxGroup && term.v >= 1);
    PARE_CHECK(term.importance.size() == index(problem.channels) * row_elems(term));
  }
}

// Swaps until none gains; whether to go on. Where one channel outweighs all others by far, float32 can see gains that
// are none, so that the true sum is looked at now and then.
bool descend(const OrderProblem& problem, OrderSearch& search, const std::function<bool()>& keep_going) {
  constexpr int kRoundsBetweenChecks = 64;
  double kept = 0.0;
  for (int round = 0; search.round() > 0; ++round) {
    if (!keep_going()) return false;
    if (round % kRoundsBetweenChecks != 0) continue;
    const double now = kept_importance(problem, search.order());
    if (now <= kept) break;
    kept = now;
  }
  return true;
}

}  // namespace

double kept_importance(const OrderProblem& problem, const Order& order) {
  check(problem);
  double kept = 0.0;
  for (const ColumnTerm& term : problem.columns) kept += kept_columns(term, order);
  for (const RowTerm& term : problem.rows) kept += kept_rows(term, order);
  return kept;
}

OrderSearchResult search_order(const OrderProblem& problem, const OrderSearchOptions& options) {
  check(problem);
  OrderSearch search(problem);
  OrderSearchResult result;
  result.order = search.order();
  result.kept_before = result.kept_after = kept_importance(problem, result.order);
  const auto keep_going = [&] { return !options.keep_going || options.keep_going(); };
  Rng rng(options.seed);
  bool going = keep_going();
  if (going) search.start();
  for (int escape = 0; going && escape <= options.escapes; ++escape) {
    if (escape > 0) {
      search.move_to(result.order);
      search.shuffle(1 + problem.channels / 8, rng);
    }
    going = descend(problem, search, keep_going);
    const double kept = kept_importance(problem, search.order());
    if (kept > result.kept_after) {
      result.kept_after = kept;
      result.order = search.order();
    }
  }
  result.swaps = search.swaps();
  return result;
}

}  // namespace pare::channels
