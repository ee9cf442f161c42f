#include "pare/pipeline/suggest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/plan.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::get_file;
using ::pare::testing::quiet;
using ::pare::testing::tiny_header;
using ::pare::testing::TinyRun;

constexpr std::int64_t kImages = 1000;

// A made-up measurement of the tiny convnet: random losses, sparser patterns worse on average.
Sensitivity made_up(std::uint64_t seed) {
  Rng rng(seed);
  graph::Graph graph = graph::builtin("convnet", 0, 1, 8, 8, 4);
  graph::infer_shapes(graph);
  Sensitivity result{.recipe = "tiny",
                     .model = "convnet",
                     .checkpoint = "dense.ckpt",
                     .sparsifier = "weight_norm",
                     .images = kImages,
                     .calibration_images = 64,
                     .loss = 0.5,
                     .correct = 900,
                     .patterns = {"dense", "2:4", "16:2:4", "16:1:4"},
                     .bits = {"int8"},
                     .layers = {}};
  for (const LayerShape& shape : layer_shapes(graph)) {
    LayerSensitivity layer{shape.weight, shape.op, shape.shape, {}, {}};
    for (std::size_t i = 0; i < result.patterns.size(); ++i) {
      if (shape.weight == "conv1.weight" && i > 0) {
        layer.impossible.push_back({result.patterns[i], "int8", "one input channel"});
        continue;
      }
      // Some are better than the trained network.
      const double harm = static_cast<double>(i) * static_cast<double>(rng.uniform()) - 0.1;
      layer.candidates.push_back({result.patterns[i], "int8", 0.5 + 0.1 * harm, 900 - std::llround(10.0 * harm)});
    }
    result.layers.push_back(std::move(layer));
  }
  return result;
}

double spent(const Prediction& predicted, const Budget& budget) {
  return budget.kind == BudgetKind::kBytes    ? static_cast<double>(predicted.bytes)
         : budget.kind == BudgetKind::kTimeUs ? predicted.us
                                              : predicted.accuracy_drop;
}

double goal(const Prediction& predicted, const Budget& budget) {
  return budget.kind != BudgetKind::kAccuracyDrop ? predicted.loss_increase
         : budget.minimize == Minimize::kTime     ? predicted.us
                                                  : static_cast<double>(predicted.bytes);
}

// All combinations of what suggest() says of each layer's patterns when it may choose but one.
std::vector<Prediction> all_combinations(const Recipe& recipe, const Sensitivity& sensitivity, const TimeBasis& time) {
  std::vector<Prediction> sums(1);
  sums[0].us = time.other_us;
  for (std::size_t i = 0; i < sensitivity.layers.size(); ++i) {
    std::vector<Prediction> next;
    for (const std::string& pattern : sensitivity.patterns) {
      if (sensitivity.layers[i].find(pattern, kInt8Bits) == nullptr) continue;
      // The layer with this pattern alone, said to be its dense candidate's place by removing the others.
      Sensitivity only = sensitivity;
      std::erase_if(only.layers[i].candidates, [&](const auto& candidate) {
        return candidate.pattern != pattern && candidate.pattern != sparsity::kDensePattern;
      });
      if (pattern != sparsity::kDensePattern) {
        only.layers[i].candidates.front().loss = 1e6;  // dense is never worth it
      }
      const Suggestion forced = suggest(recipe, only, {BudgetKind::kBytes, 1e9, Minimize::kTime}, time);
      EXPECT_EQ(forced.layers[i].pattern, pattern);
      for (Prediction sum : sums) {
        sum.loss_increase += forced.layers[i].alone.loss_increase;
        sum.accuracy_drop += forced.layers[i].alone.accuracy_drop;
        sum.bytes += forced.layers[i].alone.bytes;
        sum.us += forced.layers[i].alone.us;
        next.push_back(sum);
      }
    }
    sums = std::move(next);
  }
  return sums;
}

