// A run: all stages of a recipe, then the artifact, with checkpoints on the way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/recipe.h"
#include "pare/pipeline/run_folder.h"
#include "pare/pipeline/run_record.h"

namespace pare::pipeline {

// Stages that another run has done alike (training_prefix, recipe_text.h).
struct ReusedStages {
  std::filesystem::path folder;  // of that run
  std::size_t stages = 0;        // so many, from the first
};

struct RunOptions {
  std::filesystem::path folder;
  IfRunExists if_exists = IfRunExists::kRefuse;
  std::optional<ReusedStages> reuse;  // where the folder has no checkpoint yet: go on from there
  bool train_only = false;            // stages only, no artifact
  bool print_summary = true;          // the closing table, on the monitor
  double checkpoint_seconds = 30.0;   // between checkpoints within an epoch; 0: only at its end
  std::int64_t checkpoint_steps = 0;  // the same in steps; 0: by time only
  // Throws kUsage.
  void validate() const;
};

// Runs the recipe, or goes on where the folder's newest checkpoint stands: what comes out is the same, bit for bit,
// whether and whenever the process was killed (same machine, same number of threads). A run that is complete is only
// judged anew by the recipe's limits.
//
// Throws, with all files kept: kAccuracy if a stage loses more than it may or the artifact is below the recipe's limit;
// kVerification if the artifact breaks a promise or its numbers differ from QAT's; kNumeric for a loss that is not
// finite. kIo, kNotFound, kCorruptData, kInvalidArgument, kState as its parts do.
RunRecord run_recipe(const Recipe& recipe, const RunOptions& options, Monitor& monitor);

// Throws kAccuracy if a stage, or the artifact, is below what the recipe accepts. Sets record.accepted.
void judge_stage(const Recipe& recipe, RunRecord& record, const RunFolder& folder);
void judge_artifact(const Recipe& recipe, RunRecord& record, const std::filesystem::path& folder);

}  // namespace pare::pipeline
