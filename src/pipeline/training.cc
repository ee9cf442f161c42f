#include "pare/pipeline/training.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/channel_steps.h"
#include "pare/pipeline/report/report.h"
#include "pare/quant/calibrate.h"
#include "pare/sparsity/semi_sparse.h"
#include "pare/sparsity/sparsifiers.h"
#include "pare/train/environment.h"

namespace pare::pipeline {
namespace {

using Json = nlohmann::json;

// Names in a checkpoint. Tensors of the model stand under "model.".
constexpr const char* kModelPrefix = "model.";
constexpr const char* kGenerator = "generator.cpu";
constexpr const char* kRecipe = "recipe";
constexpr const char* kProgress = "progress";
constexpr const char* kRecord = "record";
constexpr const char* kSparsifier = "sparsifier";
constexpr const char* kOptimizer = "optimizer";

[[noreturn]] void fail_corrupt(const std::string& problem) {
  throw Error(ErrorCategory::kCorruptData, problem, "checkpoint", "start the run anew with --overwrite");
}

const std::string& text_of(const train::Checkpoint& checkpoint, const std::string& key) {
  const auto found = checkpoint.metadata.find(key);
  if (found == checkpoint.metadata.end()) {
    fail_corrupt(str_cat("it has no '", key, "'"));
  }
  return found->second;
}

std::string to_json(const Progress& progress) {
  return Json{{"stage", progress.stage},
              {"step", progress.step},
              {"global_step", progress.global_step},
              {"sparsifier_stage", progress.sparsifier_stage},
              {"epoch_loss_sum", progress.epoch_loss_sum},
              {"epoch_loss_steps", progress.epoch_loss_steps},
              {"window_loss_sum", progress.window_loss_sum},
              {"window_steps", progress.window_steps},
              {"last_epoch_loss", progress.last_epoch_loss},
              {"seconds", progress.seconds}}
      .dump();
}

Progress progress_from_json(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    Progress progress;
    json.at("stage").get_to(progress.stage);
    json.at("step").get_to(progress.step);
    json.at("global_step").get_to(progress.global_step);
    json.at("sparsifier_stage").get_to(progress.sparsifier_stage);
    json.at("epoch_loss_sum").get_to(progress.epoch_loss_sum);
    json.at("epoch_loss_steps").get_to(progress.epoch_loss_steps);
    json.at("window_loss_sum").get_to(progress.window_loss_sum);
    json.at("window_steps").get_to(progress.window_steps);
    json.at("last_epoch_loss").get_to(progress.last_epoch_loss);
    json.at("seconds").get_to(progress.seconds);
    return progress;
  } catch (const Json::exception& error) {
    fail_corrupt(str_cat("its progress cannot be read: ", error.what()));
  }
}

// Model::state() as capture() stored it.
std::map<std::string, torch::Tensor> model_state(const train::Checkpoint& checkpoint) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(kModelPrefix)) {
      state[name.substr(std::string(kModelPrefix).size())] = tensor;
    }
  }
  return state;
}

// Random weights.
std::shared_ptr<train::Model> fresh_model(const Recipe& recipe, const Shape& image, std::int64_t classes) {
  return std::make_shared<train::Model>(
      graph::builtin(recipe.model, recipe.seed, image.at(0), image.at(1), image.at(2), classes),
      train::parse_device(recipe.device));
}

// Stages that take channels away leave a model of other extents.
void take_extents(train::Model& model, const Recipe& recipe, const std::map<std::string, torch::Tensor>& state) {
  const bool prunes = std::any_of(recipe.stages.begin(), recipe.stages.end(),
                                  [](const StageRecipe& stage) { return stage.kind == StageKind::kPruneChannels; });
  if (prunes) {
    model.rebuild(with_extents_of(model.to_graph(train::Model::Weights::kDense), state));
  }
}

