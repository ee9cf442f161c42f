#include "pare/pipeline/suggest.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/artifact.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/knapsack.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/targets.h"
#include "pare/quant/calibrate.h"
#include "pare/quant/convert.h"
#include "pare/quant/qat.h"
#include "pare/runtime/measure.h"
#include "pare/runtime/session.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

constexpr std::int64_t kTimingRounds = 60;
constexpr std::int64_t kTimingCalibrationImages = 32;  // ranges only have to be there
// Microseconds in which the nominal core reads a byte of weights.
constexpr double kNominalByteUs = 1e-3 / (8.0 * 3.0);
constexpr std::size_t kFrontRows = 9;

graph::Graph float_graph(const Recipe& recipe, const RunData& data) {
  graph::Graph graph =
      graph::builtin(recipe.model, recipe.seed, data.image.at(0), data.image.at(1), data.image.at(2), data.classes());
  graph::infer_shapes(graph);
  return graph;
}

// Removes a file at the end of a scope.
class Removed {
 public:
  explicit Removed(std::filesystem::path path) : path_(std::move(path)) {}
  ~Removed() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;

 private:
  std::filesystem::path path_;
};

// A candidate with what it is predicted to cost.
struct Option {
  std::string pattern;
  std::string packed;  // form in the artifact
  Prediction alone;
};

struct LayerOptions {
  LayerShape shape;
  std::vector<Option> options;  // the first is dense
};

std::string packed_form(const std::string& pattern) {
  if (pattern == sparsity::kDensePattern) {
    return sparsity::kDensePattern;
  }
  const std::string packed = packed_pattern(sparsity::MaskConfig::from_pattern(pattern), kSparsifyAuto, /*int4=*/false);
  return packed.empty() ? sparsity::kDensePattern : packed;
}

std::vector<LayerOptions> options_of(const Recipe& recipe, const Sensitivity& sensitivity, const TimeBasis& time) {
  const auto fail = [&](const std::string& problem) {
    throw Error(ErrorCategory::kInvalidArgument, problem, recipe.path.string(),
                "measure this recipe's network: pare sensitivity " + recipe.path.filename().string() +
                    " --checkpoint stages/dense.ckpt");
  };
  const std::vector<LayerShape> shapes = layer_shapes(float_graph(recipe, load_run_data(recipe)));
  const bool same = sensitivity.model == recipe.model &&
                    std::equal(shapes.begin(), shapes.end(), sensitivity.layers.begin(), sensitivity.layers.end(),
                               [](const LayerShape& a, const LayerSensitivity& b) {
                                 return a.weight == b.weight && a.shape == b.shape;
                               });
  if (!same) {
    fail(str_cat("the sensitivity is that of '", sensitivity.model, "' of recipe '", sensitivity.recipe,
                 "', with other layers than this recipe's ", recipe.model));
  }
  std::vector<LayerOptions> layers;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    LayerOptions layer{shapes[i], {}};
    const double dense_time = predicted_time(shapes[i], sparsity::kDensePattern, time.isa, time.vendor);
    for (const std::string& pattern : sensitivity.patterns) {
      const SensitivityCandidate* candidate = sensitivity.layers[i].find(pattern, kInt8Bits);
      if (candidate == nullptr) {
        if (pattern == sparsity::kDensePattern) {
          fail("the sensitivity has no int8 candidates, and suggestions are for int8 weights");
        }
        continue;
      }
      Option option{pattern, packed_form(pattern), {}};
      option.alone.loss_increase = std::max(0.0, candidate->loss - sensitivity.loss);
      option.alone.accuracy_drop = std::max(0.0, sensitivity.accuracy_drop(candidate->correct));
      option.alone.bytes = stored_bytes(shapes[i], option.packed);
      option.alone.us = time.dense_us.at(shapes[i].name) *
                        predicted_time(shapes[i], option.packed, time.isa, time.vendor) / dense_time;
      layer.options.push_back(std::move(option));
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

// Whole numbers, so that sums are exact: bytes; nanoseconds, rounded up; images, of which more than are missing may
// not go wrong.
std::int64_t cost_of(const Prediction& alone, BudgetKind kind, std::int64_t images) {
  switch (kind) {
    case BudgetKind::kBytes:
      return alone.bytes;
    case BudgetKind::kTimeUs:
      return static_cast<std::int64_t>(std::ceil(alone.us * 1e3));
    case BudgetKind::kAccuracyDrop:
      return std::llround(alone.accuracy_drop * static_cast<double>(images) / 100.0);
  }
  return 0;
}

std::int64_t limit_of(const Budget& budget, double other_us, std::int64_t images) {
  if (!std::isfinite(budget.limit) || budget.limit < 0.0 || budget.limit > 1e15) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("a budget of ", budget.limit, " is impossible"), "suggest",
                "give a number of 0 or more");
  }
  switch (budget.kind) {
    case BudgetKind::kBytes:
      return static_cast<std::int64_t>(budget.limit);
    case BudgetKind::kTimeUs:
      return static_cast<std::int64_t>(std::floor((budget.limit - other_us) * 1e3));
    case BudgetKind::kAccuracyDrop:
      // A drop that was printed with two decimals is a budget that it keeps.
      return static_cast<std::int64_t>(std::floor(budget.limit * static_cast<double>(images) / 100.0 + 1e-6));
  }
  return 0;
}

