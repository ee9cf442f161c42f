#include "pare/pipeline/recipe_stage.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "pare/base/strings.h"
#include "pare/pipeline/recipe_scheme.h"
#include "pare/sparsity/global_magnitude_sparsifier.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

constexpr double kMaxEpochs = 100000.0;
constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;

// What to say of a key that does not belong where it stands, instead of that it is unknown.
using Hints = std::map<std::string, std::string>;

void hint(Hints& hints, std::initializer_list<const char*> keys, const std::string& why) {
  for (const char* key : keys) {
    hints[key] = why;
  }
}

// A name and what it stands for, in the order in which choices are listed.
template <typename Enum>
using Names = std::vector<std::pair<std::string, Enum>>;

const Names<StageKind>& kind_names() {
  static const Names<StageKind> names = {
      {"dense", StageKind::kDense},   {"prune_channels", StageKind::kPruneChannels}, {"one_shot", StageKind::kOneShot},
      {"sparse", StageKind::kSparse}, {"calibrate", StageKind::kCalibrate},          {"qat", StageKind::kQat}};
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
                                                    {"cubic", sparsity::LevelCurve::kCubic},
                                                    {"polynomial", sparsity::LevelCurve::kPolynomial},
                                                    {"exponential", sparsity::LevelCurve::kExponential}};
  return names;
}
const Names<channels::ChannelCriterion>& criterion_names() {
  static const Names<channels::ChannelCriterion> names = {
      {"saliency", channels::ChannelCriterion::kSaliency},
      {"fpgm", channels::ChannelCriterion::kFpgm},
      {"batch_norm_scale", channels::ChannelCriterion::kBatchNormScale},
      {"taylor", channels::ChannelCriterion::kTaylor}};
  return names;
}
const Names<quant::ObserverKind>& observer_names() {
  static const Names<quant::ObserverKind> names = {{"moving_average_minmax", quant::ObserverKind::kMovingAverageMinMax},
                                                   {"minmax", quant::ObserverKind::kMinMax},
                                                   {"histogram", quant::ObserverKind::kHistogram},
                                                   {"percentile", quant::ObserverKind::kPercentile},
                                                   {"mse", quant::ObserverKind::kMse}};
  return names;
}
const Names<quant::Rounding>& rounding_names() {
  static const Names<quant::Rounding> names = {{"nearest", quant::Rounding::kNearest},
                                               {"gptq", quant::Rounding::kGptq}};
  return names;
}
const Names<quant::Rescaling>& rescaling_names() {
  static const Names<quant::Rescaling> names = {{"none", quant::Rescaling::kNone},
                                                {"cross_layer", quant::Rescaling::kCrossLayer},
                                                {"smooth_quant", quant::Rescaling::kSmoothQuant}};
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
  Hints hints;
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
  Hints hints = {{"final_fraction", "'final_fraction' belongs to cosine"},
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
  return reader.has("sparsity_level") || reader.has("sparse_block_shape") || reader.has("zeros_per_block") ||
         reader.has("whole_columns");
}

sparsity::BlockRule read_whole_columns(TableReader& reader) {
  return reader.boolean("whole_columns", false) ? sparsity::BlockRule::kWholeColumns : sparsity::BlockRule::kElements;
}

SparsifierRecipe read_sparsifier(TableReader& reader, StageKind kind) {
  SparsifierRecipe recipe;
  recipe.name = reader.choice("name", recipe.name, sparsity::sparsifier_names());
  if (sparsity::sparsifier_needs_calibration(recipe.name) && kind != StageKind::kOneShot) {
    reader.fail("name", str_cat("'", recipe.name, "' looks at data and prunes in one shot, not while weights train"),
                "put it into a stage of kind = \"one_shot\", or use \"weight_norm\" here");
  }
  if (has_block_fields(reader) && reader.has("pattern")) {
    reader.fail("pattern", "'pattern' and a block of one's own exclude each other", kPatternOrFields);
  }
  const bool ranks_all_layers = recipe.name == "global_magnitude";
  if (has_block_fields(reader) || (ranks_all_layers && !reader.has("pattern"))) {
    recipe.pattern.clear();
    recipe.config = ranks_all_layers ? sparsity::GlobalMagnitudeSparsifier::unstructured(0.5) : sparsity::MaskConfig{};
  }
  const std::string pattern = reader.text("pattern", recipe.pattern);
  if (!pattern.empty()) {
    recipe.pattern = pattern;
    at_place(reader, "pattern", [&] { recipe.config = sparsity::MaskConfig::from_pattern(pattern); });
  }
  recipe.config.sparsity_level = reader.number("sparsity_level", recipe.config.sparsity_level, kFraction);
  recipe.config.sparse_block_shape = read_block_shape(reader, recipe.config.sparse_block_shape);
  const std::int64_t block_elems = recipe.config.sparse_block_shape[0] * recipe.config.sparse_block_shape[1];
  recipe.config.zeros_per_block =
      reader.integer("zeros_per_block", reader.has("sparse_block_shape") ? block_elems : recipe.config.zeros_per_block,
                     0, block_elems);
  if (reader.has("whole_columns")) {
    recipe.config.rule = read_whole_columns(reader);
  }
  recipe.config.norm = static_cast<int>(reader.integer("norm", recipe.config.norm, 1, 2));
  Hints hints;
  if (kind == StageKind::kOneShot) {
    hints["sr_ste_decay"] = "a one-shot stage does not train, so nothing decays";
  } else {
    recipe.sr_ste_decay = reader.number("sr_ste_decay", recipe.sr_ste_decay, kNotNegative);
  }
  reader.finish(hints);
  at_place(reader, "name", [&] { static_cast<void>(sparsity::make_sparsifier(recipe.name, recipe.config)); });
  return recipe;
}

SparsityScheduleRecipe read_sparsity_schedule(TableReader& reader, double epochs) {
  SparsityScheduleRecipe recipe;
  recipe.curve = read_enum(reader, "name", recipe.curve, curve_names());
  const bool ramp = recipe.curve != sparsity::LevelCurve::kConstant;
  Hints hints;
  const NumberRange within_stage{0.0, epochs, true};
  if (ramp) {
    recipe.from = reader.number("from", recipe.from, kFraction);
    recipe.until_epoch = reader.number("until_epoch", epochs / 2, within_stage);
    const std::vector<std::string> moves = {"step", "epoch"};
    recipe.epoch_wise = reader.choice("moves", moves[recipe.epoch_wise ? 1 : 0], moves) == moves[1];
  } else {
    hint(hints, {"from", "until_epoch", "moves"},
         "a constant schedule has no ramp: use linear or cubic, or leave it out");
  }
  if (recipe.curve == sparsity::LevelCurve::kPolynomial) {
    recipe.power = reader.number("power", recipe.power, kPositive);
  } else {
    hints["power"] = "'power' belongs to polynomial";
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

// A name or glob that fits a weight of the model.
std::string read_tensor_fqn(TableReader& reader, const std::vector<std::string>& weights) {
  const std::string name = reader.required_text(
      "tensor_fqn",
      str_cat("name a weight, as in tensor_fqn = \"", weights.empty() ? "conv1.weight" : weights.back(), "\""));
  if (std::none_of(weights.begin(), weights.end(),
                   [&](const std::string& weight) { return glob_match(name, weight); })) {
    reader.fail("tensor_fqn", str_cat("no weight of the model is called '", name, "'"), did_you_mean(name, weights),
                ErrorCategory::kNotFound);
  }
  return name;
}

std::vector<sparsity::SparseLayerConfig> read_layers(TableReader& stage, const std::vector<std::string>& weights) {
  std::vector<sparsity::SparseLayerConfig> layers;
  for (TableReader& reader : stage.tables("layers")) {
    sparsity::SparseLayerConfig layer;
    const std::string tensor_fqn = read_tensor_fqn(reader, weights);
    if (const auto pattern = reader.text("pattern")) {
      if (has_block_fields(reader)) {
        reader.fail("pattern", "'pattern' and a block of one's own exclude each other", kPatternOrFields);
      }
      at_place(reader, "pattern", [&] { layer = sparsity::layer_config(tensor_fqn, *pattern); });
    }
    layer.tensor_fqn = tensor_fqn;
    layer.why = reader.text("why", "");
    if (const auto level = reader.number("sparsity_level", kFraction)) {
      layer.sparsity_level = *level;
    }
    if (reader.has("sparse_block_shape")) {
      layer.sparse_block_shape = read_block_shape(reader, {1, 1});
    }
    if (reader.has("zeros_per_block")) {
      layer.zeros_per_block = reader.integer("zeros_per_block", 0, 0, std::int64_t{1} << 32);
    }
    if (reader.has("whole_columns")) {
      layer.rule = read_whole_columns(reader);
    }
    if (reader.has("norm")) {
      layer.norm = static_cast<int>(reader.integer("norm", 2, 1, 2));
    }
    reader.finish({{"dense", "write pattern = \"dense\""}});
    layers.push_back(std::move(layer));
  }
  return layers;
}

DistillRecipe read_distill(TableReader& reader) {
  DistillRecipe recipe;
  recipe.teacher = reader.required_text("teacher", "name an earlier stage, as in teacher = \"dense\"");
  recipe.options.temperature = reader.number("temperature", recipe.options.temperature, kPositive);
  recipe.options.weight = reader.number("weight", recipe.options.weight, kFraction);
  recipe.options.layers = reader.texts("layers").value_or(std::vector<std::string>());
  recipe.options.layers_weight = reader.number("layers_weight", recipe.options.layers_weight, kNotNegative);
  reader.finish();
  at_place(reader, "temperature", [&] { recipe.options.validate(); });
  return recipe;
}

void read_calibration(TableReader& stage_reader, StageRecipe& stage) {
  if (auto reader = stage_reader.table("calibrate")) {
    stage.calibration_images = reader->integer("images", stage.calibration_images, 1, kMaxSteps);
    if (stage.kind == StageKind::kCalibrate) {
      quant::CalibrateOptions& options = stage.calibration;
      options.bias_correction = reader->boolean("bias_correction", options.bias_correction);
      options.rounding = read_enum(*reader, "rounding", options.rounding, rounding_names());
      options.rescaling = read_enum(*reader, "rescale", options.rescaling, rescaling_names());
    }
    const char* const only = "only a stage of kind = \"calibrate\" quantizes";
    reader->finish({{"bias_correction", only}, {"rounding", only}, {"rescale", only}});
  }
}

// A stage that takes channels away.
StageRecipe read_prune_channels(TableReader& reader, StageRecipe stage, const std::vector<std::string>& weights) {
  stage.epochs = 0.0;
  channels::ChannelPruningConfig& config = stage.channels;
  config.criterion = read_enum(reader, "criterion", config.criterion, criterion_names());
  config.sparsity_level = reader.number("sparsity_level", config.sparsity_level, kFraction);
  config.width_multiple = reader.integer("width_multiple", config.width_multiple, 1, 4096);
  config.norm = reader.integer("norm", 1, 1, 2) == 1 ? channels::RowNorm::kL1 : channels::RowNorm::kL2;
  for (TableReader& layer : reader.tables("layers")) {
    const std::string name = read_tensor_fqn(layer, weights);
    const double level = layer.number("sparsity_level", 0.0, kFraction);
    for (const std::string& weight : weights) {
      if (glob_match(name, weight)) {
        config.levels[weight] = level;
      }
    }
    static_cast<void>(layer.text("why"));
    layer.finish();
  }
  Hints hints;
  if (config.criterion == channels::ChannelCriterion::kTaylor) {
    read_calibration(reader, stage);
  } else {
    hints["calibrate"] = "only criterion = \"taylor\" looks at images";
  }
  hint(hints, {"epochs", "optimizer", "schedule", "sparsifier", "sparsity_schedule", "quantize", "distill"},
       "a prune_channels stage only takes channels away; train in a stage after it");
  reader.finish(hints);
  at_place(reader, "sparsity_level", [&] { config.validate(); });
  return stage;
}

// A stage that prunes without training.
StageRecipe read_one_shot(TableReader& reader, StageRecipe stage, const std::vector<std::string>& weights) {
  stage.epochs = 0.0;
  if (auto sparsifier = reader.table("sparsifier")) {
    stage.sparsifier = read_sparsifier(*sparsifier, stage.kind);
  } else {
    stage.sparsifier.emplace();
  }
  stage.layers = read_layers(reader, weights);
  stage.permute_channels = reader.boolean("permute_channels", stage.permute_channels);
  read_calibration(reader, stage);
  Hints hints;
  hint(hints, {"epochs", "optimizer", "schedule", "sparsity_schedule", "quantize", "distill"},
       "a one-shot stage prunes without training; put a stage of kind = \"sparse\" or \"qat\" after it");
  reader.finish(hints);
  return stage;
}

void read_quantize(TableReader& reader, StageRecipe& stage) {
  read_schemes(reader, stage.quantize);
  quant::ObserverOptions& observer = stage.quantize.observer;
  Hints hints;
  if (stage.kind == StageKind::kCalibrate) {
    hints["learned_steps"] = "a calibrate stage does not train, so steps learn nothing; make it kind = \"qat\"";
  } else {
    stage.quantize.learned_steps = reader.boolean("learned_steps", stage.quantize.learned_steps);
    if (stage.quantize.learned_steps && reader.has("observer")) {
      reader.fail("observer", "learned steps start at the range of the first batch and then train",
                  "leave 'observer' out, or learned_steps");
    }
  }
  observer.kind = read_enum(reader, "observer", observer.kind, observer_names());
  if (quant::keeps_histogram(observer.kind) && stage.kind != StageKind::kCalibrate) {
    reader.fail("observer", "a histogram counts all values ever seen, so it cannot follow weights that train",
                "use \"moving_average_minmax\" here, or a stage of kind = \"calibrate\"");
  }
  if (stage.quantize.learned_steps) {
    hints["averaging_constant"] = "learned steps train; nothing is averaged";
  } else if (observer.kind == quant::ObserverKind::kMovingAverageMinMax) {
    observer.averaging_constant =
        reader.number("averaging_constant", observer.averaging_constant, NumberRange{0.0, 1.0, true});
  } else {
    hints["averaging_constant"] = "'averaging_constant' belongs to moving_average_minmax";
  }
  if (observer.kind == quant::ObserverKind::kPercentile) {
    observer.outside = reader.number("outside", observer.outside, NumberRange{0.0, std::nextafter(1.0, 0.0)});
  } else {
    hints["outside"] = "'outside' belongs to percentile";
  }
  if (stage.kind == StageKind::kCalibrate) {
    hints["freeze_observers_epoch"] = "a calibrate stage freezes its observers when it has seen its images";
  } else {
    stage.freeze_observers_epoch =
        reader.number("freeze_observers_epoch", stage.freeze_observers_epoch, NumberRange{0.0, stage.epochs, true});
  }
  stage.quantize.fold_batch_norm = reader.boolean("fold_batch_norm", stage.quantize.fold_batch_norm);
  reader.finish(hints);
  at_place(reader, "observer", [&] { observer.validate(); });
}

// A stage that quantizes without training. It holds the masks that it finds.
StageRecipe read_calibrate(TableReader& reader, StageRecipe stage) {
  stage.epochs = 0.0;
  // Every image counts the same.
  stage.quantize.observer.kind = quant::ObserverKind::kMinMax;
  if (auto quantize = reader.table("quantize")) {
    read_quantize(*quantize, stage);
  }
  read_calibration(reader, stage);
  Hints hints;
  hint(hints, {"epochs", "optimizer", "schedule", "sparsifier", "sparsity_schedule", "layers", "distill"},
       "a calibrate stage quantizes without training and keeps the masks that it finds; to train, make it kind = "
       "\"qat\"");
  reader.finish(hints);
  return stage;
}

}  // namespace

std::string to_string(StageKind kind) { return name_of(kind, kind_names()); }
std::string to_string(sparsity::LevelCurve curve) { return name_of(curve, curve_names()); }
std::string to_string(train::OptimizerKind kind) { return name_of(kind, optimizer_names()); }
std::string to_string(train::LrCurve curve) { return name_of(curve, schedule_names()); }
std::string to_string(channels::ChannelCriterion criterion) { return name_of(criterion, criterion_names()); }
std::string to_string(quant::ObserverKind kind) { return name_of(kind, observer_names()); }
std::string to_string(quant::Rounding rounding) { return name_of(rounding, rounding_names()); }
std::string to_string(quant::Rescaling rescaling) { return name_of(rescaling, rescaling_names()); }

StageRecipe read_stage(TableReader& reader, const std::string& name, const std::vector<std::string>& weights) {
  StageRecipe stage;
  static_cast<void>(reader.required_text(
      "kind", "write kind = \"dense\", \"prune_channels\", \"one_shot\", \"sparse\", \"calibrate\" or \"qat\""));
  stage.kind = read_enum(reader, "kind", stage.kind, kind_names());
  static_cast<void>(reader.text("name"));
  stage.name = name;
  if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != std::string::npos) {
    reader.fail("name", str_cat("the stage's name '", name, "' would be no good file name"),
                "use letters, digits, '_' and '-'");
  }
  stage.max_accuracy_drop = reader.number("max_accuracy_drop", NumberRange{0.0, 100.0});

  Hints hints;
  if (stage.kind == StageKind::kPruneChannels) {
    return read_prune_channels(reader, std::move(stage), weights);
  }
  if (stage.kind == StageKind::kOneShot) {
    return read_one_shot(reader, std::move(stage), weights);
  }
  if (stage.kind == StageKind::kCalibrate) {
    return read_calibrate(reader, std::move(stage));
  }
  hints["permute_channels"] =
      "channels are reordered where masks are chosen: in a stage of kind \"sparse\" or \"one_shot\"";
  hints["calibrate"] = "only stages of kind \"one_shot\" and \"calibrate\" look at data without training";
  stage.epochs = reader.number("epochs", stage.epochs, NumberRange{0.0, kMaxEpochs, true});
  if (auto optimizer = reader.table("optimizer")) {
    stage.optimizer = read_optimizer(*optimizer);
  }
  if (auto schedule = reader.table("schedule")) {
    stage.schedule = read_schedule(*schedule, stage.epochs);
  }
  if (auto distill = reader.table("distill")) {
    stage.distill = read_distill(*distill);
  }
  if (stage.kind == StageKind::kDense) {
    hint(hints, {"sparsifier", "sparsity_schedule", "layers"}, "a dense stage has no masks; make it kind = \"sparse\"");
  } else {
    if (auto sparsifier = reader.table("sparsifier")) {
      stage.sparsifier = read_sparsifier(*sparsifier, stage.kind);
    } else if (stage.kind == StageKind::kSparse) {
      stage.sparsifier.emplace();
    }
    if (auto schedule = reader.table("sparsity_schedule")) {
      stage.sparsity_schedule = read_sparsity_schedule(*schedule, stage.epochs);
      const bool decays = stage.sparsity_schedule->curve == sparsity::LevelCurve::kExponential;
      if (decays && stage.sparsifier && stage.sparsifier->config.sparsity_level >= 1.0) {
        schedule->fail("name", "an exponential curve never reaches level 1, and the pattern sparsifies all blocks",
                       "use \"cubic\", or a sparsity_level below 1");
      }
    } else if (stage.sparsifier) {
      stage.sparsity_schedule.emplace();
    }
    if (stage.kind == StageKind::kSparse) {
      stage.permute_channels = reader.boolean("permute_channels", stage.permute_channels);
    }
    if (stage.sparsifier) {
      stage.layers = read_layers(reader, weights);
    } else {
      hints["layers"] = "'layers' goes with a 'sparsifier'; this stage keeps the masks of the one before it";
    }
  }
  if (stage.kind == StageKind::kQat) {
    hints["sparse_activations"] = "integers have no such step: sparsify activations in a dense or a sparse stage";
    if (auto quantize = reader.table("quantize")) {
      read_quantize(*quantize, stage);
    }
  } else {
    stage.sparse_activations = reader.texts("sparse_activations").value_or(std::vector<std::string>());
    hints["quantize"] = "quantization belongs to a stage of kind = \"qat\"";
  }
  reader.finish(hints);
  return stage;
}

}  // namespace pare::pipeline
