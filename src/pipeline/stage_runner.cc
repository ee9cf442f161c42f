#include "pare/pipeline/stage_runner.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/evaluate.h"
#include "pare/pipeline/plan.h"

namespace pare::pipeline {
namespace {

// Points of the loss series in a stage: enough for a curve, few enough for a report.
constexpr std::int64_t kPointsInStage = 200;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

train::BatchOptions batch_options(const Recipe& recipe) {
  train::BatchOptions options;
  options.batch = recipe.data.batch;
  options.flip = recipe.data.flip;
  options.seed = recipe.seed;
  return options;
}

}  // namespace

StageRunner::StageRunner(Training& training, const RunData& data, const RunFolder& folder, CheckpointInterval interval,
                         Monitor& monitor)
    : training_(training),
      data_(data),
      folder_(folder),
      interval_(interval),
      monitor_(monitor),
      loader_(data.train, training.recipe().data.normalize, batch_options(training.recipe())),
      checkpoints_(folder.checkpoints()),
      saved_(Clock::now()) {
  make_directories(folder.checkpoints());
  make_directories(folder.path() / "stages");
}

std::string StageRunner::label() const {
  return str_cat("[", training_.progress.stage + 1, "/", training_.recipe().stages.size(), "] ",
                 training_.stage().name);
}

double StageRunner::step(double lr, const train::Batch& batch) {
  train::Model& model = training_.model();
  torch::optim::Optimizer& optimizer = training_.optimizer();
  train::set_learning_rate(optimizer, lr);
  const torch::Tensor inputs = batch.inputs.to(model.device());
  const torch::Tensor labels = batch.labels.to(model.device());
  const torch::Tensor loss = teacher_ == nullptr ? torch::nn::functional::cross_entropy(model.forward(inputs), labels)
                                                 : train::distillation_loss(model, *teacher_, inputs, labels,
                                                                            training_.stage().distill->options);
  const double value = loss.item<double>();
  if (!std::isfinite(value)) {
    const StageRecipe& stage = training_.stage();
    throw Error(ErrorCategory::kNumeric,
                str_cat("the loss is ", value, " at step ", training_.progress.step + 1, " (epoch ",
                        training_.progress.step / training_.steps_per_epoch() + 1, ") with learning rate ", lr),
                str_cat("stage '", stage.name, "'"),
                str_cat("lower the learning rate (--set stage.", stage.name, ".optimizer.lr=", stage.optimizer.lr / 10,
                        ") or warm up for longer (--set stage.", stage.name,
                        ".schedule.warmup_steps=200), and start anew with --overwrite"));
  }
  train::zero_grad(optimizer);
  loss.backward();
  optimizer.step();
  return value;
}

void StageRunner::add_point(const std::string& series, double value) {
  std::vector<SeriesPoint>& points = training_.record.series[series];
  const std::int64_t at = training_.progress.global_step;
  if (!points.empty() && points.back().step == at) {
    points.back().value = value;
  } else {
    points.push_back({at, value});
  }
}

void StageRunner::end_window(double lr) {
  Progress& progress = training_.progress;
  if (progress.window_steps == 0) {
    return;
  }
  add_point("loss", progress.window_loss_sum / static_cast<double>(progress.window_steps));
  add_point("lr", lr);
  if (training_.masks_move()) {
    add_point("sparsity", training_.sparsity());
  }
  progress.window_loss_sum = 0.0;
  progress.window_steps = 0;
}

train::Evaluation StageRunner::evaluate() {
  try {
    return evaluate_model(training_.model(), data_.test, training_.recipe().data.normalize);
  } catch (const Error& error) {
    throw Error(error.category(), str_cat("evaluation after step ", training_.progress.step, ": ", error.problem()),
                str_cat("stage '", training_.stage().name, "'"), error.remedy());
  }
}

void StageRunner::add_evaluation(const train::Evaluation& evaluation) {
  add_point("accuracy", evaluation.accuracy);
  if (!training_.masks_move()) {
    add_point("sparsity", training_.sparsity());
  }
}

void StageRunner::end_epoch() {
  Progress& progress = training_.progress;
  if (progress.epoch_loss_steps > 0) {
    progress.last_epoch_loss = progress.epoch_loss_sum / static_cast<double>(progress.epoch_loss_steps);
  }
  progress.epoch_loss_sum = 0.0;
  progress.epoch_loss_steps = 0;
  const train::Evaluation evaluation = evaluate();
  add_evaluation(evaluation);
  std::ostringstream line;
  line << label() << "  epoch " << std::setprecision(4)
       << static_cast<double>(progress.step) / static_cast<double>(training_.steps_per_epoch()) << "/"
       << training_.stage().epochs << std::fixed << "  loss " << std::setprecision(4) << progress.last_epoch_loss
       << "  accuracy " << std::setprecision(2) << evaluation.accuracy << " %";
  monitor_.note(line.str());
}

void StageRunner::save() {
  checkpoints_.save(training_.progress.global_step, training_.capture());
  saved_ = Clock::now();
}

train::CalibrationSet StageRunner::calibration_set() const {
  return first_images(data_, training_.recipe(), training_.stage().calibration_images,
                      str_cat("stage '", training_.stage().name, "', calibrate"));
}

void StageRunner::begin_stage() {
  if (const std::string note = training_.begin_stage(); !note.empty()) {
    monitor_.note(str_cat(label(), "  ", note));
  }
}

// The work of a stage that does not train.
void StageRunner::look_at_data(StageKind kind) {
  const bool blind =
      kind == StageKind::kPruneChannels && training_.stage().channels.criterion != channels::ChannelCriterion::kTaylor;
  train::CalibrationSet set = blind ? train::CalibrationSet{} : calibration_set();
  bool begun = false;
  set.progress = [&](std::int64_t done, std::int64_t total) {
    if (!begun) {
      monitor_.begin(label(),
                     kind == StageKind::kOneShot         ? "layers"
                     : kind == StageKind::kPruneChannels ? "batches"
                                                         : "passes",
                     total, 0, 1.0);
      begun = true;
    }
    monitor_.advance(done);
  };
  if (kind == StageKind::kPruneChannels) {
    monitor_.note(str_cat(label(), "  ", training_.prune_channels(set, data_.train.labels)));
  } else if (kind == StageKind::kOneShot) {
    training_.prune_in_one_shot(set);
  } else {
    training_.calibrate(set);
  }
  if (begun) {
    monitor_.end();
  }
}

void StageRunner::run_without_training() {
  monitor_.note(str_cat(label(), "  ", describe_stage(training_.stage())));
  const auto began = Clock::now();
  begin_stage();
  const StageKind kind = training_.stage().kind;
  look_at_data(kind);
  training_.finish_stage();
  training_.progress.seconds = seconds_since(began);
  const train::Evaluation evaluation = evaluate();
  training_.progress.last_epoch_loss = evaluation.loss;
  add_evaluation(evaluation);
  std::ostringstream line;
  line << label() << (kind == StageKind::kCalibrate ? "  calibrated" : "  pruned") << "  loss " << std::fixed
       << std::setprecision(4) << evaluation.loss << "  accuracy " << std::setprecision(2) << evaluation.accuracy
       << " %";
  monitor_.note(line.str());
  record_stage(0, 0.0);
}

void StageRunner::run_stage() {
  if (!trains(training_.stage().kind)) {
    return run_without_training();
  }
  const StageRecipe& stage = training_.stage();
  const std::int64_t stage_number = training_.progress.stage;
  const std::int64_t per_epoch = training_.steps_per_epoch();
  const std::int64_t total = stage_steps(stage, per_epoch);
  const std::int64_t window = std::max<std::int64_t>(1, total / kPointsInStage);
  Progress& progress = training_.progress;
  if (progress.step > total) {
    throw Error(ErrorCategory::kCorruptData,
                str_cat("stage '", stage.name, "' stands at step ", progress.step, " of ", total), "checkpoint",
                "start the run anew with --overwrite");
  }
  monitor_.note(str_cat(label(), "  ", describe_stage(stage)));
  begin_stage();
  training_.model().train();
  teacher_ = stage.distill ? load_stage_model(training_.recipe(), data_.image, data_.classes(),
                                              folder_.stage_checkpoint(stage.distill->teacher))
                           : nullptr;
  monitor_.begin(label(), "img", total, progress.step, static_cast<double>(training_.recipe().data.batch));

  std::int64_t loaded_epoch = -1;
  while (progress.step < total) {
    const auto began = Clock::now();
    const std::int64_t epoch = progress.step / per_epoch;
    if (epoch != loaded_epoch) {
      loader_.begin_epoch(stage_number, epoch);
      loaded_epoch = epoch;
    }
    const double lr = stage.schedule.at(stage.optimizer.lr, progress.step, total, per_epoch);
    const double loss = step(lr, loader_.batch(progress.step % per_epoch));
    ++progress.step;
    ++progress.global_step;
    training_.after_step();
    progress.epoch_loss_sum += loss;
    ++progress.epoch_loss_steps;
    progress.window_loss_sum += loss;
    ++progress.window_steps;
    progress.seconds += seconds_since(began);

    const bool last = progress.step == total;
    if (progress.window_steps >= window || last) {
      end_window(lr);
    }
    monitor_.advance(progress.step, loss);
    if (last) {
      break;
    }
    if (progress.step % per_epoch == 0) {
      end_epoch();
      save();
    } else if ((interval_.steps > 0 && progress.step % interval_.steps == 0) ||
               (interval_.seconds > 0.0 && seconds_since(saved_) >= interval_.seconds)) {
      save();
    }
  }
  monitor_.end();
  finish_stage(total, stage.optimizer.lr);
}

void StageRunner::finish_stage(std::int64_t steps, double base_lr) {
  training_.finish_stage();
  end_epoch();
  record_stage(steps, base_lr);
}

void StageRunner::record_stage(std::int64_t steps, double base_lr) {
  Progress& progress = training_.progress;
  const StageRecipe& stage = training_.stage();
  StageRecord record;
  record.name = stage.name;
  record.kind = to_string(stage.kind);
  record.epochs = stage.epochs;
  record.seconds = progress.seconds;
  record.accuracy = training_.record.series.at("accuracy").back().value;
  record.loss = progress.last_epoch_loss;
  record.sparsity = training_.sparsity();
  record.lr = base_lr;
  record.ms_per_step = steps == 0 ? 0.0 : 1000.0 * progress.seconds / static_cast<double>(steps);
  record.first_step = progress.global_step - steps;
  record.steps = steps;
  training_.record.stages.push_back(record);

  ++progress.stage;
  progress.step = 0;
  train::write_checkpoint(folder_.stage_checkpoint(record.name), training_.capture());
  save();
}

}  // namespace pare::pipeline
