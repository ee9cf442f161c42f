#include <algorithm>
#include <set>
#include <utility>

#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/recipe_text.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/suggest.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

StageRecipe new_stage(StageKind kind, const Recipe& recipe) {
  std::set<std::string> taken;
  for (const StageRecipe& stage : recipe.stages) {
    taken.insert(stage.name);
  }
  StageRecipe stage;
  stage.kind = kind;
  stage.epochs = 0.0;
  stage.name = to_string(kind);
  for (int number = 2; taken.contains(stage.name); ++number) {
    stage.name = str_cat(to_string(kind), "-", number);
  }
  return stage;
}

// Puts the stages in that a recipe needs to have masks and to be converted.
void complete(Recipe& recipe, const std::string& sparsifier) {
  const auto has_masks = [](const StageRecipe& stage) { return stage.sparsifier.has_value(); };
  if (std::none_of(recipe.stages.begin(), recipe.stages.end(), has_masks)) {
    const auto trained = std::find_if(recipe.stages.begin(), recipe.stages.end(),
                                      [](const StageRecipe& stage) { return stage.kind != StageKind::kDense; });
    StageRecipe stage = new_stage(StageKind::kOneShot, recipe);
    stage.sparsifier.emplace();
    stage.sparsifier->name = sparsifier;
    recipe.stages.insert(trained, std::move(stage));
  }
  if (!quantizes(recipe.stages.back().kind)) {
    StageRecipe stage = new_stage(StageKind::kCalibrate, recipe);
    stage.quantize.observer.kind = quant::ObserverKind::kMinMax;
    recipe.stages.push_back(std::move(stage));
  }
}

std::string loss_text(const Prediction& predicted) { return str_cat("+", fixed(predicted.loss_increase, 4)); }
std::string points_text(const Prediction& predicted) { return fixed(predicted.accuracy_drop, 2); }

std::string row(const std::vector<std::string>& cells) { return str_cat("| ", join(cells, " | "), " |\n"); }

// "3 64:1:4, 1 dense".
std::string patterns_text(const TradeOff& trade) {
  std::vector<std::string> parts;
  for (const auto& [pattern, layers] : trade.layers_by_pattern) {
    parts.push_back(str_cat(layers, " ", pattern));
  }
  return join(parts, ", ");
}

// What the combination was chosen for.
std::string goal_text(const Budget& budget) {
  const char* least = budget.kind != BudgetKind::kAccuracyDrop ? "the least loss"
                      : budget.minimize == Minimize::kTime     ? "the least time"
                                                               : "the fewest bytes";
  return str_cat(least, " within ", to_string(budget));
}

// How far the sum was off; "" if nobody looked.
std::string verification_text(const Suggestion& suggestion) {
  if (!suggestion.verified) {
    return {};
  }
  const auto sign = [](double value, int decimals) { return str_cat(value < 0.0 ? "" : "+", fixed(value, decimals)); };
  const double together = suggestion.verified->loss_increase;
  const double sum = suggestion.predicted.loss_increase;
  const std::string ratio = sum > 1e-6 ? str_cat(", ", fixed(together / sum, 2), " times the sum") : std::string();
  return str_cat("all layers at once: loss ", sign(together, 4), " where the sum is +", fixed(sum, 4), ratio,
                 "; accuracy ", sign(-suggestion.verified->accuracy_drop, 2), " points where the sum is -",
                 points_text(suggestion.predicted));
}

}  // namespace

std::string to_string(const Budget& budget) {
  switch (budget.kind) {
    case BudgetKind::kBytes:
      return str_cat(static_cast<std::int64_t>(budget.limit), " bytes");
    case BudgetKind::kTimeUs:
      return fixed(budget.limit, 1) + " us an image";
    case BudgetKind::kAccuracyDrop:
      break;
  }
  return str_cat("an accuracy drop of ", fixed(budget.limit, 2), " points");
}

