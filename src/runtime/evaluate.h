// Predictions and their accuracy: a session, run over a set of images.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pare/runtime/session.h"

namespace pare::runtime {

// Position of the largest logit, the first among equals. Precondition: not empty.
[[nodiscard]] std::int64_t predicted_class(std::span<const float> logits);

// Softmax, computed in double with the largest logit subtracted first.
[[nodiscard]] std::vector<double> probabilities(std::span<const float> logits);

struct Evaluation {
  std::int64_t samples = 0;
  std::int64_t correct = 0;
  std::vector<std::vector<std::int64_t>> confusion;  // [true class][predicted class]

  [[nodiscard]] double accuracy_percent() const {
    return samples == 0 ? 0.0 : 100.0 * static_cast<double>(correct) / static_cast<double>(samples);
  }
};

// `images`: raw pixels, NCHW, one image a label. Throws kInvalidArgument if the sizes disagree or a label lies outside
// [0, classes).
[[nodiscard]] Evaluation evaluate(Session& session, std::span<const std::uint8_t> images,
                                  std::span<const std::uint8_t> labels);

}  // namespace pare::runtime
