// Knowledge distillation: a loss that compares a model with a teacher.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "pare/train/model.h"

namespace pare::train {

struct DistillationOptions {
  double temperature = 4.0;  // of both softmaxes
  double weight = 0.5;       // of the logits' part, in [0, 1]; labels have the rest. 1: labels are not looked at
  // Nodes whose outputs are compared as well, by mean squared error. The networks must have them alike.
  std::vector<std::string> layers;
  double layers_weight = 1.0;
  // Throws kInvalidArgument.
  void validate() const;
};

// Hinton, Vinyals and Dean, arXiv 1503.02531:
//   (1 - weight) * cross_entropy(logits, labels)
//   + weight * T^2 * KL(softmax(teacher / T) || softmax(logits / T))           mean over the batch
//   + layers_weight * sum over layers of mean((output - teacher's output)^2)   (Romero et al., arXiv 1412.6550)
// The teacher runs without gradients in evaluation mode; its mode is restored. `inputs`: as Model::forward takes them,
// labels int64 [batch], both on the models' device. Returns the loss, differentiable with respect to the model.
// Throws kInvalidArgument where the two networks' logits or layers have different shapes, kNotFound for a layer that
// one of them lacks.
[[nodiscard]] torch::Tensor distillation_loss(Model& model, Model& teacher, const torch::Tensor& inputs,
                                              const torch::Tensor& labels, const DistillationOptions& options);

}  // namespace pare::train
