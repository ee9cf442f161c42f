// Training: everything that a run has in hand between two steps, and its way into a checkpoint and back.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pare/pipeline/recipe.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/run_record.h"
#include "pare/sparsity/schedule.h"
#include "pare/sparsity/sparsifier.h"
#include "pare/train/checkpoint.h"
#include "pare/train/model.h"
#include "pare/train/optimizer.h"

namespace pare::pipeline {

// Where the run stands.
struct Progress {
  std::int64_t stage = 0;              // number of stages that are done; the one under way, if any
  std::int64_t step = 0;               // steps done in it
  std::int64_t global_step = 0;        // over all stages
  std::int64_t sparsifier_stage = -1;  // whose sparsifier is in force; -1: none
  double epoch_loss_sum = 0.0;         // since the epoch began
  std::int64_t epoch_loss_steps = 0;
  double window_loss_sum = 0.0;  // since the last point of the series
  std::int64_t window_steps = 0;
  double last_epoch_loss = 0.0;  // mean of the last whole epoch
  double seconds = 0.0;          // of training in this stage
};

// Steps of a stage: its epochs may be a fraction, but it has at least one step; a one-shot stage has none.
[[nodiscard]] std::int64_t stage_steps(const StageRecipe& stage, std::int64_t steps_per_epoch);
// The stage's schedule in steps. Precondition: it has one.
[[nodiscard]] sparsity::SparsitySchedule schedule_in_steps(const StageRecipe& stage, std::int64_t steps_per_epoch);

// Not thread-safe. The recipe must outlive it.
class Training {
 public:
  // At the start: random weights, or those of recipe.checkpoint. Throws kInvalidArgument for images that are too small
  // for the model, kUnsupported for the device and for a checkpoint with masks or quantizers, kCorruptData for one of
  // another network.
  Training(const Recipe& recipe, const Shape& image, std::int64_t classes, std::int64_t steps_per_epoch);
  // At a checkpoint. Throws kCorruptData if it does not fit the recipe.
  Training(const Recipe& recipe, const Shape& image, std::int64_t classes, std::int64_t steps_per_epoch,
           const train::Checkpoint& checkpoint);

  // Sets up the stage that progress.stage names: order of channels, masks, quantizers, optimizer, schedule. After a
  // checkpoint from the midst of a stage, what it held is taken instead of fresh. Returns a line for the user, or "".
  [[nodiscard]] std::string begin_stage();
  // All of a prune_channels stage, after begin_stage(). `set` and `labels`, of its inputs in order, are looked at where
  // the criterion needs gradients. Returns a line for the user.
  [[nodiscard]] std::string prune_channels(const train::CalibrationSet& set, const torch::Tensor& labels);
  // All of a one-shot stage, after begin_stage(): masks are chosen, and held from here on.
  void prune_in_one_shot(const train::CalibrationSet& set);
  // All of a calibrate stage, after begin_stage(): ranges and biases.
  void calibrate(const train::CalibrationSet& set);
  // Called after every optimizer step, when progress.step counts it: moves masks and freezes observers as scheduled.
  void after_step();
  // The last step is done: QAT is declared finished, activations are sparsified no more. The optimizer goes.
  void finish_stage();

  // Fraction of zeros among all weights that layers use now.
  [[nodiscard]] double sparsity() const;

  // Everything that resuming needs. Tensors are the live ones: write it before the next step.
  [[nodiscard]] train::Checkpoint capture() const;

  [[nodiscard]] const Recipe& recipe() const { return recipe_; }
  [[nodiscard]] const StageRecipe& stage() const { return recipe_.stages.at(static_cast<std::size_t>(progress.stage)); }
  [[nodiscard]] train::Model& model() { return *model_; }
  [[nodiscard]] torch::optim::Optimizer& optimizer() { return *optimizer_; }
  // Null where no masks are in force.
  [[nodiscard]] const sparsity::Sparsifier* sparsifier() const { return sparsifier_.get(); }
  [[nodiscard]] bool masks_move() const { return scheduler_ != nullptr; }
  [[nodiscard]] std::int64_t steps_per_epoch() const { return steps_per_epoch_; }

  Progress progress;
  RunRecord record;

 private:
  Training(const Recipe& recipe, std::int64_t steps_per_epoch, std::shared_ptr<train::Model> model);
  void prepare_sparsifier(std::int64_t stage);
  [[nodiscard]] std::int64_t freeze_step() const;  // -1: at the end

  const Recipe& recipe_;
  std::int64_t steps_per_epoch_;
  std::shared_ptr<train::Model> model_;
  std::unique_ptr<sparsity::Sparsifier> sparsifier_;
  std::unique_ptr<sparsity::SparsityScheduler> scheduler_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::string pending_optimizer_;  // state from a checkpoint, until begin_stage() makes the optimizer
};

// The model of a checkpoint from the end of a stage before QAT, in evaluation mode: a teacher. Throws what
// read_checkpoint does, and kCorruptData if it does not fit the recipe.
[[nodiscard]] std::shared_ptr<train::Model> load_stage_model(const Recipe& recipe, const Shape& image,
                                                             std::int64_t classes, const std::filesystem::path& path);

// The recipe that a checkpoint was written with. Throws kCorruptData if it is none of a run's.
[[nodiscard]] Recipe recipe_of(const train::Checkpoint& checkpoint, const std::string& path,
                               const std::vector<std::string>& overrides = {});

}  // namespace pare::pipeline