// What [model] checkpoint names becomes the model's state.
void load_trained(train::Model& model, const std::filesystem::path& path) {
  const std::map<std::string, torch::Tensor> state = model_state(train::read_checkpoint(path));
  for (const auto& [name, tensor] : state) {
    const bool quantized = name == "qat_state" && tensor.numel() == 1 && tensor.item<std::int64_t>() != 0;
    if (quantized || name.ends_with(".weight_mask")) {
      throw Error(ErrorCategory::kUnsupported, quantized ? "its model is quantized already" : "its weights are masked",
                  path.string(),
                  "start from the checkpoint of a dense stage (stages/dense.ckpt), or --resume the run that made it");
    }
  }
  try {
    model.load_state(state);
  } catch (const Error& error) {
    throw Error(error.category(), error.problem(), path.string(),
                "it must be of the same network, for the same images");
  }
}

}  // namespace

std::shared_ptr<train::Model> load_stage_model(const Recipe& recipe, const Shape& image, std::int64_t classes,
                                               const std::filesystem::path& path) {
  const std::map<std::string, torch::Tensor> state = model_state(train::read_checkpoint(path));
  std::shared_ptr<train::Model> model = fresh_model(recipe, image, classes);
  take_extents(*model, recipe, state);
  model->load_state(state);
  model->eval();
  return model;
}

std::int64_t stage_steps(const StageRecipe& stage, std::int64_t steps_per_epoch) {
  if (!trains(stage.kind)) {
    return 0;
  }
  return std::max<std::int64_t>(1, std::llround(stage.epochs * static_cast<double>(steps_per_epoch)));
}

sparsity::SparsitySchedule schedule_in_steps(const StageRecipe& stage, std::int64_t steps_per_epoch) {
  const SparsityScheduleRecipe& recipe = stage.sparsity_schedule.value();
  const auto steps = [&](double epochs) {
    return static_cast<std::int64_t>(std::llround(epochs * static_cast<double>(steps_per_epoch)));
  };
  sparsity::SparsitySchedule schedule;
  schedule.curve = recipe.curve;
  schedule.from = recipe.from;
  schedule.power = recipe.power;
  schedule.delta_steps = recipe.epoch_wise ? steps_per_epoch : 1;
  schedule.update_every = recipe.update_every;
  const bool ramp = recipe.curve != sparsity::LevelCurve::kConstant;
  schedule.total_steps = ramp ? std::max<std::int64_t>(1, steps(recipe.until_epoch)) : 0;
  schedule.hold_step = recipe.hold_epoch >= 0.0 ? steps(recipe.hold_epoch)
                       : ramp                   ? schedule.total_steps
                                                : stage_steps(stage, steps_per_epoch) / 2;
  schedule.hold_step = std::max(schedule.hold_step, schedule.total_steps);
  return schedule;
}

Training::Training(const Recipe& recipe, std::int64_t steps_per_epoch, std::shared_ptr<train::Model> model)
    : recipe_(recipe), steps_per_epoch_(steps_per_epoch), model_(std::move(model)) {
  torch::manual_seed(recipe.seed);
  record.recipe = recipe.name;
}

Training::Training(const Recipe& recipe, const Shape& image, std::int64_t classes, std::int64_t steps_per_epoch)
    : Training(recipe, steps_per_epoch, fresh_model(recipe, image, classes)) {
  if (!recipe.checkpoint.empty()) {
    load_trained(*model_, recipe.checkpoint);
  }
}

