#include "pare/pipeline/recipe_stage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

constexpr double kMaxEpochs = 100000.0;
constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;

// A name and what it stands for, in the order in which choices are listed.
template <typename Enum>
using Names = std::vector<std::pair<std::string, Enum>>;

const Names<StageKind>& kind_names() {
  static const Names<StageKind> names = {
      {"dense", StageKind::kDense}, {"sparse", StageKind::kSparse}, {"qat", StageKind::kQat}};
  return names;
}
const Names<train::OptimizerKind>& optimizer_names() {
  static const Names<train::OptimizerKind> names = {{"adamw", train::OptimizerKind::kAdamW},
                                                    {"adam", train::OptimizerKind::kAdam},
                                                    {"sgd", train::OptimizerKind::kSgd}};
  return names;
}
const Names<train::LrCurve>& schedule_names() {
  static const Names<train::LrCurve> names = {
      {"constant", train::LrCurve::kConstant}, {"step", train::LrCurve::kStep}, {"cosine", train::LrCurve::kCosine}};
  return names;
}
const Names<sparsity::LevelCurve>& curve_names() {
  static const Names<sparsity::LevelCurve> names = {{"constant", sparsity::LevelCurve::kConstant},
                                                    {"linear", sparsity::LevelCurve::kLinear},
                                                    {"cubic", sparsity::LevelCurve::kCubic}};
  return names;
}
const Names<quant::ObserverKind>& observer_names() {
  static const Names<quant::ObserverKind> names = {{"moving_average_minmax", quant::ObserverKind::kMovingAverageMinMax},
                                                   {"minmax", quant::ObserverKind::kMinMax}};
  return names;
}

template <typename Enum>
Enum read_enum(TableReader& reader, const std::string& key, Enum fallback, const Names<Enum>& names) {
  std::vector<std::string> choices;
  std::string fallback_name;
  for (const auto& [name, value] : names) {
    choices.push_back(name);
    if (value == fallback) {
      fallback_name = name;
    }
  }
  const std::string chosen = reader.choice(key, fallback_name, choices);
  return std::find_if(names.begin(), names.end(), [&](const auto& item) { return item.first == chosen; })->second;
}

template <typename Enum>
std::string name_of(Enum wanted, const Names<Enum>& names) {
  const auto found = std::find_if(names.begin(), names.end(), [&](const auto& item) { return item.second == wanted; });
  return found == names.end() ? std::string("?") : found->first;
}

// Runs a check of a lower room and puts the reader's place on its error.
template <typename Check>
void at_place(const TableReader& reader, const std::string& key, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    reader.fail(key, error.problem(), error.remedy(), error.category());
  }
}

train::OptimizerOptions read_optimizer(TableReader& reader) {
  train::OptimizerOptions options;
  options.kind = read_enum(reader, "name", options.kind, optimizer_names());
  options.lr = reader.number("lr", options.lr, kPositive);
  options.weight_decay = reader.number("weight_decay", options.weight_decay, kNotNegative);
  std::map<std::string, std::string> hints;
  if (options.kind == train::OptimizerKind::kSgd) {
    options.momentum = reader.number("momentum", options.momentum, NumberRange{0.0, 1.0});
    options.nesterov = reader.boolean("nesterov", options.nesterov);
    hints = {{"betas", "'betas' belongs to adam and adamw"}, {"eps", "'eps' belongs to adam and adamw"}};
  } else {
    const NumberRange beta{0.0, std::nextafter(1.0, 0.0)};
    if (const auto betas = reader.numbers("betas", beta)) {
      if (betas->size() != 2) {
        reader.fail("betas", str_cat("'betas' needs two numbers, not ", betas->size()), "write betas = [0.9, 0.999]");
      }
      options.beta1 = (*betas)[0];
      options.beta2 = (*betas)[1];
    }
    options.eps = reader.number("eps", options.eps, kPositive);
    hints = {{"momentum", "'momentum' belongs to sgd; adam and adamw have 'betas'"},
             {"nesterov", "'nesterov' belongs to sgd"}};
  }
  reader.finish(hints);
  at_place(reader, "name", [&] { options.validate(); });
  return options;
}

