#include "pare/channels/permute_for_sparsity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/channels/order_search.h"
#include "pare/format/vnm.h"

namespace pare::channels {
namespace {

using format::VnmPattern;
using graph::Graph;
using graph::Initializer;
using graph::Node;

constexpr std::int64_t kMaxGroup = 16;
constexpr std::int64_t kMaxBlock = 65536;
// The search has tables of channels^2 numbers: 512 MiB then.
constexpr std::int64_t kMaxChannels = 8192;
constexpr double kLeastGain = 1e-4;

std::size_t index(std::int64_t value) { return static_cast<std::size_t>(value); }

std::string pattern_text(const VnmPattern& pattern) {
  return pattern.v == 1 ? str_cat(pattern.n, ":", pattern.m) : format::to_string(pattern);
}

// A weight [O, I, kh, kw] or [n, k] as importances |w|^norm.
class Importance {
 public:
  Importance(const Initializer& weight, int norm)
      : rows_(weight.shape[0]), columns_(weight.shape[1]), values_(weight.data.as<float>().size()) {
    const auto w = weight.data.as<float>();
    std::ranges::transform(w, values_.begin(), [norm](float x) { return norm == 1 ? std::abs(x) : x * x; });
    taps_ = static_cast<std::int64_t>(values_.size()) / (rows_ * columns_);
    total_ = std::accumulate(values_.begin(), values_.end(), 0.0);
  }

  [[nodiscard]] double total() const { return total_; }
  // So that every element of every weight counts 1 on average.
  void normalize() {
    const auto factor = static_cast<float>(total_ > 0.0 ? static_cast<double>(values_.size()) / total_ : 0.0);
    for (float& value : values_) value *= factor;
  }

  // The rows of a block share a mask, so their sum is what matters.
  [[nodiscard]] ColumnTerm column_term(const VnmPattern& pattern) const {
    const std::int64_t blocks = (rows_ + pattern.v - 1) / pattern.v;
    ColumnTerm term{.n = pattern.n, .m = pattern.m, .rows = blocks * taps_, .importance = {}};
    term.importance.resize(index(columns_ * term.rows));
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::int64_t column = 0; column < columns_; ++column) {
        for (std::int64_t tap = 0; tap < taps_; ++tap) {
          term.importance[index(column * term.rows + row / pattern.v * taps_ + tap)] += at(row, column, tap);
        }
      }
    }
    return term;
  }

  [[nodiscard]] RowTerm row_term(const VnmPattern& pattern) const {
    RowTerm term{
        .v = pattern.v, .n = pattern.n, .m = pattern.m, .segments = taps_, .segment_elems = columns_, .importance = {}};
    term.importance.reserve(values_.size());
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::int64_t tap = 0; tap < taps_; ++tap) {
        for (std::int64_t column = 0; column < columns_; ++column) term.importance.push_back(at(row, column, tap));
      }
    }
    return term;
  }

  [[nodiscard]] double kept(const VnmPattern& pattern) const {
    OrderProblem problem;
    problem.channels = columns_;
    problem.columns.push_back(column_term(pattern));
    std::vector<std::int64_t> natural(index(columns_));
    std::iota(natural.begin(), natural.end(), 0);
    return kept_importance(problem, natural);
  }

 private:
  [[nodiscard]] float at(std::int64_t row, std::int64_t column, std::int64_t tap) const {
    return values_[index((row * columns_ + column) * taps_ + tap)];
  }

  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t taps_ = 1;
  std::vector<float> values_;
  double total_ = 0.0;
};

struct Layer {
  std::string weight;
  VnmPattern pattern;
  bool depthwise = false;
};

std::vector<Layer> find_layers(const Graph& graph, const std::map<std::string, VnmPattern>& patterns) {
  const std::vector<std::string> known = graph.weight_names();
  for (const auto& [name, pattern] : patterns) {
    const std::string where = str_cat("graph '", graph.name, "', weight '", name, "'");
    if (std::ranges::find(known, name) == known.end()) {
      throw Error(ErrorCategory::kNotFound, "there is no such weight", where, did_you_mean(name, known));
    }
    if (pattern.n < 1 || pattern.n >= pattern.m || pattern.m > kMaxGroup || pattern.v < 1 || pattern.v > kMaxBlock) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("pattern ", format::to_string(pattern), " is outside 1 <= N < M <= ", kMaxGroup,
                          ", 1 <= V <= ", kMaxBlock),
                  where, "2:4 is v = 1, n = 2, m = 4");
    }
    const auto values = graph.initializer(name).data.as<float>();
    if (!std::ranges::all_of(values, [](float w) { return std::isfinite(w * w); })) {
      throw Error(ErrorCategory::kNumeric, "it holds a number that is not finite, or whose square is not", where,
                  "training has diverged: go back to a checkpoint before that, with a lower learning rate");
    }
  }
  std::vector<Layer> layers;
  for (const Node& node : graph.nodes) {
    if (node.has_weight() && patterns.contains(node.inputs[1])) {
      layers.push_back({node.inputs[1], patterns.at(node.inputs[1]), node.is_depthwise()});
    }
  }
  return layers;
}