// The least budget, as it is printed, that this cost keeps.
double budget_of(std::int64_t cost, BudgetKind kind, double other_us, std::int64_t images) {
  const auto whole = static_cast<double>(cost);
  switch (kind) {
    case BudgetKind::kBytes:
      return whole;
    case BudgetKind::kTimeUs:
      return std::ceil((whole / 1e3 + other_us) * 10.0 + 1e-6) / 10.0;
    case BudgetKind::kAccuracyDrop:
      return std::ceil(100.0 * whole / static_cast<double>(images) * 100.0 - 1e-6) / 100.0;
  }
  return 0.0;
}

double value_of(const Prediction& alone, const Budget& budget) {
  if (budget.kind != BudgetKind::kAccuracyDrop) {
    return alone.loss_increase;
  }
  return budget.minimize == Minimize::kTime ? alone.us : static_cast<double>(alone.bytes);
}

void add(const Prediction& alone, Prediction& sum) {
  sum.loss_increase += alone.loss_increase;
  sum.accuracy_drop += alone.accuracy_drop;
  sum.bytes += alone.bytes;
  sum.us += alone.us;
}

Prediction sum_of(const std::vector<LayerOptions>& layers, const std::vector<std::size_t>& chosen, double other_us) {
  Prediction sum;
  sum.us = other_us;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    add(layers[i].options[chosen[i]].alone, sum);
  }
  return sum;
}