TEST(Suggest, IsTheBestOfAllCombinationsWithinTheBudget) {
  const TinyRun tiny;
  const Recipe recipe = load_recipe(tiny.recipe());
  const TimeBasis time = nominal_time_basis(recipe, "x86-avx2");
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(str_cat("seed ", seed));
    const Sensitivity sensitivity = made_up(seed);
    const std::vector<Prediction> all = all_combinations(recipe, sensitivity, time);
    ASSERT_EQ(all.size(), 64U);
    for (const Budget& kind :
         {Budget{BudgetKind::kBytes, 0, Minimize::kTime}, Budget{BudgetKind::kTimeUs, 0, Minimize::kTime},
          Budget{BudgetKind::kAccuracyDrop, 0, Minimize::kTime},
          Budget{BudgetKind::kAccuracyDrop, 0, Minimize::kBytes}}) {
      for (const double part : {0.05, 0.3, 0.6, 1.0}) {
        Budget budget = kind;
        const auto [least, most] = std::minmax_element(
            all.begin(), all.end(), [&](const auto& a, const auto& b) { return spent(a, budget) < spent(b, budget); });
        // Nanoseconds are rounded up layer by layer: room for four of them.
        budget.limit = spent(*least, budget) + part * (spent(*most, budget) - spent(*least, budget)) + 0.005;
        double best = std::numeric_limits<double>::infinity();
        for (const Prediction& sum : all) {
          if (spent(sum, budget) <= budget.limit - 0.0041) best = std::min(best, goal(sum, budget));
        }
        const Suggestion suggestion = suggest(recipe, sensitivity, budget, time);
        EXPECT_LE(spent(suggestion.predicted, budget), budget.limit);
        EXPECT_LE(goal(suggestion.predicted, budget), best + 1e-12) << to_string(budget);
        EXPECT_EQ(suggestion.cost_step, 1);
        EXPECT_EQ(std::count_if(suggestion.front.begin(), suggestion.front.end(),
                                [](const TradeOff& trade) { return trade.chosen; }),
                  1);
      }
    }
  }
}

TEST(Suggest, NamesTheSmallestBudgetThatCanBeKept) {
  const TinyRun tiny;
  const Recipe recipe = load_recipe(tiny.recipe());
  TimeBasis time = nominal_time_basis(recipe, "x86-avx2");
  time.other_us = 3.14159;
  Sensitivity sensitivity = made_up(4);
  // Every candidate of one layer loses 17 images.
  for (SensitivityCandidate& candidate : sensitivity.layers[2].candidates) candidate.correct = 883;
  for (const BudgetKind kind : {BudgetKind::kBytes, BudgetKind::kTimeUs, BudgetKind::kAccuracyDrop}) {
    const auto error = ::pare::testing::error_of([&] {
      return suggest(recipe, sensitivity, {kind, kind == BudgetKind::kTimeUs ? 3.0 : 1.0, Minimize::kTime}, time);
    });
    ASSERT_TRUE(::pare::testing::is_error(error, ErrorCategory::kInvalidArgument, "the smallest that can be kept is "));
    const std::string text = error->problem();
    const std::size_t at = text.find_first_of("0123456789", text.find("kept is "));
    const double smallest = std::stod(text.substr(at));
    EXPECT_NO_THROW(static_cast<void>(suggest(recipe, sensitivity, {kind, smallest, Minimize::kTime}, time))) << text;
    const double step = kind == BudgetKind::kBytes ? 1.0 : kind == BudgetKind::kTimeUs ? 0.11 : 0.1;
    EXPECT_TRUE(::pare::testing::error_of([&] {
      return suggest(recipe, sensitivity, {kind, smallest - step, Minimize::kTime}, time);
    })) << text
        << ": less can be kept";
  }
}

std::map<std::string, std::string> patterns_of(const Suggestion& suggestion) {
  std::map<std::string, std::string> patterns;
  for (const SuggestedLayer& layer : suggestion.layers) patterns[layer.name] = layer.pattern;
  return patterns;
}

// Recipes with masks, without, and with a dense stage alone.
TEST(Suggest, WritesARecipeThatLeadsToTheseLayers) {
  const std::string dense = tiny_header() + "[[stage]]\nkind = \"dense\"\n";
  for (const std::string& text :
       {::pare::testing::tiny_recipe(), dense, dense + "[[stage]]\nkind = \"qat\"\n",
        dense + "[[stage]]\nkind = \"dense\"\nname = \"one_shot\"\n[[stage]]\nkind = \"calibrate\"\n[convert]\n"
                "sparsify = \"2:4\"\n"}) {
    SCOPED_TRACE(text);
    const TinyRun tiny(text);
    const Recipe recipe = load_recipe(tiny.recipe());
    const Sensitivity sensitivity = made_up(5);
    const Suggestion suggestion = suggest(recipe, sensitivity, {BudgetKind::kBytes, 45000, Minimize::kTime},
                                          nominal_time_basis(recipe, "x86-avx512-vnni"));
    const std::filesystem::path path = tiny / "suggested.toml";
    write_suggestion(path, recipe, sensitivity, suggestion);
    const Recipe written = load_recipe(path);
    require_convertible(written);
    EXPECT_EQ(written.name, "tiny-suggested");
    EXPECT_EQ(written.sparsify, kSparsifyAuto);
    std::map<std::string, std::string> forecast;
    for (const LayerPlan& layer : forecast_layers(written).layers) forecast[layer.name] = layer.pattern;
    EXPECT_EQ(forecast, patterns_of(suggestion));
    const std::string content = get_file(path);
    for (const std::string& sentence : assumptions()) {
      EXPECT_NE(content.find("# * " + sentence), std::string::npos) << sentence;
    }
    EXPECT_NE(content.find("\npattern = \""), std::string::npos) << content;
    EXPECT_EQ(content.find("zeros_per_block"), std::string::npos) << "a pattern says it all";
    EXPECT_EQ(early_warnings(written), std::vector<std::string>());
  }
}