const ChannelAxis* find_axis(const ChannelSet& set, const std::string& weight, ChannelRole role) {
  const auto found = std::ranges::find_if(
      set.axes, [&](const ChannelAxis& axis) { return axis.initializer == weight && axis.role == role; });
  return found == set.axes.end() ? nullptr : &*found;
}

std::string too_many(const ChannelSet& set) {
  return str_cat("the search takes at most ", kMaxChannels, " channels, not ", set.channels);
}

// Why the set is not reordered for the sake of a weight that reads it, or writes it; "" if it is.
std::string why_columns_stay(const ChannelSet& set, const ChannelAxis& axis, const VnmPattern& pattern) {
  if (!set.is_free()) return set.fixed;
  if (axis.multiplicity > 1) {
    return str_cat("each channel is ", axis.multiplicity, " consecutive inputs, so groups of ", pattern.m,
                   " lie within channels, but for those at their borders");
  }
  if (set.channels > kMaxChannels) return too_many(set);
  return set.channels <= pattern.m ? str_cat("one group of ", pattern.m, " holds all ", set.channels, " channels") : "";
}

std::string why_rows_stay(const ChannelSet& set, const ChannelAxis& axis, const VnmPattern& pattern) {
  if (pattern.v == 1) return "each row has a mask of its own";
  if (!set.is_free()) return set.fixed;
  if (axis.multiplicity > 1) return str_cat("its outputs hang together in runs of ", axis.multiplicity);
  if (set.channels > kMaxChannels) return too_many(set);
  return set.channels <= pattern.v ? str_cat("one block of ", pattern.v, " holds all ", set.channels, " outputs") : "";
}

class Permuter {
 public:
  Permuter(const Graph& graph, const std::map<std::string, VnmPattern>& patterns, const PermutationOptions& options)
      : options_(options), layers_(find_layers(graph, patterns)) {
    result_.graph = graph;
    for (ChannelSet& set : find_channel_sets(graph)) result_.sets.push_back({std::move(set), {}, 0});
    for (const Layer& layer : layers_) describe(layer);
  }

