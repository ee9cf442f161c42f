#include "pare/sparsity/squash_mask.h"

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {

void squash_mask(train::Model& model, const SquashOptions& options, const std::string& stage) {
  if (model.qat_state() != train::QatState::kFinished && !options.before_qat_finished) {
    const char* when = model.qat_state() == train::QatState::kNone ? "before quantization-aware training"
                                                                   : "while quantization-aware training is under way";
    throw Error(
        ErrorCategory::kState,
        str_cat("squash_mask ", when, ": training after it would move the zeros away, and the pattern with them"),
        stage.empty() ? std::string("squash_mask") : str_cat("stage '", stage, "'"),
        "keep the masks on, run QAT to its end (prepare_qat, training, finish_qat; in a recipe: a stage of kind "
        "\"qat\") and squash then; for a model that stays float32, set SquashOptions::before_qat_finished");
  }
  for (const auto& weight : model.weights()) {
    weight->squash();
  }
}

}  // namespace pare::sparsity