train::LrSchedule read_schedule(TableReader& reader, double epochs) {
  train::LrSchedule schedule;
  schedule.curve = read_enum(reader, "name", schedule.curve, schedule_names());
  schedule.warmup_steps = reader.integer("warmup_steps", schedule.warmup_steps, 0, kMaxSteps);
  std::map<std::string, std::string> hints = {{"final_fraction", "'final_fraction' belongs to cosine"},
                                              {"milestones", "'milestones' belongs to step"},
                                              {"gamma", "'gamma' belongs to step"}};
  if (schedule.curve == train::LrCurve::kCosine) {
    schedule.final_fraction = reader.number("final_fraction", schedule.final_fraction, kFraction);
  }
  if (schedule.curve == train::LrCurve::kStep) {
    const auto milestones = reader.numbers("milestones", NumberRange{0.0, epochs, true});
    if (!milestones || milestones->empty()) {
      reader.fail_here("a step schedule needs 'milestones'", "name the epochs, as in milestones = [4, 6]");
    }
    schedule.milestones = *milestones;
    if (!std::is_sorted(milestones->begin(), milestones->end())) {
      reader.fail("milestones", "'milestones' must ascend");
    }
    schedule.gamma = reader.number("gamma", schedule.gamma, NumberRange{0.0, 1.0, true});
  }
  reader.finish(hints);
  at_place(reader, "name", [&] { schedule.validate(); });
  return schedule;
}

std::array<std::int64_t, 2> read_block_shape(TableReader& reader, std::array<std::int64_t, 2> fallback) {
  const auto numbers = reader.numbers("sparse_block_shape", NumberRange{1.0, 65536.0});
  if (!numbers) {
    return fallback;
  }
  if (numbers->size() != 2 ||
      std::any_of(numbers->begin(), numbers->end(), [](double n) { return n != std::rint(n); })) {
    reader.fail("sparse_block_shape", "'sparse_block_shape' needs two whole numbers, [rows, columns]");
  }
  return {static_cast<std::int64_t>((*numbers)[0]), static_cast<std::int64_t>((*numbers)[1])};
}

const char* const kPatternOrFields =
    "give either 'pattern' or 'sparsity_level', 'sparse_block_shape' and 'zeros_per_block'";

bool has_block_fields(const TableReader& reader) {
  return reader.has("sparsity_level") || reader.has("sparse_block_shape") || reader.has("zeros_per_block");
}

SparsifierRecipe read_sparsifier(TableReader& reader) {
  SparsifierRecipe recipe;
  const std::vector<std::string> known = {"weight_norm"};
  recipe.name = reader.choice("name", recipe.name, known);
  if (has_block_fields(reader)) {
    if (reader.has("pattern")) {
      reader.fail("pattern", "'pattern' and a block of one's own exclude each other", kPatternOrFields);
    }
    recipe.pattern.clear();
    recipe.config = {};
  }
  const std::string pattern = reader.text("pattern", recipe.pattern);
  if (!pattern.empty()) {
    recipe.pattern = pattern;
    at_place(reader, "pattern", [&] { recipe.config = sparsity::WeightNormConfig::from_pattern(pattern); });
  }
  recipe.config.sparsity_level = reader.number("sparsity_level", recipe.config.sparsity_level, kFraction);
  recipe.config.sparse_block_shape = read_block_shape(reader, recipe.config.sparse_block_shape);
  const std::int64_t block_elems = recipe.config.sparse_block_shape[0] * recipe.config.sparse_block_shape[1];
  recipe.config.zeros_per_block =
      reader.integer("zeros_per_block", std::min(recipe.config.zeros_per_block, block_elems), 0, block_elems);
  recipe.config.norm = static_cast<int>(reader.integer("norm", recipe.config.norm, 1, 2));
  recipe.sr_ste_decay = reader.number("sr_ste_decay", recipe.sr_ste_decay, kNotNegative);
  reader.finish();
  at_place(reader, "name", [&] { recipe.config.validate(); });
  return recipe;
}

