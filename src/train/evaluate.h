// Accuracy and loss of a model in floating point. (QAT's exact integers: quant/exact.h.)
#pragma once

#include <cstdint>

#include "pare/train/dataset.h"
#include "pare/train/model.h"

namespace pare::train {

struct Evaluation {
  double accuracy = 0.0;  // percent
  double loss = 0.0;      // mean cross-entropy
  std::int64_t samples = 0;
};

// All images of the set in order, `batch` at a time, in evaluation mode without gradients; the model's mode is
// restored. Throws kNumeric if a logit is NaN or infinite, kInvalidArgument for a batch below 1, for images that do not
// fit the model or labels that its classes do not cover.
[[nodiscard]] Evaluation evaluate(Model& model, const Dataset& dataset, const Normalization& normalization,
                                  std::int64_t batch = 500);

}  // namespace pare::train
