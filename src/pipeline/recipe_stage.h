// The [[stage]] tables of a recipe.
#pragma once

#include <string>
#include <vector>

#include "pare/pipeline/recipe.h"
#include "pare/pipeline/recipe_reader.h"

namespace pare::pipeline {

// Reads one stage. `name` is the one that stage_names() gave it, `weights` the model's weight names for tensor_fqn.
[[nodiscard]] StageRecipe read_stage(TableReader& reader, const std::string& name,
                                     const std::vector<std::string>& weights);

// "constant", "linear", "cubic", "polynomial", "exponential".
[[nodiscard]] std::string to_string(sparsity::LevelCurve curve);
[[nodiscard]] std::string to_string(train::OptimizerKind kind);
[[nodiscard]] std::string to_string(train::LrCurve curve);
[[nodiscard]] std::string to_string(quant::ObserverKind kind);
[[nodiscard]] std::string to_string(quant::Rounding rounding);
[[nodiscard]] std::string to_string(quant::Rescaling rescaling);
[[nodiscard]] std::string to_string(channels::ChannelCriterion criterion);

}  // namespace pare::pipeline
