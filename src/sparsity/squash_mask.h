// squash_mask: the end of masks. What comes after it has zeros, not masks.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// By weight, then by field, as text: {"fc1.weight", {{"pattern", "2:4"}, {"sparse_block_shape", "1x4"}}}.
using SparseParams = std::map<std::string, std::map<std::string, std::string>>;

struct SquashOptions {
  // For people who know why: a model that shall stay float32, say. Squashed weights are ordinary weights: QAT after
  // this moves the zeros away and the pattern with them.
  bool before_qat_finished = false;

  // What is told of the masks that go, for squash_mask of a sparsifier: torch.ao.pruning's arguments of these names.
  // Fields: "pattern", "sparsity_level" (the target), "sparse_block_shape", "zeros_per_block", "norm".
  std::vector<std::string> params_to_keep = {};                                   // of every weight
  std::map<std::string, std::vector<std::string>> params_to_keep_per_layer = {};  // and of these, by tensor_fqn
};

// Writes every mask into its weight (masked weights become 0) and drops it. The last act before conversion; a model
// without masks is left as it is. Throws kState while QAT has not finished (train::QatState::kFinished): the error
// names `stage` and says what to do.
void squash_mask(train::Model& model, const SquashOptions& options = {}, const std::string& stage = {});

// The same for the model of a sparsifier, which keeps its groups: torch.ao.pruning's BaseSparsifier.squash_mask. What
// torch leaves in an attribute sparse_params of each module is the result here. Throws kState before prepare() as well,
// and kNotFound (with the nearest names) for a field or a weight that there is not; nothing is squashed then.
SparseParams squash_mask(const Sparsifier& sparsifier, const SquashOptions& options = {});

}  // namespace pare::sparsity
