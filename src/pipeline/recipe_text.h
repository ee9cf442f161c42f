// A recipe as canonical TOML.
#pragma once

#include <string>

#include "pare/pipeline/recipe.h"

namespace pare::pipeline {

// How `layers` say what goes: by the fields of a block, as runs compare them, or by "pattern" where that says it all.
enum class LayerText { kFields, kPattern };

// Every key with its value, defaults included, one a line, in a fixed order. Paths are absolute. Numbers are written so
// that they read back to the same double.
[[nodiscard]] std::string canonical_text(const Recipe& recipe, LayerText layers = LayerText::kFields);

// The same of what the model at the end of the first `stages` stages depends on: runs that have it in common train the
// same up to there. Precondition: the recipe has so many stages, and at least one.
[[nodiscard]] std::string training_prefix(const Recipe& recipe, std::size_t stages);

}  // namespace pare::pipeline
