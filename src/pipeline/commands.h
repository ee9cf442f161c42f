// What the commands of `pare` do with files that exist already: evaluate, convert, describe.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pare/pipeline/evaluate.h"
#include "pare/pipeline/monitor.h"
#include "pare/pipeline/recipe.h"
#include "pare/pipeline/run_record.h"
#include "pare/pipeline/targets.h"

namespace pare::pipeline {

enum class FileKind { kRecipe, kArtifact, kCheckpoint };

// By what the file holds; a recipe by its name, *.toml. Throws kNotFound, kIo, kCorruptData, kUnsupported for others.
[[nodiscard]] FileKind kind_of_file(const std::filesystem::path& path);

// Images to evaluate on.
struct TestImages {
  std::string set;               // a known set, or
  std::filesystem::path images;  // IDX files of one's own, or
  std::filesystem::path labels;
  std::filesystem::path recipe;  // those of a recipe; where all are empty, the recipe.toml beside the artifact
};

// All test images through the artifact's runtime::Session. threads 0: one per core. Throws what its parts throw, and
// kInvalidArgument if the images do not fit.
[[nodiscard]] RuntimeEvaluation evaluate_artifact(const std::filesystem::path& artifact, const TestImages& images,
                                                  std::size_t threads, Monitor& monitor);

struct CheckpointEvaluation {
  train::Evaluation evaluation;
  bool exact = false;  // in integers, as QAT's evaluation mode
  std::string recipe;  // name
};

// The model of a checkpoint on the test images of the recipe that it carries, with `overrides` on it.
[[nodiscard]] CheckpointEvaluation evaluate_checkpoint(const std::filesystem::path& checkpoint,
                                                       const std::vector<std::string>& overrides);

// Converts the model of a checkpoint, writes the artifact, verifies and evaluates it. Throws kState if QAT has not
// finished in it; kVerification, with the file kept, if the artifact breaks a promise.
[[nodiscard]] RunRecord convert_checkpoint(const std::filesystem::path& checkpoint,
                                           const std::filesystem::path& artifact,
                                           const std::vector<std::string>& overrides, Monitor& monitor);

// Tables for `pare inspect`.
[[nodiscard]] std::string describe_artifact(const std::filesystem::path& path);
[[nodiscard]] std::string describe_checkpoint(const std::filesystem::path& path);

// The layers of a recipe, an artifact, or a built-in (as dense int8), for check_target.
[[nodiscard]] std::vector<LayerPlan> layer_plans_of_file(const std::filesystem::path& path);
[[nodiscard]] std::vector<LayerPlan> layer_plans_of_builtin(const std::string& model);

// Writes the reports of a run folder anew from its report.json, or from its newest checkpoint where the run has not
// come so far. Throws kNotFound if neither is there.
[[nodiscard]] RunRecord rewrite_reports(const std::filesystem::path& folder);

}  // namespace pare::pipeline