SparsityScheduleRecipe read_sparsity_schedule(TableReader& reader, double epochs) {
  SparsityScheduleRecipe recipe;
  recipe.curve = read_enum(reader, "name", recipe.curve, curve_names());
  const bool ramp = recipe.curve != sparsity::LevelCurve::kConstant;
  std::map<std::string, std::string> hints;
  const NumberRange within_stage{0.0, epochs, true};
  if (ramp) {
    recipe.from = reader.number("from", recipe.from, kFraction);
    recipe.until_epoch = reader.number("until_epoch", epochs / 2, within_stage);
  } else {
    hints = {{"from", "a constant schedule has no ramp: use linear or cubic, or leave it out"},
             {"until_epoch", "a constant schedule has no ramp: use linear or cubic, or leave it out"}};
  }
  recipe.hold_epoch = reader.number("hold_epoch", recipe.hold_epoch, NumberRange{0.0, epochs});
  if (ramp && recipe.hold_epoch >= 0.0 && recipe.hold_epoch < recipe.until_epoch) {
    reader.fail("hold_epoch",
                str_cat("'hold_epoch' (", recipe.hold_epoch, ") comes before the end of the ramp (", recipe.until_epoch,
                        "): the target would never be reached"),
                "hold masks at 'until_epoch' or later");
  }
  recipe.update_every = reader.integer("update_every", recipe.update_every, 1, kMaxSteps);
  reader.finish(hints);
  return recipe;
}

std::vector<sparsity::SparseLayerConfig> read_layers(TableReader& stage, const std::vector<std::string>& weights) {
  std::vector<sparsity::SparseLayerConfig> layers;
  for (TableReader& reader : stage.tables("layers")) {
    sparsity::SparseLayerConfig layer;
    layer.tensor_fqn = reader.required_text(
        "tensor_fqn",
        str_cat("name a weight, as in tensor_fqn = \"", weights.empty() ? "conv1.weight" : weights.back(), "\""));
    if (std::none_of(weights.begin(), weights.end(),
                     [&](const std::string& weight) { return glob_match(layer.tensor_fqn, weight); })) {
      reader.fail("tensor_fqn", str_cat("no weight of the model is called '", layer.tensor_fqn, "'"),
                  did_you_mean(layer.tensor_fqn, weights), ErrorCategory::kNotFound);
    }
    layer.why = reader.text("why", "");
    if (const auto pattern = reader.text("pattern")) {
      if (has_block_fields(reader)) {
        reader.fail("pattern", "'pattern' and a block of one's own exclude each other", kPatternOrFields);
      }
      if (*pattern == "dense") {
        layer.dense = true;
      } else {
        at_place(reader, "pattern", [&] {
          const auto config = sparsity::WeightNormConfig::from_pattern(*pattern);
          layer.sparsity_level = config.sparsity_level;
          layer.sparse_block_shape = config.sparse_block_shape;
          layer.zeros_per_block = config.zeros_per_block;
        });
      }
    }
    if (const auto level = reader.number("sparsity_level", kFraction)) {
      layer.sparsity_level = *level;
    }
    if (reader.has("sparse_block_shape")) {
      layer.sparse_block_shape = read_block_shape(reader, {1, 1});
    }
    if (reader.has("zeros_per_block")) {
      layer.zeros_per_block = reader.integer("zeros_per_block", 0, 0, std::int64_t{1} << 32);
    }
    if (reader.has("norm")) {
      layer.norm = static_cast<int>(reader.integer("norm", 2, 1, 2));
    }
    reader.finish({{"dense", "write pattern = \"dense\""}});
    layers.push_back(std::move(layer));
  }
  return layers;
}

