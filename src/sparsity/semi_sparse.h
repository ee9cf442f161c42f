// Semi-sparse training under torchao's names (torchao.sparsity.training): linear layers that are trained with
// transposable 2:4 masks, chosen anew from the dense weight at every step.
//
//   const auto masks = sparsity::swap_linear_with_semi_sparse_linear(model);
//   for (const Batch& batch : batches) {
//     optimizer->zero_grad();
//     loss(model.forward(batch.images), batch.labels).backward();
//     optimizer->step();
//     masks->step();
//   }
//   sparsity::swap_semi_sparse_linear_with_linear(model);  // or hold the masks, train QAT, and convert
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// torchao's dictionary of layer names to SemiSparseLinear.
struct SemiSparseLinearConfig {
  std::vector<std::string> tensor_fqns;  // weights of linear layers, names or globs: "fc1.weight"; empty: all of them
};

// torchao's swap_linear_with_semi_sparse_linear: turns the masks on and returns what renews them. Call its step() after
// each step of the optimizer; that gives the masks that torchao's SemiSparseLinear makes in its forward. The gradient
// goes straight through, and everything else is the weight's one pipeline: the masks stand in checkpoints, QAT
// quantizes what they leave, hold_masks() freezes them, squash_mask() and conversion take them as the 2:4 masks that
// they are. Layers with fewer inputs than a tile stay dense (dense_layers()). In a recipe: pattern = "2:4t",
// update_every = 1.
//
// Two differences from torchao, both on purpose: the best of a tile's 90 masks instead of a greedy one
// (transposable.h), and no layer of another class, so that names and checkpoints stay as they were. No counterpart of
// SemiSparseActivationLinear (2:4 of the activations as they come): it changes what the network computes, and no CPU
// has an instruction by which it would gain time for that.
//
// The model must outlive the result. Throws kNotFound for a name that names nothing (with the nearest names), and
// kInvalidArgument for a convolution: a sparsifier with pattern "2:4t" masks those.
[[nodiscard]] std::unique_ptr<Sparsifier> swap_linear_with_semi_sparse_linear(
    train::Model& model, const SemiSparseLinearConfig& config = {});

// torchao's function of this name: takes the masks off every linear layer whose mask is a transposable 2:4 mask, so
// that it is trained densely on; other masks stay. The dense weights are those that stood underneath. Returns the
// weights that were swapped, in graph order. A sparsifier that made the masks is done with then.
std::vector<std::string> swap_semi_sparse_linear_with_linear(train::Model& model);

}  // namespace pare::sparsity
