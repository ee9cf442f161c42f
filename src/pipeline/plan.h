// What a recipe will do, known before anything is trained.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pare/pipeline/recipe.h"
#include "pare/pipeline/targets.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::pipeline {

// The layers of the artifact that the recipe leads to, and those that stay dense, with the reason.
struct LayerForecast {
  std::vector<LayerPlan> layers;
  std::vector<sparsity::DenseLayer> left_dense;         // by weight, while masks are in force at the end
  std::map<std::string, quant::PlannedScheme> schemes;  // by weight, where the recipe quantizes
};
[[nodiscard]] LayerForecast forecast_layers(const Recipe& recipe);

// What a user should know before hours of training: layers that the recipe's target does not support or does not
// speed up, masks that are lifted again, layers that stay dense without the recipe saying so.
[[nodiscard]] std::vector<std::string> early_warnings(const Recipe& recipe);

// One line for a stage: "8 epochs, adamw lr 0.003, cosine", "weight_norm 2:4, cubic until epoch 1.5".
[[nodiscard]] std::string describe_stage(const StageRecipe& stage);

// For --dry-run. Loads the data, so that what is wrong with it shows; throws as load_run_data does.
[[nodiscard]] std::string describe_run(const Recipe& recipe);

}  // namespace pare::pipeline