// Bytes are those of a real artifact, layer by layer.
TEST(Suggest, PredictsTheBytesThatAreStored) {
  const TinyRun tiny(tiny_header() + "[[stage]]\nkind = \"dense\"\n");
  const Recipe recipe = load_recipe(tiny.recipe());
  const Sensitivity sensitivity = made_up(6);
  const Suggestion suggestion = suggest(recipe, sensitivity, {BudgetKind::kBytes, 40000, Minimize::kTime},
                                        nominal_time_basis(recipe, "x86-avx2"));
  std::set<std::string> forms;
  for (const auto& [layer, pattern] : patterns_of(suggestion)) forms.insert(pattern);
  EXPECT_GE(forms.size(), 2U) << "the test compares more than one form";
  write_suggestion(tiny / "suggested.toml", recipe, sensitivity, suggestion);
  RunOptions options;
  options.folder = tiny.out();
  options.print_summary = false;
  const RunRecord record = run_recipe(load_recipe(tiny / "suggested.toml"), options, quiet());
  ASSERT_EQ(record.layers.size(), suggestion.layers.size());
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < record.layers.size(); ++i) {
    EXPECT_EQ(record.layers[i].pattern, suggestion.layers[i].pattern);
    EXPECT_EQ(record.layers[i].bytes, suggestion.layers[i].alone.bytes) << record.layers[i].name;
    sum += record.layers[i].bytes;
  }
  EXPECT_EQ(sum, suggestion.predicted.bytes);
  EXPECT_LE(sum, 40000);
}

TEST(Suggest, TimesAreTheRuntimesRatios) {
  const TinyRun tiny;
  const Recipe recipe = load_recipe(tiny.recipe());
  const TimeBasis avx2 = nominal_time_basis(recipe, "x86-avx2");
  // fc2 at one row an image: bound by reading its weights, a byte each, at 24 bytes a nanosecond.
  EXPECT_NEAR(avx2.dense_us.at("fc2"), 256.0 * 4.0 / 24e3, 1e-12);
  EXPECT_EQ(avx2.other_us, 0.0);
  const TimeBasis measured = measured_time_basis(recipe, tiny / "dense.pare");
  EXPECT_FALSE(std::filesystem::exists(tiny / "dense.pare"));
  EXPECT_EQ(measured.dense_us.size(), 4U);
  for (const auto& [layer, us] : measured.dense_us) EXPECT_GT(us, 0.0) << layer;
  EXPECT_GT(measured.other_us, 0.0) << "pooling and the like";
}

TEST(Suggest, SaysWhatIsWrong) {
  const TinyRun tiny;
  const Recipe recipe = load_recipe(tiny.recipe());
  const TimeBasis time = nominal_time_basis(recipe, "x86-avx2");
  const Budget budget{BudgetKind::kBytes, 1e6, Minimize::kTime};
  Sensitivity other = made_up(7);
  other.layers[2].shape[0] = 512;
  EXPECT_PARE_ERROR(suggest(recipe, other, budget, time), kInvalidArgument, "with other layers than this recipe's");
  other = made_up(7);
  for (LayerSensitivity& layer : other.layers) layer.candidates.clear();
  EXPECT_PARE_ERROR(suggest(recipe, other, budget, time), kInvalidArgument, "no int8 candidates");
  for (const double limit : {-1.0, std::nan(""), static_cast<double>(INFINITY)}) {
    EXPECT_PARE_ERROR(suggest(recipe, made_up(7), {BudgetKind::kTimeUs, limit, Minimize::kTime}, time),
                      kInvalidArgument, "is impossible");
  }
  EXPECT_PARE_ERROR(nominal_time_basis(recipe, "x86-avx3"), kInvalidArgument, "did you mean 'x86-avx2'");
  EXPECT_PARE_ERROR(nominal_time_basis(recipe, "nvidia-ampere"), kUnsupported, "no table of costs");
  const TinyRun prunes(tiny_header() + "[[stage]]\nkind = \"dense\"\n[[stage]]\nkind = \"prune_channels\"\n");
  EXPECT_PARE_ERROR(suggest(load_recipe(prunes.recipe()), made_up(7), budget, time), kUnsupported,
                    "takes channels away");
  const Recipe ranks =
      load_recipe(tiny.recipe(), {"stage.sparse.sparsifier={ name = \"global_magnitude\" }", "stage.sparse.layers=[]"});
  EXPECT_PARE_ERROR(suggest(ranks, made_up(7), budget, time), kUnsupported, "makes no patterns");
}

}  // namespace
}  // namespace pare::pipeline
