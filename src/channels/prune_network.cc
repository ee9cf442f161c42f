#include "pare/channels/prune_network.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::channels {
namespace {

using graph::Graph;
using graph::Initializer;

std::string describe(const Graph& graph, const ChannelSet& set) {
  return str_cat("graph '", graph.name, "', channel set '", set.name(), "'");
}

// What the criterion scores of a set: the weights that write it, or the scales of its batch norms.
std::vector<ChannelAxis> scored_axes(const Graph& graph, const ChannelSet& set, ChannelCriterion criterion) {
  std::vector<ChannelAxis> scored;
  for (const ChannelAxis& axis : set.axes) {
    const graph::Node& node = graph.node(axis.node);
    const bool is_first = node.inputs[1] == axis.initializer;
    const bool wanted = criterion == ChannelCriterion::kBatchNormScale ? node.op_type == "BatchNormalization"
                                                                       : axis.role == ChannelRole::kWrites;
    if (is_first && wanted) scored.push_back(axis);
  }
  return scored;
}

std::vector<double> scores_of(const Graph& graph, const ChannelSet& set, const ChannelAxis& axis,
                              const ChannelPruningConfig& config) {
  const auto values = graph.initializer(axis.initializer).data.as<float>();
  switch (config.criterion) {
    case ChannelCriterion::kFpgm:
      return fpgm_scores(values, set.channels, config.norm);
    case ChannelCriterion::kSaliency:
      return saliency_scores(values, set.channels, config.norm);
    case ChannelCriterion::kBatchNormScale: {
      const std::vector<double> entries = batch_norm_scale_scores(values);
      std::vector<double> scores(static_cast<std::size_t>(set.channels), 0.0);
      for (std::size_t i = 0; i < entries.size(); ++i) {
        scores[i / static_cast<std::size_t>(axis.multiplicity)] += entries[i];
      }
      return scores;
    }
    case ChannelCriterion::kTaylor:
      break;
  }
  const auto gradient = config.gradients.find(axis.initializer);
  if (gradient == config.gradients.end() || gradient->second.empty() || gradient->second.size() % values.size() != 0) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the gradient of '", axis.initializer, "' is missing or has not its ", values.size(),
                        " elements for each batch"),
                describe(graph, set), "the Taylor criterion needs the gradient of every weight that is pruned");
  }
  std::vector<double> scores(static_cast<std::size_t>(set.channels), 0.0);
  const std::span<const float> batches(gradient->second);
  for (std::size_t first = 0; first < batches.size(); first += values.size()) {
    const std::vector<double> of_batch = taylor_scores(values, batches.subspan(first, values.size()), set.channels);
    std::ranges::transform(scores, of_batch, scores.begin(), std::plus<>());
  }
  return scores;
}

// The level for each set, by position.
std::vector<double> set_levels(const Graph& graph, const std::vector<ChannelSet>& sets,
                               const ChannelPruningConfig& config) {
  const std::vector<std::string> known = graph.weight_names();
  const auto require_known = [&](const std::string& name) {
    if (std::ranges::find(known, name) == known.end()) {
      throw Error(ErrorCategory::kNotFound, str_cat("there is no weight '", name, "'"),
                  str_cat("graph '", graph.name, "'"), did_you_mean(name, known));
    }
  };
  for (const auto& entry : config.gradients) require_known(entry.first);
  std::vector<std::optional<double>> levels(sets.size());
  for (const auto& [name, level] : config.levels) {
    require_known(name);
    for (std::size_t i = 0; i < sets.size(); ++i) {
      const bool belongs = std::ranges::any_of(sets[i].axes, [&name = name](const ChannelAxis& axis) {
        return axis.initializer == name && axis.role != ChannelRole::kReads;
      });
      if (!belongs) continue;
      if (!sets[i].is_free() && level > 0.0) {
        throw Error(ErrorCategory::kInvalidArgument,
                    str_cat("the outputs of '", name, "' must stay as they are: ", sets[i].fixed),
                    describe(graph, sets[i]), "leave the weight out of the levels");
      }
      if (levels[i].value_or(level) != level) {
        throw Error(
            ErrorCategory::kInvalidArgument,
            str_cat("'", name, "' has level ", level, ", but shares its channels with a weight of level ", *levels[i]),
            describe(graph, sets[i]), "give weights whose outputs are added one level");
      }
      levels[i] = level;
    }
  }
  std::vector<double> settled;
  for (const std::optional<double>& level : levels) settled.push_back(level.value_or(config.sparsity_level));
  return settled;
}

}  // namespace

