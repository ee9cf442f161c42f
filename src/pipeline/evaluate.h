// Accuracy: of a model in training, and of an artifact in the runtime, compared number by number.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pare/pipeline/run_data.h"
#include "pare/runtime/session.h"
#include "pare/train/evaluate.h"
#include "pare/train/model.h"

namespace pare::pipeline {

// Called with the number of images done so far.
using EvaluationProgress = std::function<void(std::int64_t done)>;

// Images in a slice; memory is bounded by it.
inline constexpr std::int64_t kEvaluationBatch = 250;

// The model in evaluation mode: in float32 before QAT (train::evaluate), in exact integers (quant::exact_forward) from
// then on. The model's mode is restored. Throws kNumeric if a logit is not finite.
[[nodiscard]] train::Evaluation evaluate_model(train::Model& model, const train::Dataset& dataset,
                                               const train::Normalization& normalization);

struct RuntimeEvaluation {
  double accuracy = 0.0;  // percent
  std::int64_t samples = 0;
  std::vector<std::vector<std::int64_t>> confusion;  // [true][predicted]
  // With a model to compare with:
  std::int64_t mismatches = 0;        // images of which any compared number differs
  std::vector<std::string> compared;  // values that were compared: codes of quantized layers, and the logits
  std::string first_mismatch;         // "value 'relu1.out' of image 17", or ""
};

// All images through the session, from raw pixels.
[[nodiscard]] RuntimeEvaluation evaluate_session(runtime::Session& session, const train::Dataset& dataset,
                                                 const EvaluationProgress& progress = {});

// The same, and every quantized layer's integers and the logits beside those of quant::exact_forward on `model`.
// `must_compare`: values that have to be among the compared ones; throws kVerification if one is missing.
// The session must plan for kEvaluationBatch images, so that a slice is one piece.
[[nodiscard]] RuntimeEvaluation compare_with_model(runtime::Session& session, train::Model& model,
                                                   const train::Dataset& dataset,
                                                   const train::Normalization& normalization,
                                                   const std::vector<std::string>& must_compare,
                                                   const EvaluationProgress& progress = {});

}  // namespace pare::pipeline
