// The images that a recipe names, loaded and checked against it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/pipeline/recipe.h"
#include "pare/train/calibration.h"
#include "pare/train/dataset.h"

namespace pare::pipeline {

struct RunData {
  train::Dataset train;
  train::Dataset test;
  std::vector<std::string> class_names;  // one per class; "0", "1", … where nobody named them
  Shape image;                           // [C, H, W]

  [[nodiscard]] std::int64_t classes() const { return static_cast<std::int64_t>(class_names.size()); }
};

// Throws what the readers throw, and kInvalidArgument where the images do not fit the recipe: train and test of
// different sizes, normalization for another number of channels, fewer images than a batch or a limit needs, labels
// without a class.
[[nodiscard]] RunData load_run_data(const Recipe& recipe);

// The first `images` of the training set, or all if there are fewer: as they are, in order, a batch of the recipe at a
// time. `where` names the place in errors. Throws kInvalidArgument where all of them are the same.
[[nodiscard]] train::CalibrationSet first_images(const RunData& data, const Recipe& recipe, std::int64_t images,
                                                 const std::string& where);

}  // namespace pare::pipeline