void ChannelPruningConfig::validate() const {
  const auto fail = [](const std::string& problem, const std::string& remedy) {
    throw Error(ErrorCategory::kInvalidArgument, problem, "channel pruning", remedy);
  };
  const auto require_level = [&](const std::string& what, double level) {
    if (!(level >= 0.0 && level <= 1.0)) {
      fail(str_cat(what, " ", level, " is outside [0, 1]"), "it is the fraction of channels that go");
    }
  };
  require_level("sparsity_level", sparsity_level);
  for (const auto& [name, level] : levels) require_level(str_cat("the level of '", name, "',"), level);
  if (width_multiple < 1 || width_multiple > graph::kMaxExtent) {
    fail(str_cat("width_multiple ", width_multiple, " is impossible"), "use 8, 16 or 64, or 1 to round nothing");
  }
}

std::vector<double> channel_scores(const Graph& graph, const ChannelSet& set, const ChannelPruningConfig& config) {
  const std::vector<ChannelAxis> scored = scored_axes(graph, set, config.criterion);
  if (scored.empty()) {
    throw Error(ErrorCategory::kInvalidArgument, "nothing in it can be scored by this criterion", describe(graph, set),
                "network slimming needs a batch norm behind the layer; use FPGM or saliency");
  }
  std::vector<double> total(static_cast<std::size_t>(set.channels), 0.0);
  for (const ChannelAxis& axis : scored) {
    const std::vector<double> scores = scores_of(graph, set, axis, config);
    const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
    if (!std::isfinite(mean)) {
      throw Error(ErrorCategory::kNumeric, str_cat("'", axis.initializer, "' gives scores that are not finite"),
                  describe(graph, set), "training has diverged: go back to a checkpoint before that");
    }
    // One weight alone keeps its own scores, ties and all.
    const double scale = scored.size() == 1 || mean == 0.0 ? 1.0 : mean;
    for (std::size_t channel = 0; channel < total.size(); ++channel) total[channel] += scores[channel] / scale;
  }
  return total;
}

PrunedNetwork prune_network(const Graph& graph, const ChannelPruningConfig& config) {
  config.validate();
  PrunedNetwork result{.graph = graph, .sets = {}};
  const std::vector<ChannelSet> sets = find_channel_sets(graph);
  const std::vector<double> levels = set_levels(graph, sets, config);
  const CountRounding rounding =
      config.criterion == ChannelCriterion::kFpgm ? CountRounding::kHalfToEven : CountRounding::kTruncate;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    PrunedSet& item = result.sets.emplace_back();
    item.set = sets[i];
    item.kept.resize(static_cast<std::size_t>(item.set.channels));
    std::iota(item.kept.begin(), item.kept.end(), 0);
    const std::int64_t wanted = item.set.channels - pruned_count(item.set.channels, levels[i], rounding);
    const std::int64_t width = rounded_width(wanted, config.width_multiple, item.set.channels);
    if (!item.set.is_free()) {
      item.reason = item.set.fixed;
    } else if (scored_axes(graph, item.set, config.criterion).empty()) {
      item.reason = "it has no batch norm whose scale could be looked at";
    } else if (width == item.set.channels) {
      item.reason = wanted == width ? str_cat("level ", levels[i], " prunes none of its ", width, " channels")
                                    : str_cat("its width rounds up to all ", width, " channels");
    } else {
      item.kept = kept_channels(channel_scores(graph, item.set, config), item.set.channels - width);
      result.graph = prune_channels(result.graph, item.set, item.kept);
    }
  }
  return result;
}

}  // namespace pare::channels
