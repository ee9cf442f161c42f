// Recipes: what a TOML file asks for, validated before anything runs. docs/recipe.md lists every key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pare/channels/prune_network.h"
#include "pare/quant/calibrate.h"
#include "pare/quant/qat.h"
#include "pare/sparsity/schedule.h"
#include "pare/sparsity/sparsifier.h"
#include "pare/train/dataset.h"
#include "pare/train/distillation.h"
#include "pare/train/optimizer.h"

namespace pare::pipeline {

enum class StageKind { kDense, kPruneChannels, kOneShot, kSparse, kCalibrate, kQat };
// Whether weights train in it.
[[nodiscard]] constexpr bool trains(StageKind kind) {
  return kind == StageKind::kDense || kind == StageKind::kSparse || kind == StageKind::kQat;
}
// The model is quantized after it. Such a stage is the last.
[[nodiscard]] constexpr bool quantizes(StageKind kind) {
  return kind == StageKind::kCalibrate || kind == StageKind::kQat;
}
[[nodiscard]] std::string to_string(StageKind kind);

struct SparsifierRecipe {
  std::string name = "weight_norm";  // of sparsity::sparsifier_names()
  std::string pattern = "2:4";       // or "" where sparsity_level, sparse_block_shape, zeros_per_block are given
  sparsity::MaskConfig config = sparsity::MaskConfig::from_pattern("2:4");
  double sr_ste_decay = 0.0;
};

struct SparsityScheduleRecipe {
  sparsity::LevelCurve curve = sparsity::LevelCurve::kConstant;
  double from = 0.0;
  double power = 3.0;        // polynomial
  bool epoch_wise = false;   // the level moves at the ends of epochs only
  double until_epoch = 0.0;  // end of the ramp
  double hold_epoch =
      -1.0;  // masks are held from here on; -1: from the end of the ramp, or half of the stage where there is no ramp
  std::int64_t update_every = 8;  // steps between recomputed masks
};

// A stage that learns from another's model as well as from labels.
struct DistillRecipe {
  std::string teacher;  // name of an earlier stage: its model at its end
  train::DistillationOptions options;
};

struct StageRecipe {
  StageKind kind = StageKind::kDense;
  std::string name;   // unique; by default the kind, numbered where it repeats
  double epochs = 1;  // 0 where nothing trains
  train::OptimizerOptions optimizer;
  train::LrSchedule schedule;
  // Set: masks are chosen anew in this stage (always in a sparse and a one-shot stage, on request in a QAT stage).
  std::optional<SparsifierRecipe> sparsifier;
  // Set: masks move by this schedule. A QAT stage without it holds the masks that it finds.
  std::optional<SparsityScheduleRecipe> sparsity_schedule;
  std::vector<sparsity::SparseLayerConfig> layers;
  bool permute_channels = false;  // before masks are chosen
  // Weights (names or globs) of the linear layers that read 2:4 activations in this stage, as torchao's
  // SemiSparseActivationLinear does. Dense and sparse stages only.
  std::vector<std::string> sparse_activations;
  channels::ChannelPruningConfig channels;  // prune_channels only
  quant::CalibrateOptions calibration;      // calibrate
  std::int64_t calibration_images =
      512;  // one-shot, calibrate: so many of the training images, or all if there are fewer
  quant::QATConfig quantize;
  double freeze_observers_epoch = -1.0;  // -1: at the end of the stage
  std::optional<DistillRecipe> distill;
  std::optional<double> max_accuracy_drop;  // points below the stage before it; the run stops if exceeded
};

struct FilesRecipe {
  std::string format = "idx";
  std::filesystem::path images;
  std::filesystem::path labels;
};

struct DataRecipe {
  std::string set;  // known set, or
  std::optional<FilesRecipe> train;
  std::optional<FilesRecipe> test;
  std::vector<std::string> class_names;
  train::Normalization normalize;
  bool flip = false;
  std::int64_t batch = 128;
  std::int64_t limit_train = 0;  // first so many images; 0: all
  std::int64_t limit_test = 0;
};

// What [convert] sparsify says beside "2:4" (weights that obey 2:4, packed so).
inline constexpr const char* kSparsifyAuto = "auto";    // each weight in the form that its masks have
inline constexpr const char* kSparsifyDense = "dense";  // nothing is packed

struct Recipe {
  std::string name;
  std::filesystem::path path;  // the file it was read from, for errors
  std::uint64_t seed = 0;
  std::string device = "cpu";
  std::int64_t threads = 0;
  std::string model;  // built-in
  // Of a run of `pare` with the same network: its weights, masks and batch-norm statistics instead of random ones.
  std::filesystem::path checkpoint;
  DataRecipe data;
  std::vector<StageRecipe> stages;
  bool squash_mask = true;
  std::string sparsify = kSparsifyAuto;
  std::optional<double> max_accuracy_drop;
  std::string target;  // [check] target: warn early
  // The recipe as understood: TOML that load_recipe reads back to the same recipe. For the run folder and for --resume.
  std::string canonical_text;
};

// `overrides`: "key=value" from --set, "stage.0.epochs=2", "stage.qat.epochs=1", "data.batch=64"; the value is a TOML
// value or a bare string. Unknown keys, wrong types, impossible values and missing files throw kInvalidArgument or
// kNotFound with file:line:column and "did you mean". Relative paths are taken from the recipe's folder.
[[nodiscard]] Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// The same for a text that was in `path`, as checkpoints carry it.
[[nodiscard]] Recipe parse_recipe(const std::string& toml_text, const std::filesystem::path& path,
                                  const std::vector<std::string>& overrides = {});

// Throws kInvalidArgument if the recipe's stages cannot lead to an artifact (no QAT stage).
void require_convertible(const Recipe& recipe);

// Lines that differ between two canonical texts ("- epochs = 8", "+ epochs = 9"), without those that training does not
// depend on (limits, target). Empty: one may be resumed by the other.
[[nodiscard]] std::vector<std::string> recipe_differences(const std::string& before, const std::string& after);

}  // namespace pare::pipeline
