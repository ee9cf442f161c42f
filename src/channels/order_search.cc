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

// Greedy swaps on tables of worths: what channel c is worth in slot s while all others stay where they are.
//
// For a column term, with t the n-th largest of the row among the other m - 1 columns of the group, c adds
// max(0, importance - t). So with channel c in slot s and d in slot u of another group, swapping them gains
//   worth(s, d) - worth(s, c) + worth(u, c) - worth(u, d),
// exactly, and swaps of disjoint groups add up. For a row term, what block s keeps is convex in the sum of its rows:
// with the mask that the block would choose without slot s, c adds at least what that mask keeps of it, and the channel
// that is there adds just what the block loses without it. So one swap a block gains at least as much as the formula
// says; of several at once that is only likely, and descend() looks.
class OrderSearch {
 public:
  explicit OrderSearch(const OrderProblem& problem)
      : problem_(problem),
        channels_(index(problem.channels)),
        order_(channels_),
        column_worth_(problem.columns.empty() ? 0 : channels_ * channels_),
        row_worth_(problem.rows.empty() ? 0 : channels_ * channels_) {
    std::iota(order_.begin(), order_.end(), 0);
    double total = 0.0;
    for (const ColumnTerm& term : problem.columns) {
      total = std::accumulate(term.importance.begin(), term.importance.end(), total);
    }
    for (const RowTerm& term : problem.rows) {
      total = std::accumulate(term.importance.begin(), term.importance.end(), total);
    }
    // Above the rounding of float32 sums, so that swaps do not undo each other.
    min_gain_ = static_cast<float>(1e-5 * total / static_cast<double>(channels_));
  }

  [[nodiscard]] const Order& order() const { return order_; }
  [[nodiscard]] std::int64_t swaps() const { return swaps_; }

  // Fills the tables, for the order that is there.
  void start() { update(Changes(channels_, true)); }

  void move_to(const Order& order) {
    Changes changes(channels_);
    for (std::size_t slot = 0; slot < channels_; ++slot) {
      changes.slots[slot] = changes.rows[slot] = order_[slot] != order[slot];
    }
    order_ = order;
    update(changes);
  }

  // One round of the best swaps whose groups are disjoint, at most `per_block` in any block; how many.
  std::int64_t round(std::int64_t per_block) {
    std::vector<Swap> wanted = best_swaps();
    std::ranges::stable_sort(wanted, std::greater<>(), &Swap::gain);
    std::vector<bool> taken(channels_, false);
    Changes changes(channels_);
    BlockCounts counts;
    for (const RowTerm& term : problem_.rows) counts.emplace_back(channels_ / index(term.v) + 1, 0);
    std::int64_t count = 0;
    for (const Swap& swap : wanted) {
      if (taken[swap.a] || taken[swap.b]) continue;
      if (shared_blocks(swap.a, swap.b) == 0) {
        if (is_full(counts, swap.a, per_block) || is_full(counts, swap.b, per_block)) continue;
        count_in(counts, swap.a);
        count_in(counts, swap.b);
      }
      exchange(swap.a, swap.b, changes);
      mark_groups(swap.a, taken);
      mark_groups(swap.b, taken);
      ++count;
    }
    update(changes);
    swaps_ += count;
    return count;
  }