Training::Training(const Recipe& recipe, const Shape& image, std::int64_t classes, std::int64_t steps_per_epoch,
                   const train::Checkpoint& checkpoint)
    : Training(recipe, steps_per_epoch, fresh_model(recipe, image, classes)) {
  progress = progress_from_json(text_of(checkpoint, kProgress));
  const auto stages = static_cast<std::int64_t>(recipe_.stages.size());
  if (progress.stage < 0 || progress.stage > stages || progress.sparsifier_stage >= stages || progress.step < 0 ||
      (progress.stage == stages && progress.step != 0)) {
    fail_corrupt("it stands at a stage that the recipe does not have");
  }
  record = record_from_json(text_of(checkpoint, kRecord));
  record.recipe = recipe.name;

  const std::map<std::string, torch::Tensor> state = model_state(checkpoint);
  const auto qat_state = state.find("qat_state");
  if (qat_state == state.end() || qat_state->second.numel() != 1) {
    fail_corrupt("it does not say how far QAT is");
  }
  // The model gets the structure that it had; then its tensors can be loaded.
  take_extents(*model_, recipe_, state);
  if (static_cast<train::QatState>(qat_state->second.item<std::int64_t>()) != train::QatState::kNone) {
    if (!quantizes(recipe_.stages.back().kind)) {
      fail_corrupt("it has quantizers, and the recipe has no stage that quantizes");
    }
    quant::prepare_qat(*model_, recipe_.stages.back().quantize);
  }
  if (progress.sparsifier_stage >= 0) {
    prepare_sparsifier(progress.sparsifier_stage);
  }
  model_->load_state(state);
  if (sparsifier_ != nullptr) {
    sparsifier_->load_state(text_of(checkpoint, kSparsifier));
  }
  if (progress.step > 0) {
    const auto optimizer = checkpoint.blobs.find(kOptimizer);
    if (optimizer == checkpoint.blobs.end()) {
      fail_corrupt("it is from the midst of a stage, but has no optimizer");
    }
    pending_optimizer_ = optimizer->second;
  }
  const auto generator = checkpoint.tensors.find(kGenerator);
  if (generator == checkpoint.tensors.end()) {
    fail_corrupt("it has no random generator");
  }
  at::Generator cpu_generator = at::detail::getDefaultCPUGenerator();
  cpu_generator.set_state(generator->second);
}

void Training::prepare_sparsifier(std::int64_t stage) {
  const StageRecipe& recipe = recipe_.stages.at(static_cast<std::size_t>(stage));
  if (!recipe.sparsifier) {
    fail_corrupt(str_cat("stage '", recipe.name, "' of the recipe has no sparsifier"));
  }
  sparsifier_ = sparsity::make_sparsifier(recipe.sparsifier->name, recipe.sparsifier->config);
  sparsifier_->prepare(*model_, recipe.layers);
  sparsifier_->set_sr_ste_decay(recipe.sparsifier->sr_ste_decay);
  progress.sparsifier_stage = stage;
}

std::int64_t Training::freeze_step() const {
  const double epoch = stage().freeze_observers_epoch;
  return epoch < 0.0 ? -1 : std::max<std::int64_t>(1, std::llround(epoch * static_cast<double>(steps_per_epoch_)));
}

std::string Training::begin_stage() {
  std::string note;
  const StageRecipe& recipe = stage();
  const bool fresh = progress.step == 0;
  if (fresh) {
    progress.epoch_loss_sum = progress.window_loss_sum = progress.last_epoch_loss = progress.seconds = 0.0;
    progress.epoch_loss_steps = progress.window_steps = 0;
    if (quantizes(recipe.kind)) {
      quant::prepare_qat(*model_, recipe.quantize);
    }
    const bool lifts =
        recipe.sparsifier || recipe.kind == StageKind::kDense || recipe.kind == StageKind::kPruneChannels;
    if (sparsifier_ != nullptr && lifts) {
      sparsifier_->lift_masks();
      sparsifier_.reset();
      progress.sparsifier_stage = -1;
    }
    if (recipe.sparsifier) {
      prepare_sparsifier(progress.stage);
      if (recipe.permute_channels) {
        note = permute_model(*model_, *sparsifier_, recipe_.seed);
        prepare_sparsifier(progress.stage);
      }
    }
  }
  scheduler_.reset();
  if (!trains(recipe.kind)) {
    return note;
  }
  if (sparsifier_ != nullptr) {
    if (recipe.sparsity_schedule) {
      scheduler_ =
          std::make_unique<sparsity::SparsityScheduler>(*sparsifier_, schedule_in_steps(recipe, steps_per_epoch_));
    }
    if (fresh) {
      sparsifier_->hold_masks(scheduler_ == nullptr);
    }
    if (fresh && scheduler_ != nullptr) {
      scheduler_->begin();
    }
  }
  if (!recipe.sparse_activations.empty()) {
    sparsity::swap_linear_with_semi_sparse_activation_linear(*model_, {.tensor_fqns = recipe.sparse_activations});
  }
  optimizer_ = train::make_optimizer(*model_, recipe.optimizer);
  if (!fresh) {
    train::load_optimizer(*optimizer_, pending_optimizer_);
    pending_optimizer_.clear();
  }
  return note;
}

