// squash_mask: the end of masks. What comes after it has zeros, not masks.
#pragma once

#include <string>

#include "pare/train/model.h"

namespace pare::sparsity {

struct SquashOptions {
  // For people who know why: a model that shall stay float32, say. Squashed weights are ordinary weights: QAT after
  // this moves the zeros away and the pattern with them.
  bool before_qat_finished = false;
};

// Writes every mask into its weight (masked weights become 0) and drops it. The last act before conversion; a model
// without masks is left as it is. Throws kState while QAT has not finished (train::QatState::kFinished): the error
// names `stage` and says what to do.
void squash_mask(train::Model& model, const SquashOptions& options = {}, const std::string& stage = {});

}  // namespace pare::sparsity
