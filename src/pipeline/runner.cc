#include "pare/pipeline/runner.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>

#include "pare/base/checksum.h"
#include "pare/base/cpu.h"
#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/convert_step.h"
#include "pare/pipeline/evaluate.h"
#include "pare/pipeline/plan.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/stage_runner.h"
#include "pare/pipeline/training.h"
#include "pare/pipeline/version.h"
#include "pare/train/environment.h"

namespace pare::pipeline {
namespace {

std::string points(double value) { return fixed(value, 2) + (value == 1.0 ? " point" : " points"); }

std::string data_fingerprint(const RunData& data) {
  std::uint64_t hash = 0;
  for (const torch::Tensor* tensor : {&data.train.images, &data.train.labels, &data.test.images, &data.test.labels}) {
    const torch::Tensor plain = tensor->contiguous();
    const auto bytes = std::span(static_cast<const std::byte*>(plain.data_ptr()), plain.nbytes());
    hash = hash * 31 + xxh3_64(bytes);
  }
  std::ostringstream out;
  out << data.train.size() << " + " << data.test.size() << " images, xxh3 " << std::hex << hash;
  return out.str();
}

std::map<std::string, std::string> environment_of(const Recipe& recipe, const RunData& data) {
  return {{"pare", version()},
          {"libtorch", train::libtorch_version()},
          {"compiler", __VERSION__},
          {"cpu", cpu_name()},
          {"isa", std::string(pare::to_string(chosen_isa()))},
          {"threads", std::to_string(at::get_num_threads())},
          {"device", recipe.device},
          {"seed", std::to_string(recipe.seed)},
          {"data", data_fingerprint(data)}};
}

// What a resumed run must find unchanged, and what it had better.
void check_environment(const std::map<std::string, std::string>& then, const std::map<std::string, std::string>& now,
                       const RunFolder& folder, Monitor& monitor) {
  const auto value = [](const std::map<std::string, std::string>& map, const std::string& key) {
    const auto found = map.find(key);
    return found == map.end() ? std::string("unknown") : found->second;
  };
  if (value(then, "data") != value(now, "data")) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the run was begun with other data: ", value(then, "data"), "; now ", value(now, "data")),
                folder.path().string(), "bring the old data back, or start anew with --overwrite");
  }
  for (const char* key : {"threads", "libtorch", "cpu", "pare"}) {
    if (value(then, key) != value(now, key)) {
      monitor.warning(str_cat("the run was begun with ", key, " ", value(then, key), ", now ", value(now, key),
                              ": results will not be the same bit for bit"));
    }
  }
}

void write_all_reports(const std::filesystem::path& folder, const RunRecord& record) {
  write_reports(folder, record);
  write_tensorboard_events(folder, record);
}

// Runs what is left of the stages. Reports are written at the start and after each, so that a user can look meanwhile.
void train_stages(Training& training, const RunData& data, RunFolder& folder, const RunOptions& options,
                  Monitor& monitor) {
  const Recipe& recipe = training.recipe();
  StageRunner runner(training, data, folder, {options.checkpoint_seconds, options.checkpoint_steps}, monitor);
  const auto judge = [&] {
    try {
      judge_stage(recipe, training.record, folder);
    } catch (const Error&) {
      write_all_reports(folder.path(), training.record);
      folder.set_status(RunStatus::kStopped);
      throw;
    }
  };
  judge();
  write_all_reports(folder.path(), training.record);
  while (training.progress.stage < static_cast<std::int64_t>(recipe.stages.size())) {
    runner.run_stage();
    judge();
    write_all_reports(folder.path(), training.record);
  }
}

// Copies the models of the stages, which later ones may want as teachers, and returns the last with all that belongs to
// it.
train::Checkpoint take_over(const ReusedStages& reused, const Recipe& recipe, const RunFolder& folder) {
  PARE_CHECK(reused.stages >= 1 && reused.stages <= recipe.stages.size());
  make_directories(folder.path() / "stages");
  std::optional<train::Checkpoint> last;
  for (std::size_t i = 0; i < reused.stages; ++i) {
    const std::string& stage = recipe.stages[i].name;
    last = train::read_checkpoint(reused.folder / "stages" / (stage + ".ckpt"));
    train::write_checkpoint(folder.stage_checkpoint(stage), *last);
  }
  return *last;
}

void note_summary(const RunRecord& record, const RunFolder& folder, const RunOptions& options, Monitor& monitor) {
  if (options.print_summary) {
    monitor.note(format_summary(record, folder.path().string()));
  }
}

RunRecord complete_run(const Recipe& recipe, const RunFolder& folder, const RunOptions& options, Monitor& monitor) {
  RunRecord record = record_from_json(read_text_file(folder.path() / "report.json"));
  monitor.note(str_cat(folder.path().string(), " is complete; --overwrite removes it and starts anew"));
  note_summary(record, folder, options, monitor);
  if (record.runtime.mismatches > 0) {
    throw Error(ErrorCategory::kVerification,
                str_cat("the runtime's numbers differ from QAT's for ", record.runtime.mismatches, " images"),
                folder.artifact().string());
  }
  const double limit_before = record.accepted_drop;
  std::optional<Error> below_limit;
  try {
    judge_artifact(recipe, record, folder.path());
  } catch (const Error& error) {
    below_limit = error;
  }
  if (record.accepted_drop != limit_before) {
    write_all_reports(folder.path(), record);
  }
  if (below_limit) {
    throw *below_limit;
  }
  return record;
}

}  // namespace