std::string Training::prune_channels(const train::CalibrationSet& set, const torch::Tensor& labels) {
  channels::ChannelPruningConfig config = stage().channels;
  if (config.criterion == channels::ChannelCriterion::kTaylor) {
    config.gradients = batch_gradients(*model_, set, labels);
  }
  return prune_model(*model_, config);
}

void Training::prune_in_one_shot(const train::CalibrationSet& set) {
  PARE_CHECK(sparsifier_ != nullptr);
  if (sparsifier_->needs_calibration()) {
    sparsifier_->calibrate(set);
  }
  sparsifier_->step();
  sparsifier_->hold_masks();
}

void Training::calibrate(const train::CalibrationSet& set) { quant::calibrate(*model_, set, stage().calibration); }

void Training::after_step() {
  if (scheduler_ != nullptr) {
    scheduler_->after(progress.step);
  }
  if (stage().kind == StageKind::kQat && progress.step == freeze_step()) {
    quant::freeze_observers(*model_);
  }
}

void Training::finish_stage() {
  if (quantizes(stage().kind)) {
    quant::finish_qat(*model_);
  }
  for (const std::string& node : model_->row_transforms()) {
    model_->set_row_transform(node, {});
  }
  scheduler_.reset();
  optimizer_.reset();
}

double Training::sparsity() const {
  const torch::NoGradGuard no_gradient;
  std::int64_t zeros = 0;
  std::int64_t count = 0;
  for (const auto& weight : model_->weights()) {
    const torch::Tensor used = weight->fake_quantizer() != nullptr ? weight->codes() : weight->masked();
    zeros += used.numel() - used.count_nonzero().item<std::int64_t>();
    count += used.numel();
  }
  return count == 0 ? 0.0 : static_cast<double>(zeros) / static_cast<double>(count);
}

train::Checkpoint Training::capture() const {
  train::Checkpoint checkpoint;
  for (const auto& [name, tensor] : model_->state()) {
    checkpoint.tensors[kModelPrefix + name] = tensor.to(torch::kCPU).contiguous();
  }
  checkpoint.tensors[kGenerator] = at::detail::getDefaultCPUGenerator().get_state();
  checkpoint.metadata[kRecipe] = recipe_.canonical_text;
  checkpoint.metadata[kProgress] = to_json(progress);
  checkpoint.metadata[kRecord] = report_json(record);
  if (sparsifier_ != nullptr) {
    checkpoint.metadata[kSparsifier] = sparsifier_->state();
  }
  if (progress.step > 0) {
    PARE_CHECK(optimizer_ != nullptr);
    checkpoint.blobs[kOptimizer] = train::save_optimizer(*optimizer_);
  }
  return checkpoint;
}

Recipe recipe_of(const train::Checkpoint& checkpoint, const std::string& path,
                 const std::vector<std::string>& overrides) {
  const auto found = checkpoint.metadata.find(kRecipe);
  if (found == checkpoint.metadata.end()) {
    throw Error(ErrorCategory::kCorruptData, "this checkpoint carries no recipe", path,
                "use one that `pare` has written");
  }
  return parse_recipe(found->second, path, overrides);
}

}  // namespace pare::pipeline