std::vector<std::string> assumptions() {
  return {
      "Losses of layers add up. Together they may cost more or less than the sum: --verify measures it.",
      "Damage in one shot ranks layers. It is not the loss after training: training on with masks wins most of it "
      "back, "
      "and not the same share in every layer.",
      "A layer whose candidate is better than the trained network counts as no damage: such gains are noise.",
      "Weights are int8. What rounding the activations costs is not counted.",
      "Bytes are codes, indices, scales and biases of the layers, exactly as they are stored; the file's header and "
      "description come on top.",
      "Times are predictions for one image and one thread.",
  };
}

std::string suggested_recipe(const Recipe& recipe, const Sensitivity& sensitivity, const Suggestion& suggestion) {
  Recipe result = recipe;
  result.name = recipe.name + "-suggested";
  result.sparsify = kSparsifyAuto;
  complete(result, sensitivity.sparsifier);
  for (StageRecipe& stage : result.stages) {
    if (!stage.sparsifier) {
      continue;
    }
    stage.layers.clear();
    for (const SuggestedLayer& layer : suggestion.layers) {
      stage.layers.push_back(sparsity::layer_config(layer.weight, layer.pattern));
      stage.layers.back().why = layer.why;
    }
  }
  std::string text = str_cat("# Suggested by pare suggest: ", goal_text(suggestion.budget), ".\n");
  const auto totals = [](const Prediction& predicted) {
    return str_cat("loss ", loss_text(predicted), ", accuracy -", points_text(predicted), " points, ", predicted.bytes,
                   " bytes, ", fixed(predicted.us, 1), " us an image");
  };
  text += str_cat("#\n# Predicted:    ", totals(suggestion.predicted), "\n# All dense:    ", totals(suggestion.dense),
                  "\n# Sensitivity:  ", sensitivity.sparsifier, " on ", sensitivity.images, " images, checkpoint ",
                  sensitivity.checkpoint, "\n# Time:         ", suggestion.time_basis, "\n");
  if (suggestion.verified) {
    text += str_cat("# Verified:     ", verification_text(suggestion), "\n");
  }
  text += "#\n# What this assumes:\n";
  for (const std::string& sentence : assumptions()) {
    text += str_cat("# * ", sentence, "\n");
  }
  return text + "\n" + canonical_text(result, LayerText::kPattern);
}

std::string suggestion_table(const Suggestion& suggestion) {
  std::string out = str_cat("Chosen: ", goal_text(suggestion.budget), ".\n\n",
                            row({"layer", "pattern", "bytes", "us", "loss", "points lost"}),
                            row({"---", "---", "---:", "---:", "---:", "---:"}));
  const auto add = [&out](const std::string& name, const std::string& pattern, const Prediction& predicted) {
    out += row({name, pattern, std::to_string(predicted.bytes), fixed(predicted.us, 1), loss_text(predicted),
                points_text(predicted)});
  };
  for (const SuggestedLayer& layer : suggestion.layers) {
    add(layer.name, layer.pattern, layer.alone);
  }
  add("all", "as suggested", suggestion.predicted);
  add("all", "dense int8", suggestion.dense);
  out += str_cat("\nOther budgets:\n\n", row({"bytes", "us", "loss", "points lost", "layers", ""}),
                 row({"---:", "---:", "---:", "---:", "---", "---"}));
  for (const TradeOff& trade : suggestion.front) {
    out += row({std::to_string(trade.predicted.bytes), fixed(trade.predicted.us, 1), loss_text(trade.predicted),
                points_text(trade.predicted), patterns_text(trade), trade.chosen ? "<- chosen" : ""});
  }
  out += str_cat("\nTime: ", suggestion.time_basis, ".\n");
  if (suggestion.cost_step > 1) {
    out += str_cat("Costs were compared in steps of ", suggestion.cost_step,
                   suggestion.budget.kind == BudgetKind::kTimeUs ? " ns" : "", ": there were too many combinations.\n");
  }
  if (suggestion.verified) {
    out += str_cat("Verified in one shot, ", verification_text(suggestion), ".\n");
  }
  return out;
}

void write_suggestion(const std::filesystem::path& path, const Recipe& recipe, const Sensitivity& sensitivity,
                      const Suggestion& suggestion) {
  const std::string text = suggested_recipe(recipe, sensitivity, suggestion);
  static_cast<void>(parse_recipe(text, path));
  write_file_atomically(path, text);
}

}  // namespace pare::pipeline