  void shuffle(std::int64_t count, Rng& rng) {
    Changes changes(channels_);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::size_t a = rng.below(channels_);
      exchange(a, rng.below(channels_), changes);
    }
    update(changes);
  }

 private:
  // Slots with another channel than before, and those of them whose blocks have other rows.
  struct Changes {
    explicit Changes(std::size_t channels, bool all = false) : slots(channels, all), rows(channels, all) {}
    std::vector<bool> slots, rows;
  };
  using BlockCounts = std::vector<std::vector<std::int64_t>>;  // swaps of this round, by row term and block

  [[nodiscard]] bool is_full(const BlockCounts& counts, std::size_t slot, std::int64_t per_block) const {
    for (std::size_t t = 0; t < counts.size(); ++t) {
      if (counts[t][slot / index(problem_.rows[t].v)] >= per_block) return true;
    }
    return false;
  }

  void count_in(BlockCounts& counts, std::size_t slot) const {
    for (std::size_t t = 0; t < counts.size(); ++t) ++counts[t][slot / index(problem_.rows[t].v)];
  }

  // Within a block, what its other rows make of a row moves along with it.
  void exchange(std::size_t a, std::size_t b, Changes& changes) {
    std::swap(order_[a], order_[b]);
    changes.slots[a] = changes.slots[b] = true;
    if (problem_.rows.empty()) return;
    if (shared_blocks(a, b) == problem_.rows.size()) {
      const auto row_a = row_worth_.begin() + static_cast<std::ptrdiff_t>(a * channels_);
      const auto row_b = row_worth_.begin() + static_cast<std::ptrdiff_t>(b * channels_);
      if (a != b) std::swap_ranges(row_a, row_a + static_cast<std::ptrdiff_t>(channels_), row_b);
    } else {
      changes.rows[a] = changes.rows[b] = true;
    }
  }

  // All slots of the slot's groups: whose worths for column terms a swap there changes.
  void mark_groups(std::size_t slot, std::vector<bool>& marked) const {
    marked[slot] = true;
    for (const ColumnTerm& term : problem_.columns) mark_run(slot, term.m, marked);
  }

  // The slots of the run of `extent` that the slot is in.
  void mark_run(std::size_t slot, std::int64_t extent, std::vector<bool>& marked) const {
    const std::size_t first = slot / index(extent) * index(extent);
    const std::size_t end = std::min(channels_, first + index(extent));
    std::fill(marked.begin() + static_cast<std::ptrdiff_t>(first), marked.begin() + static_cast<std::ptrdiff_t>(end),
              true);
  }

  void update(const Changes& changes) {
    std::vector<bool> in_groups(channels_, false);
    std::vector<bool> in_blocks(channels_, false);
    for (std::size_t slot = 0; slot < channels_; ++slot) {
      if (changes.slots[slot]) mark_groups(slot, in_groups);
      for (const RowTerm& term : problem_.rows) {
        if (changes.rows[slot]) mark_run(slot, term.v, in_blocks);
      }
    }
    update_columns(slots_of(in_groups));
    update_rows(slots_of(in_blocks));
  }

  [[nodiscard]] static std::vector<std::size_t> slots_of(const std::vector<bool>& marked) {
    std::vector<std::size_t> slots;
    for (std::size_t slot = 0; slot < marked.size(); ++slot) {
      if (marked[slot]) slots.push_back(slot);
    }
    return slots;
  }

  static void clear(std::vector<float>& worth, std::size_t channels, const std::vector<std::size_t>& slots) {
    if (worth.empty()) return;
    for (const std::size_t slot : slots) {
      std::fill_n(worth.begin() + static_cast<std::ptrdiff_t>(slot * channels), channels, 0.0F);
    }
  }

  void update_columns(const std::vector<std::size_t>& slots) {
    clear(column_worth_, channels_, slots);
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

  void update_rows(const std::vector<std::size_t>& slots) {
    clear(row_worth_, channels_, slots);
    for (const RowTerm& term : problem_.rows) {
      const std::size_t elems = row_elems(term);
      sums_.resize(elems);
      others_.resize(elems);
      masks_.resize(kSlotTile * elems);
      std::size_t summed = channels_;  // first slot of the block that sums_ holds
      double kept = 0.0;
      for (std::size_t tile = 0; tile < slots.size(); tile += kSlotTile) {
        const std::size_t tile_slots = std::min(kSlotTile, slots.size() - tile);
        std::array<float, kSlotTile> own{};
        for (std::size_t i = 0; i < tile_slots; ++i) {
          const std::size_t slot = slots[tile + i];
          const std::span<float> mask(masks_.data() + i * elems, elems);
          const std::size_t first = slot / index(term.v) * index(term.v);
          if (first != summed) {
            add_block(term, order_, first, sums_);
            kept = keep_largest(term, sums_, mask);
            summed = first;
          }
          const float* row = term.importance.data() + index(order_[slot]) * elems;
          for (std::size_t k = 0; k < elems; ++k) others_[k] = sums_[k] - row[k];
          own[i] = static_cast<float>(kept - keep_largest(term, others_, mask));
        }
        add_kept_rows(term, std::span(slots).subspan(tile, tile_slots), own);
      }
    }
  }

  // What each slot's mask keeps of every channel's row; of the one that is there, what its block would lose.
  void add_kept_rows(const RowTerm& term, std::span<const std::size_t> slots, const std::array<float, kSlotTile>& own) {
    const std::size_t elems = row_elems(term);
    for (std::size_t channel = 0; channel < channels_; ++channel) {
      const float* row = term.importance.data() + channel * elems;
      for (std::size_t i = 0; i < slots.size(); ++i) {
        float& worth = row_worth_[slots[i] * channels_ + channel];
        worth += index(order_[slots[i]]) == channel ? own[i] : dot(row, masks_.data() + i * elems, elems);
      }
    }
  }

  // Of every slot the best swap that gains, if there is one.
  [[nodiscard]] std::vector<Swap> best_swaps() {
    find_gains(column_worth_, column_gains_);
    find_gains(row_worth_, row_gains_);
    std::vector<Swap> best;
    for (std::size_t s = 0; s < channels_; ++s) {
      Swap found{min_gain_, s, s};
      for (std::size_t u = 0; u < channels_; ++u) {
        if (share_group(s, u)) continue;
        const std::size_t shared = shared_blocks(s, u);
        // Within a block nothing changes for its row term.
        if (shared != 0 && shared != problem_.rows.size()) continue;
        const float gain = gain_of(column_gains_, s, u) + (shared == 0 ? gain_of(row_gains_, s, u) : 0.0F);
        if (gain > found.gain) found = {gain, s, u};
      }
      if (found.b != s) best.push_back(found);
    }
    return best;
  }

  void find_gains(const std::vector<float>& worth, std::vector<float>& gains) const {
    gains.resize(worth.size());
    for (std::size_t s = 0; s < channels_ && !worth.empty(); ++s) {
      const float* from = worth.data() + s * channels_;
      const float own = from[order_[s]];
      for (std::size_t u = 0; u < channels_; ++u) gains[s * channels_ + u] = from[order_[u]] - own;
    }
  }

  [[nodiscard]] float gain_of(const std::vector<float>& gains, std::size_t s, std::size_t u) const {
    return gains.empty() ? 0.0F : gains[s * channels_ + u] + gains[u * channels_ + s];
  }

  // Then a column term's worths say nothing about a swap. (Where m differs between terms this passes over swaps that
  // change one of them only.)
  [[nodiscard]] bool share_group(std::size_t s, std::size_t u) const {
    return std::ranges::any_of(problem_.columns,
                               [&](const ColumnTerm& term) { return s / index(term.m) == u / index(term.m); });
  }

  // For how many row terms both slots are in one block.
  [[nodiscard]] std::size_t shared_blocks(std::size_t s, std::size_t u) const {
    return index(std::ranges::count_if(problem_.rows,
                                       [&](const RowTerm& term) { return s / index(term.v) == u / index(term.v); }));
  }

  const OrderProblem& problem_;
  std::size_t channels_;
  Order order_;
  // Slots x channels, and slots x slots: what slot s gains by taking slot u's channel. Empty where there are no terms.
  std::vector<float> column_worth_, row_worth_;
  std::vector<float> column_gains_, row_gains_;
  float min_gain_ = 0.0F;
  std::int64_t swaps_ = 0;
  std::array<std::array<float, kRowTile>, kMaxGroup> top_{};
  std::vector<float> sums_, others_, masks_;
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

// Rounds of swaps until none gains; whether to go on. A round that gained nothing after all is taken back (several
// swaps in a block, or one channel that outweighs all others so far that float32 sees gains that are none), and fewer
// are tried.
bool descend(const OrderProblem& problem, OrderSearch& search, const std::function<bool()>& keep_going) {
  std::int64_t per_block = problem.channels;
  for (const RowTerm& term : problem.rows) per_block = std::min(per_block, std::max<std::int64_t>(1, term.v / 4));
  double kept = kept_importance(problem, search.order());
  Order before = search.order();
  while (search.round(per_block) > 0) {
    const double now = kept_importance(problem, search.order());
    if (now <= kept) {
      search.move_to(before);
      if (per_block == 1 || problem.rows.empty()) break;
      per_block = std::max<std::int64_t>(1, per_block / 4);
    } else {
      kept = now;
      before = search.order();
    }
    if (!keep_going()) return false;
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