  SparsityPermutation run() {
    result_.fraction_before = progress_.kept_fraction = fraction();
    progress_.sets = static_cast<std::int64_t>(result_.sets.size());
    for (progress_.sweep = 1; progress_.sweep <= options_.max_sweeps && result_.complete; ++progress_.sweep) {
      const double before = progress_.kept_fraction;
      for (progress_.sets_done = 0; progress_.sets_done < progress_.sets; ++progress_.sets_done) {
        improve(result_.sets[index(progress_.sets_done)]);
      }
      if (progress_.sweep > 1 && progress_.kept_fraction - before < kLeastGain * before) break;
    }
    result_.fraction_after = progress_.kept_fraction;
    result_.seconds = elapsed();
    return std::move(result_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  void describe(const Layer& layer) {
    const Importance importance(result_.graph.initializer(layer.weight), options_.norm);
    WeightPermutation& weight = result_.weights.emplace_back();
    weight.weight = layer.weight;
    weight.total = importance.total();
    if (layer.depthwise) {
      weight.pattern = "dense";
      weight.kept_before = weight.kept_after = weight.total;
      weight.columns_fixed = weight.rows_fixed = "depthwise: each filter reads one channel, so there are no groups";
      return;
    }
    weight.pattern = pattern_text(layer.pattern);
    weight.kept_before = weight.kept_after = importance.kept(layer.pattern);
    for (const SetPermutation& item : result_.sets) {
      if (const ChannelAxis* axis = find_axis(item.set, layer.weight, ChannelRole::kReads)) {
        weight.columns_fixed = why_columns_stay(item.set, *axis, layer.pattern);
      }
      if (const ChannelAxis* axis = find_axis(item.set, layer.weight, ChannelRole::kWrites)) {
        weight.rows_fixed = why_rows_stay(item.set, *axis, layer.pattern);
      }
    }
  }

  // Of all weights with a pattern, each counting by its number of elements.
  [[nodiscard]] double fraction() const {
    double kept = 0.0;
    double elems = 0.0;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (layers_[i].depthwise) continue;
      const auto count = static_cast<double>(element_count(result_.graph.initializer(layers_[i].weight).shape));
      const WeightPermutation& weight = result_.weights[i];
      kept += count * (weight.total > 0.0 ? weight.kept_after / weight.total : 1.0);
      elems += count;
    }
    return elems > 0.0 ? kept / elems : 1.0;
  }

  [[nodiscard]] OrderProblem problem_of(const ChannelSet& set) const {
    OrderProblem problem;
    problem.channels = set.channels;
    for (const Layer& layer : layers_) {
      if (layer.depthwise) continue;
      const ChannelAxis* read = find_axis(set, layer.weight, ChannelRole::kReads);
      const ChannelAxis* written = find_axis(set, layer.weight, ChannelRole::kWrites);
      const bool columns = read != nullptr && why_columns_stay(set, *read, layer.pattern).empty();
      const bool rows = written != nullptr && why_rows_stay(set, *written, layer.pattern).empty();
      if (!columns && !rows) continue;
      Importance importance(result_.graph.initializer(layer.weight), options_.norm);
      importance.normalize();
      if (columns) problem.columns.push_back(importance.column_term(layer.pattern));
      if (rows) problem.rows.push_back(importance.row_term(layer.pattern));
    }
    return problem;
  }

  bool keep_going() {
    progress_.seconds = elapsed();
    result_.complete = result_.complete && progress_.seconds < options_.max_seconds &&
                       (!options_.progress || options_.progress(progress_));
    return result_.complete;
  }

  void improve(SetPermutation& item) {
    progress_.set = item.set.name();
    const OrderProblem problem = problem_of(item.set);
    if ((problem.columns.empty() && problem.rows.empty()) || !keep_going()) return;
    const std::uint64_t seed =
        Rng(options_.seed, static_cast<std::uint64_t>(progress_.sweep), static_cast<std::uint64_t>(progress_.sets_done))
            .next();
    // Without escapes at first, so that a time limit finds every set improved once.
    const int escapes = progress_.sweep == 1 ? 0 : options_.escapes;
    const OrderSearchResult found =
        search_order(problem, {.seed = seed, .escapes = escapes, .keep_going = [this] { return keep_going(); }});
    item.swaps += found.swaps;
    if (found.kept_after > found.kept_before) take(item, found.order);
  }

  // Unless the weights lose by it after all: what a weight that has the set along both of its axes keeps, and one that
  // Flatten stands before, is not quite what the search was told.
  void take(SetPermutation& item, const std::vector<std::int64_t>& order) {
    Graph before = std::exchange(result_.graph, permute_channels(result_.graph, item.set, order));
    const std::vector<WeightPermutation> weights_before = result_.weights;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const bool touched = std::ranges::any_of(
          item.set.axes, [&](const ChannelAxis& axis) { return axis.initializer == layers_[i].weight; });
      if (!touched || layers_[i].depthwise) continue;
      result_.weights[i].kept_after =
          kept_magnitude(result_.graph.initializer(layers_[i].weight), layers_[i].pattern, options_.norm);
    }
    const double now = fraction();
    if (now <= progress_.kept_fraction) {
      result_.graph = std::move(before);
      result_.weights = weights_before;
      return;
    }
    progress_.kept_fraction = now;
    std::vector<std::int64_t> whole = order;
    if (!item.order.empty()) {
      std::ranges::transform(order, whole.begin(), [&](std::int64_t channel) { return item.order[index(channel)]; });
    }
    item.order = std::move(whole);
  }

  const PermutationOptions& options_;
  std::vector<Layer> layers_;
  SparsityPermutation result_;
  PermutationProgress progress_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

void PermutationOptions::validate() const {
  const auto fail = [](const std::string& problem, const std::string& remedy) {
    throw Error(ErrorCategory::kInvalidArgument, problem, "channel permutation", remedy);
  };
  if (norm != 1 && norm != 2) fail(str_cat("norm ", norm, " is not known"), "use 1 (sum of |w|) or 2 (sum of squares)");
  if (max_sweeps < 1) fail(str_cat("max_sweeps ", max_sweeps, " is less than 1"), "3 is enough for most networks");
  if (escapes < 0) fail(str_cat("escapes ", escapes, " is negative"), "0 stops at the first optimum");
  if (!(max_seconds >= 0.0)) fail(str_cat("max_seconds ", max_seconds, " is no time"), "give seconds, 0 or more");
}

double kept_magnitude(const Initializer& weight, const VnmPattern& pattern, int norm) {
  return Importance(weight, norm).kept(pattern);
}

SparsityPermutation permute_for_sparsity(const Graph& graph, const std::map<std::string, VnmPattern>& patterns,
                                         const PermutationOptions& options) {
  options.validate();
  return Permuter(graph, patterns, options).run();
}

}  // namespace pare::channels