// At most kFrontRows of the front and the chosen one, evenly over the costs.
std::vector<std::size_t> rows_to_show(const ParetoFront& front, std::size_t chosen) {
  const auto& points = front.points();
  std::vector<std::size_t> rows = {chosen};
  const double first = static_cast<double>(points.front().cost);
  const double span = static_cast<double>(points.back().cost) - first;
  for (std::size_t i = 0; i < kFrontRows; ++i) {
    const double wanted = first + span * static_cast<double>(i) / static_cast<double>(kFrontRows - 1);
    const auto at = std::lower_bound(points.begin(), points.end(), wanted, [](const auto& point, double cost) {
      return static_cast<double>(point.cost) < cost;
    });
    rows.push_back(at == points.end() ? points.size() - 1 : static_cast<std::size_t>(at - points.begin()));
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// Of a layer without another int8 candidate.
std::string why_only_dense(const LayerSensitivity& layer) {
  const auto found = std::find_if(layer.impossible.begin(), layer.impossible.end(),
                                  [](const ImpossibleCandidate& candidate) { return candidate.bits == kInt8Bits; });
  return found == layer.impossible.end() ? std::string("no pattern was measured") : found->reason;
}

void check_recipe(const Recipe& recipe) {
  for (const StageRecipe& stage : recipe.stages) {
    const auto fail = [&](const std::string& problem, const std::string& remedy) {
      throw Error(ErrorCategory::kUnsupported, problem, str_cat(recipe.path.string(), ": stage '", stage.name, "'"),
                  remedy);
    };
    if (stage.kind == StageKind::kPruneChannels) {
      fail("the recipe takes channels away, and predictions are for the layers as they are",
           "suggest for the recipe without that stage");
    }
    if (stage.sparsifier && stage.sparsifier->name == "global_magnitude") {
      fail("'global_magnitude' ranks single weights over all layers and makes no patterns",
           "use another sparsifier, as in --set stage." + stage.name + ".sparsifier.name=weight_norm");
    }
    const auto is_int4 = [](const auto& layer) { return layer.scheme.is_int4(); };
    if (quantizes(stage.kind) && (stage.quantize.scheme.is_int4() ||
                                  std::any_of(stage.quantize.layers.begin(), stage.quantize.layers.end(), is_int4))) {
      fail("the recipe quantizes to int4, and predictions are for int8 weights",
           "suggest for int8, as in --set stage." + stage.name + ".quantize={}");
    }
  }
}

}  // namespace

TimeBasis measured_time_basis(const Recipe& recipe, const std::filesystem::path& scratch) {
  const RunData data = load_run_data(recipe);
  train::Model model(float_graph(recipe, data));
  quant::prepare_qat(model, {.observer = {.kind = quant::ObserverKind::kMinMax}});
  quant::calibrate(model, first_images(data, recipe, kTimingCalibrationImages, "timing"), {.bias_correction = false});
  quant::finish_qat(model);
  const graph::Artifact artifact = quant::make_artifact(
      quant::quantize_(model), {}, {recipe.data.normalize.mean, recipe.data.normalize.std}, data.class_names);
  const Removed removed(scratch);
  graph::write_artifact(scratch, artifact);
  runtime::Session session = runtime::Session::load(scratch, {.threads = 1, .max_batch = 1});
  const runtime::Measurement measured =
      runtime::measure(session, {.batch = 1, .rounds = kTimingRounds, .by_layer = true});

  TimeBasis basis{session.isa(), cpu_vendor(), {}, 0.0, {}};
  for (const LayerShape& layer : layer_shapes(float_graph(recipe, data))) {
    basis.dense_us[layer.name] = 0.0;
  }
  for (const runtime::LayerProfile& layer : measured.layers) {
    // The least: what else the machine does only adds.
    const double us = 1e6 * layer.time.min();
    if (const auto found = basis.dense_us.find(layer.layer.name); found != basis.dense_us.end()) {
      found->second = us;
    } else {
      basis.other_us += us;
    }
  }
  basis.description =
      str_cat("measured: the dense int8 network on this machine (", cpu_name(), ", ", to_string(basis.isa),
              "), one image, one thread; times of patterns are that times the "
              "ratio in the runtime's table of costs");
  return basis;
}

TimeBasis nominal_time_basis(const Recipe& recipe, const std::string& target) {
  struct Known {
    const char* target;
    Isa isa;
  };
  constexpr std::array kKnown = {Known{"x86-avx2", Isa::kAvx2}, Known{"x86-avx512-vnni", Isa::kAvx512Vnni},
                                 Known{"arm-dotprod", Isa::kNeonDotprod}, Known{"arm-i8mm", Isa::kNeonI8mm}};
  const auto* const known =
      std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& entry) { return entry.target == target; });
  if (known == kKnown.end()) {
    const std::vector<std::string> all = target_names();
    const bool exists = std::find(all.begin(), all.end(), target) != all.end();
    std::vector<std::string> names;
    for (const Known& entry : kKnown) {
      names.emplace_back(entry.target);
    }
    throw Error(exists ? ErrorCategory::kUnsupported : ErrorCategory::kInvalidArgument,
                exists ? str_cat("there is no table of costs for '", target, "'")
                       : str_cat("there is no target '", target, "'"),
                "--target", exists ? str_cat("known: ", join(names, ", ")) : did_you_mean(target, names));
  }
  TimeBasis basis{known->isa, CpuVendor::kOther, {}, 0.0, {}};
  for (const LayerShape& layer : layer_shapes(float_graph(recipe, load_run_data(recipe)))) {
    basis.dense_us[layer.name] =
        kNominalByteUs * predicted_time(layer, sparsity::kDensePattern, basis.isa, basis.vendor);
  }
  basis.description =
      str_cat("nominal, not measured: a core of ", target,
              " at 3 GHz with 64 multiply-adds or 8 bytes of weights a cycle, layers with weights only; "
              "only ratios mean something");
  return basis;
}

