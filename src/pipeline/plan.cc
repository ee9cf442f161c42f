#include "pare/pipeline/plan.h"

#include <algorithm>
#include <iomanip>
#include <optional>
#include <sstream>

#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/recipe_scheme.h"
#include "pare/pipeline/recipe_stage.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/training.h"
#include "pare/sparsity/sparsifiers.h"
#include "pare/train/model.h"

namespace pare::pipeline {
namespace {

// The stage whose masks are in force at the end, or null.
const StageRecipe* last_masks(const Recipe& recipe) {
  const StageRecipe* masks = nullptr;
  for (const StageRecipe& stage : recipe.stages) {
    if (stage.kind == StageKind::kDense) {
      masks = nullptr;
    } else if (stage.sparsifier) {
      masks = &stage;
    }
  }
  return masks;
}

bool reaches_qat(const Recipe& recipe) { return quantizes(recipe.stages.back().kind); }

}  // namespace

LayerForecast forecast_layers(const Recipe& recipe) {
  LayerForecast forecast;
  const graph::Graph graph = graph::builtin(recipe.model, recipe.seed);
  std::map<std::string, std::string> patterns;
  if (const StageRecipe* masks = last_masks(recipe)) {
    // A model of its own answers with the sparsifier's own rules.
    train::Model model(graph);
    const auto sparsifier = sparsity::make_sparsifier(masks->sparsifier->name, masks->sparsifier->config);
    sparsifier->prepare(model, masks->layers);
    for (const sparsity::SparseGroup& group : sparsifier->groups()) {
      patterns[group.tensor_fqn] = group.pattern;
    }
    forecast.left_dense = sparsifier->dense_layers();
  }
  const int bits = reaches_qat(recipe) ? 8 : 32;
  if (reaches_qat(recipe)) {
    const quant::QATConfig& config = recipe.stages.back().quantize;
    forecast.schemes = quant::plan_schemes(graph, config.scheme, config.layers);
  }
  for (const graph::Node& node : graph.nodes) {
    if (node.has_weight()) {
      const auto scheme = forecast.schemes.find(node.inputs.at(1));
      const bool int4 = scheme != forecast.schemes.end() && scheme->second.scheme.is_int4();
      const auto pattern = patterns.find(node.inputs.at(1));
      const Shape& shape = graph.initializer(node.inputs[1]).shape;
      forecast.layers.push_back({node.name, node.op_type, pattern == patterns.end() ? "dense" : pattern->second,
                                 int4 ? 4 : bits, bits, shape.at(1), shape.at(0)});
    }
  }
  return forecast;
}

std::vector<std::string> early_warnings(const Recipe& recipe) {
  std::vector<std::string> warnings;
  const LayerForecast forecast = forecast_layers(recipe);
  for (const sparsity::DenseLayer& layer : forecast.left_dense) {
    const StageRecipe* masks = last_masks(recipe);
    const bool asked_for = std::any_of(masks->layers.begin(), masks->layers.end(), [&](const auto& entry) {
      return entry.dense && glob_match(entry.tensor_fqn, layer.tensor_fqn);
    });
    if (!asked_for) {
      warnings.push_back(str_cat("'", layer.tensor_fqn, "' stays dense: ", layer.reason));
    }
  }
  const bool had_masks = std::any_of(recipe.stages.begin(), recipe.stages.end(),
                                     [](const StageRecipe& stage) { return stage.sparsifier.has_value(); });
  if (had_masks && last_masks(recipe) == nullptr && recipe.sparsify != kSparsifyDense) {
    warnings.push_back("a dense stage lifts the masks again, so the artifact will be dense");
  }
  if (!recipe.target.empty()) {
    for (const LayerVerdict& verdict : check_target(recipe.target, forecast.layers)) {
      if (verdict.support != Support::kFast) {
        warnings.push_back(
            str_cat("on ", recipe.target, ", '", verdict.layer.name, "' (", verdict.layer.op, ", ",
                    verdict.layer.pattern, ", ", verdict.layer.weight_bits, " bits) ",
                    verdict.support == Support::kUnsupported ? "is not supported" : "runs no faster than dense", ": ",
                    verdict.reason));
      }
    }
  }
  return warnings;
}

std::string describe_stage(const StageRecipe& stage) {
  std::string masks;
  if (stage.sparsifier) {
    masks = str_cat(stage.sparsifier->name, " ",
                    stage.sparsifier->pattern.empty() ? str_cat("level ", stage.sparsifier->config.sparsity_level)
                                                      : stage.sparsifier->pattern);
  }
  if (stage.kind == StageKind::kPruneChannels) {
    const bool looks = stage.channels.criterion == channels::ChannelCriterion::kTaylor;
    return str_cat("by ", to_string(stage.channels.criterion), ", level ", stage.channels.sparsity_level,
                   ", widths a multiple of ", stage.channels.width_multiple,
                   looks ? str_cat(", gradients of up to ", stage.calibration_images, " images") : std::string());
  }
  if (stage.kind == StageKind::kCalibrate) {
    const quant::CalibrateOptions& options = stage.calibration;
    return str_cat(describe_schemes(stage.quantize), " after up to ", stage.calibration_images, " images, ",
                   to_string(stage.quantize.observer.kind),
                   options.rescaling == quant::Rescaling::kNone ? "" : ", rescaled: " + to_string(options.rescaling),
                   options.rounding == quant::Rounding::kNearest ? "" : ", rounded: " + to_string(options.rounding),
                   options.bias_correction ? ", biases corrected" : "", ", masks held");
  }
  if (stage.permute_channels) {
    masks = "channels reordered, " + masks;
  }
  if (stage.kind == StageKind::kOneShot) {
    return sparsity::sparsifier_needs_calibration(stage.sparsifier->name)
               ? str_cat(masks, ", calibrated on up to ", stage.calibration_images, " images")
               : masks;
  }
  std::string text = str_cat(stage.epochs, stage.epochs == 1.0 ? " epoch, " : " epochs, ",
                             to_string(stage.optimizer.kind), " lr ", stage.optimizer.lr);
  if (stage.schedule.curve != train::LrCurve::kConstant) {
    text += ", " + to_string(stage.schedule.curve);
  }
  if (!masks.empty()) {
    text += "; " + masks;
  }
  if (stage.sparsity_schedule && stage.sparsity_schedule->curve != sparsity::LevelCurve::kConstant) {
    text +=
        str_cat(", ", to_string(stage.sparsity_schedule->curve), " until epoch ", stage.sparsity_schedule->until_epoch);
  }
  if (!stage.sparse_activations.empty()) {
    text += str_cat("; 2:4 activations into ", join(stage.sparse_activations, ", "));
  }
  if (stage.distill) {
    text += str_cat("; taught by ", stage.distill->teacher);
  }
  if (stage.kind == StageKind::kQat) {
    text += str_cat("; ", describe_schemes(stage.quantize), stage.quantize.learned_steps ? ", learned steps" : "",
                    ", masks ", stage.sparsity_schedule ? "scheduled" : "held");
  }
  return text;
}

std::string describe_run(const Recipe& recipe) {
  const RunData loaded = load_run_data(recipe);
  const std::int64_t train_images = loaded.train.size();
  std::ostringstream out;
  out << "recipe  " << recipe.name << " (" << recipe.path.string() << ")\n";
  out << "model   " << recipe.model << " on " << recipe.device << ", seed " << recipe.seed << "\n";
  out << "data    " << (recipe.data.set.empty() ? recipe.data.train->images.string() : recipe.data.set) << ": "
      << train_images << " images to train, " << loaded.test.size() << " to test, batches of " << recipe.data.batch
      << "\n";
  out << "stages\n";
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    const StageRecipe& stage = recipe.stages[i];
    out << "  " << i + 1 << "  " << std::left << std::setw(10) << stage.name << " " << describe_stage(stage);
    if (trains(stage.kind)) {
      out << " (" << stage_steps(stage, train_images / recipe.data.batch) << " steps)";
    }
    out << "\n";
  }
  if (reaches_qat(recipe)) {
    out << "  " << recipe.stages.size() + 1 << "  convert    squash_mask, quantize_"
        << (recipe.sparsify == kSparsifyDense ? "" : ", sparsify_ " + recipe.sparsify)
        << "; verify; evaluate in the runtime and compare with QAT\n";
  }
  const LayerForecast forecast = forecast_layers(recipe);
  TextTable layers({{"layers"}, {"op"}, {"pattern"}, {"scheme"}, {"because"}});
  for (const LayerPlan& layer : forecast.layers) {
    const std::string weight = layer.name + ".weight";
    std::vector<std::string> reasons;
    std::string scheme = str_cat(layer.weight_bits, " bits");
    if (const auto planned = forecast.schemes.find(weight); planned != forecast.schemes.end()) {
      scheme = to_string(planned->second.scheme);
      if (!planned->second.note.empty()) {
        reasons.push_back(planned->second.note);
      }
    }
    for (const sparsity::DenseLayer& dense : forecast.left_dense) {
      if (dense.tensor_fqn == weight) {
        reasons.push_back(dense.reason);
      }
    }
    layers.add_row({layer.name, layer.op, layer.pattern, scheme, join(reasons, "; ")});
  }
  out << layers.text();
  if (recipe.max_accuracy_drop) {
    out << "accept  at most " << *recipe.max_accuracy_drop << " points below the dense stage\n";
  }
  return out.str();
}

}  // namespace pare::pipeline
