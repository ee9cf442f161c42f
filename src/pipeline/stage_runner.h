// The loop of one stage.
#pragma once

#include <chrono>
#include <cstdint>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/run_folder.h"
#include "pare/pipeline/training.h"
#include "pare/train/checkpoint.h"
#include "pare/train/dataset.h"
#include "pare/train/evaluate.h"

namespace pare::pipeline {

struct CheckpointInterval {
  double seconds = 30.0;   // 0: not by time
  std::int64_t steps = 0;  // 0: not by steps
};

class StageRunner {
 public:
  // All must outlive it.
  StageRunner(Training& training, const RunData& data, const RunFolder& folder, CheckpointInterval interval,
              Monitor& monitor);

  // Runs the stage that training.progress names from the step where it stands to its end; evaluates after every epoch,
  // writes checkpoints, adds the stage's record and leaves progress at the next stage. Throws kNumeric for a loss that
  // is not finite, naming stage, step, learning rate and remedy.
  void run_stage();

 private:
  using Clock = std::chrono::steady_clock;

  // One optimizer step; returns its loss.
  double step(double lr, const train::Batch& batch);
  void add_point(const std::string& series, double value);
  void end_window(double lr);
  [[nodiscard]] train::Evaluation evaluate();
  void add_evaluation(const train::Evaluation& evaluation);
  void end_epoch();
  void save();
  void begin_stage();
  void run_without_training();
  void look_at_data(StageKind kind);
  [[nodiscard]] train::CalibrationSet calibration_set() const;
  void finish_stage(std::int64_t steps, double base_lr);
  void record_stage(std::int64_t steps, double base_lr);
  [[nodiscard]] std::string label() const;

  Training& training_;
  const RunData& data_;
  const RunFolder& folder_;
  CheckpointInterval interval_;
  Monitor& monitor_;
  train::BatchLoader loader_;
  train::CheckpointFolder checkpoints_;
  Clock::time_point saved_;
  std::shared_ptr<train::Model> teacher_;  // of the stage under way; null: none
};

}  // namespace pare::pipeline
