// Semi-sparse training under torchao's names (torchao.sparsity.training): linear layers that are trained with
// transposable 2:4 masks, of the weight or of what the layer reads, chosen anew at every step.
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
// (transposable.h), and no layer of another class, so that names and checkpoints stay as they were.
//
// The model must outlive the result. Throws kNotFound for a name that names nothing (with the nearest names), and
// kInvalidArgument for a convolution: a sparsifier with pattern "2:4t" masks those.
[[nodiscard]] std::unique_ptr<Sparsifier> swap_linear_with_semi_sparse_linear(
    train::Model& model, const SemiSparseLinearConfig& config = {});

// torchao's autograd function of this name: x [rows, cols] float32 under the transposable 2:4 mask of |x|, tile by tile
// of 4 x 4; what the mask takes is exactly 0, what it leaves is unchanged. The gradient goes straight through. Rows and
// columns of a smaller tile at an edge keep at most two as well. Throws kInvalidArgument for another type or shape.
[[nodiscard]] torch::Tensor semi_structured_sparsify(const torch::Tensor& x);

// torchao's SemiSparseActivationLinear in the place of these linear layers (weights, names or globs; empty: all linear
// layers): what they read goes through semi_structured_sparsify, in evaluation as in training, and their weights stay
// as they are. It acts on training alone: a tile reaches over four images, so an answer depends on its neighbours in
// the batch, and no CPU has an instruction that would gain time by it. So swap back before evaluating, QAT or
// conversion; the model refuses QAT until then. No part of a checkpoint: swap again after loading one. In a recipe:
// sparse_activations, which swaps at the start of a stage and back at its end.
//
// Returns the weights of the layers that were swapped, in graph order. Throws as above, and kState after QAT was
// prepared.
std::vector<std::string> swap_linear_with_semi_sparse_activation_linear(train::Model& model,
                                                                        const SemiSparseLinearConfig& config = {});

// torchao's function of this name: takes the masks off every linear layer whose mask is a transposable 2:4 mask, so
// that it is trained densely on; other masks stay. The dense weights are those that stood underneath. Layers that read
// sparsified activations read plain ones again. Returns the weights of the layers that were swapped, in graph order. A
// sparsifier that made the masks is done with then.
std::vector<std::string> swap_semi_sparse_linear_with_linear(train::Model& model);

}  // namespace pare::sparsity
