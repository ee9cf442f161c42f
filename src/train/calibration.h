// Inputs that stand for the data: what one-shot sparsifiers and post-training quantization look at.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>

#include "pare/train/model.h"

namespace pare::train {

struct CalibrationSet {
  std::int64_t batches = 0;
  // Batch `index` in [0, batches), as Model::forward takes it. Called several times for each, always with the same
  // result.
  std::function<torch::Tensor(std::int64_t index)> batch;
  // Called when a layer is done: `done` of `layers`. May be empty.
  std::function<void(std::int64_t done, std::int64_t layers)> progress;

  // Throws kInvalidArgument for a set without batches.
  void validate() const;
};

// The layer's inputs over the whole set, batch by batch, as the matrix [rows, k] that its weight multiplies
// (Model::layer_input), without gradients and in evaluation mode; the model's mode is restored. Throws kNumeric
// where they hold NaN or infinity, kInvalidArgument where all of them are 0, because then nothing tells weights apart.
void for_layer_inputs(Model& model, const std::string& tensor_fqn, const CalibrationSet& set,
                      const std::function<void(const torch::Tensor& rows)>& visit);

// X X^T of all of the layer's inputs X [k, rows]: float32 [k, k] on the CPU. Throws as for_layer_inputs does.
[[nodiscard]] torch::Tensor layer_hessian(Model& model, const std::string& tensor_fqn, const CalibrationSet& set);

}  // namespace pare::train