Suggestion suggest(const Recipe& recipe, const Sensitivity& sensitivity, const Budget& budget, const TimeBasis& time) {
  check_recipe(recipe);
  const std::int64_t limit = limit_of(budget, time.other_us, sensitivity.images);
  const std::vector<LayerOptions> layers = options_of(recipe, sensitivity, time);
  std::vector<std::vector<KnapsackOption>> knapsack;
  for (const LayerOptions& layer : layers) {
    std::vector<KnapsackOption> options;
    for (const Option& option : layer.options) {
      options.push_back({cost_of(option.alone, budget.kind, sensitivity.images), value_of(option.alone, budget)});
    }
    knapsack.push_back(std::move(options));
  }
  const ParetoFront front = pareto_front(knapsack);
  const std::optional<std::size_t> chosen = front.best_within(limit);
  if (!chosen) {
    const double reachable = budget_of(front.points().front().cost, budget.kind, time.other_us, sensitivity.images);
    throw Error(
        ErrorCategory::kInvalidArgument,
        str_cat("no combination of these patterns keeps ", to_string(budget), "; the smallest that can be kept is ",
                to_string(Budget{budget.kind, reachable, budget.minimize})),
        "suggest", "raise the budget, or measure sparser patterns with --patterns");
  }

  Suggestion result{budget, {}, {}, {}, {}, time.description, front.step(), std::nullopt};
  const std::vector<std::size_t>& options = front.points()[*chosen].options;
  result.predicted = sum_of(layers, options, time.other_us);
  result.dense = sum_of(layers, std::vector<std::size_t>(layers.size(), 0), time.other_us);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Option& option = layers[i].options[options[i]];
    SuggestedLayer layer{layers[i].shape.name, layers[i].shape.weight, option.pattern, option.alone, {}};
    layer.why = option.pattern != sparsity::kDensePattern
                    ? str_cat("alone, in one shot: loss +", fixed(option.alone.loss_increase, 4))
                : layers[i].options.size() > 1 ? std::string("the budget is kept without its zeros")
                                               : why_only_dense(sensitivity.layers[i]);
    result.layers.push_back(std::move(layer));
  }
  for (const std::size_t row : rows_to_show(front, *chosen)) {
    const std::vector<std::size_t>& selection = front.points()[row].options;
    TradeOff trade{sum_of(layers, selection, time.other_us), {}, row == *chosen};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      ++trade.layers_by_pattern[layers[i].options[selection[i]].pattern];
    }
    result.front.push_back(std::move(trade));
  }
  return result;
}

Verification verify_suggestion(SensitivityProbe& probe, const Sensitivity& sensitivity, const Suggestion& suggestion) {
  if (const double loss = probe.evaluate().loss; std::abs(loss - sensitivity.loss) > 0.01 * sensitivity.loss) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the network has loss ", fixed(loss, 4), ", and the one that was measured ",
                        fixed(sensitivity.loss, 4)),
                "--verify", str_cat("name the checkpoint that was measured: ", sensitivity.checkpoint));
  }
  std::vector<SensitivityProbe::Choice> choices;
  for (const SuggestedLayer& layer : suggestion.layers) {
    choices.push_back({layer.weight, layer.pattern});
  }
  const train::Evaluation evaluation = probe.together(choices, kInt8Bits);
  const double correct = evaluation.accuracy * static_cast<double>(evaluation.samples) / 100.0;
  return {evaluation.loss - sensitivity.loss, sensitivity.accuracy_drop(std::llround(correct))};
}

}  // namespace pare::pipeline