void read_quantize(TableReader& reader, StageRecipe& stage) {
  const std::vector<std::string> activations = {"uint8"};
  const std::vector<std::string> weights = {"int8_per_channel"};
  static_cast<void>(reader.choice("activation", activations.front(), activations));
  static_cast<void>(reader.choice("weight", weights.front(), weights));
  stage.quantize.observer = read_enum(reader, "observer", stage.quantize.observer, observer_names());
  std::map<std::string, std::string> hints;
  if (stage.quantize.observer == quant::ObserverKind::kMovingAverageMinMax) {
    stage.quantize.averaging_constant =
        reader.number("averaging_constant", stage.quantize.averaging_constant, NumberRange{0.0, 1.0, true});
  } else {
    hints = {{"averaging_constant", "'averaging_constant' belongs to moving_average_minmax"}};
  }
  stage.freeze_observers_epoch =
      reader.number("freeze_observers_epoch", stage.freeze_observers_epoch, NumberRange{0.0, stage.epochs, true});
  stage.quantize.fold_batch_norm = reader.boolean("fold_batch_norm", stage.quantize.fold_batch_norm);
  reader.finish(hints);
  at_place(reader, "observer", [&] { stage.quantize.validate(); });
}

}  // namespace

std::string to_string(StageKind kind) { return name_of(kind, kind_names()); }
std::string to_string(sparsity::LevelCurve curve) { return name_of(curve, curve_names()); }
std::string to_string(train::OptimizerKind kind) { return name_of(kind, optimizer_names()); }
std::string to_string(train::LrCurve curve) { return name_of(curve, schedule_names()); }
std::string to_string(quant::ObserverKind kind) { return name_of(kind, observer_names()); }

StageRecipe read_stage(TableReader& reader, const std::string& name, const std::vector<std::string>& weights) {
  StageRecipe stage;
  static_cast<void>(reader.required_text("kind", "write kind = \"dense\", \"sparse\" or \"qat\""));
  stage.kind = read_enum(reader, "kind", stage.kind, kind_names());
  static_cast<void>(reader.text("name"));
  stage.name = name;
  if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != std::string::npos) {
    reader.fail("name", str_cat("the stage's name '", name, "' would be no good file name"),
                "use letters, digits, '_' and '-'");
  }
  stage.epochs = reader.number("epochs", stage.epochs, NumberRange{0.0, kMaxEpochs, true});
  if (auto optimizer = reader.table("optimizer")) {
    stage.optimizer = read_optimizer(*optimizer);
  }
  if (auto schedule = reader.table("schedule")) {
    stage.schedule = read_schedule(*schedule, stage.epochs);
  }
  stage.max_accuracy_drop = reader.number("max_accuracy_drop", NumberRange{0.0, 100.0});

  std::map<std::string, std::string> hints;
  if (stage.kind == StageKind::kDense) {
    const std::string why = "a dense stage has no masks; make it kind = \"sparse\"";
    hints = {{"sparsifier", why}, {"sparsity_schedule", why}, {"layers", why}};
  } else {
    if (auto sparsifier = reader.table("sparsifier")) {
      stage.sparsifier = read_sparsifier(*sparsifier);
    } else if (stage.kind == StageKind::kSparse) {
      stage.sparsifier.emplace();
    }
    if (auto schedule = reader.table("sparsity_schedule")) {
      stage.sparsity_schedule = read_sparsity_schedule(*schedule, stage.epochs);
    } else if (stage.sparsifier) {
      stage.sparsity_schedule.emplace();
    }
    if (stage.sparsifier) {
      stage.layers = read_layers(reader, weights);
    } else {
      hints["layers"] = "'layers' goes with a 'sparsifier'; this stage keeps the masks of the one before it";
    }
  }
  if (stage.kind == StageKind::kQat) {
    if (auto quantize = reader.table("quantize")) {
      read_quantize(*quantize, stage);
    }
  } else {
    hints["quantize"] = "quantization belongs to a stage of kind = \"qat\"";
  }
  reader.finish(hints);
  return stage;
}

}  // namespace pare::pipeline