void RunOptions::validate() const {
  if (!(checkpoint_seconds >= 0.0) || checkpoint_steps < 0) {
    throw Error(ErrorCategory::kUsage, "the interval of checkpoints cannot be negative");
  }
}

void judge_stage(const Recipe& recipe, RunRecord& record, const RunFolder& folder) {
  record.accepted = true;
  const std::size_t done = record.stages.size();
  if (done < 2) {
    return;
  }
  const StageRecipe& stage = recipe.stages.at(done - 1);
  const StageRecord& before = record.stages[done - 2];
  const StageRecord& after = record.stages[done - 1];
  const double drop = before.accuracy - after.accuracy;
  if (!stage.max_accuracy_drop || drop <= *stage.max_accuracy_drop) {
    return;
  }
  record.accepted = false;
  const std::string problem =
      str_cat("stage '", after.name, "' lost ", points(drop), " (", percent(before.accuracy), " to ",
              percent(after.accuracy), "); the recipe allows ", points(*stage.max_accuracy_drop));
  record.warnings.push_back(problem);
  throw Error(ErrorCategory::kAccuracy, problem, recipe.path.string(),
              str_cat("the last good model is ", folder.stage_checkpoint(before.name).string(),
                      "; raise max_accuracy_drop and --resume, or change the stage and --overwrite"));
}

void judge_artifact(const Recipe& recipe, RunRecord& record, const std::filesystem::path& folder) {
  record.accepted_drop = recipe.max_accuracy_drop.value_or(-1.0);
  record.accepted = true;
  const RunSummary summary = summarize(record);
  if (!recipe.max_accuracy_drop || !summary.accuracy_drop) {
    return;
  }
  if (*summary.accuracy_drop > *recipe.max_accuracy_drop) {
    record.accepted = false;
    throw Error(ErrorCategory::kAccuracy,
                str_cat("the artifact is ", points(*summary.accuracy_drop), " below the dense stage (",
                        percent(*summary.reference_accuracy), " to ", percent(record.runtime.accuracy),
                        "); the recipe accepts ", points(*recipe.max_accuracy_drop)),
                recipe.path.string(), str_cat("all files are kept in ", folder.string()));
  }
}

RunRecord run_recipe(const Recipe& recipe, const RunOptions& options, Monitor& monitor) {
  options.validate();
  if (!options.train_only) {
    require_convertible(recipe);
  }
  // What can be wrong is found before the folder is touched.
  const RunData data = load_run_data(recipe);
  static_cast<void>(train::parse_device(recipe.device));
  const std::vector<std::string> warnings = early_warnings(recipe);

  RunFolder folder(options.folder, recipe, options.if_exists);
  if (folder.status() == RunStatus::kFinished) {
    return complete_run(recipe, folder, options, monitor);
  }
  for (const std::string& warning : warnings) {
    monitor.warning(warning);
  }

  const std::int64_t steps_per_epoch = data.train.size() / recipe.data.batch;
  std::map<std::string, std::string> environment = environment_of(recipe, data);
  std::optional<train::Checkpoint> checkpoint;
  if (folder.status() != RunStatus::kNone) {
    checkpoint = train::CheckpointFolder(folder.checkpoints()).load_newest([&](const std::string& text) {
      monitor.warning(text);
    });
    monitor.note(checkpoint ? str_cat("resuming ", folder.path().string()) : "no checkpoint yet: starting anew");
  }
  if (!checkpoint && options.reuse) {
    checkpoint = take_over(*options.reuse, recipe, folder);
    monitor.note(str_cat(options.reuse->stages, " of ", recipe.stages.size(), " stages are those of ",
                         options.reuse->folder.string()));
  }
  folder.set_status(RunStatus::kRunning);
  std::optional<Training> training;
  if (checkpoint) {
    training.emplace(recipe, data.image, data.classes(), steps_per_epoch, *checkpoint);
    check_environment(training->record.environment, environment, folder, monitor);
    checkpoint.reset();
  } else {
    training.emplace(recipe, data.image, data.classes(), steps_per_epoch);
  }
  RunRecord& record = training->record;
  record.environment = std::move(environment);
  record.class_names = data.class_names;
  record.warnings = warnings;
  record.accepted_drop = recipe.max_accuracy_drop.value_or(-1.0);

  monitor.note(str_cat(recipe.name, ": ", recipe.model, " on ", recipe.device, ", ", at::get_num_threads(),
                       " threads, ", data.train.size(), " + ", data.test.size(), " images -> ",
                       folder.path().string()));
  train_stages(*training, data, folder, options, monitor);
  if (options.train_only) {
    folder.set_status(RunStatus::kTrained);
    note_summary(record, folder, options, monitor);
    return record;
  }

  convert_to_artifact(*training, data, folder.artifact());
  monitor.begin("verify", "img", data.test.size(), 0, 1.0);
  const std::string problem =
      check_artifact(*training, data, folder.artifact(), record, [&](std::int64_t done) { monitor.advance(done); });
  monitor.end();
  std::optional<Error> below_limit;
  try {
    judge_artifact(recipe, record, folder.path());
  } catch (const Error& error) {
    below_limit = error;
  }
  if (!problem.empty()) {
    record.warnings.push_back(problem);
  }
  write_all_reports(folder.path(), record);
  folder.set_status(RunStatus::kFinished);
  note_summary(record, folder, options, monitor);
  if (!problem.empty()) {
    throw Error(ErrorCategory::kVerification, problem, folder.artifact().string(), "all files are kept");
  }
  if (below_limit) {
    throw *below_limit;
  }
  return record;
}

}  // namespace pare::pipeline
