// Optimizers and learning-rate schedules, as a recipe's stage names them.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pare/train/model.h"

namespace pare::train {

enum class OptimizerKind { kSgd, kAdam, kAdamW };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 1e-3;
  double weight_decay = 0.0;
  double momentum = 0.0;  // SGD
  bool nesterov = false;  // SGD
  double beta1 = 0.9;     // Adam, AdamW
  double beta2 = 0.999;
  double eps = 1e-8;
  // Throws kInvalidArgument.
  void validate() const;
};

// Over all parameters of the model; weight decay leaves biases and batch-norm parameters alone. The rules are
// torch::optim's SGD, Adam (Kingma and Ba, arXiv 1412.6980) and AdamW (Loshchilov and Hutter, arXiv 1711.05101), each
// in one pass over memory (torch::optim makes about ten, which is a tenth of a training step of `convnet`), with the
// same bits on every LibTorch. A parameter without a gradient is left alone. Throws kInvalidArgument as validate()
// does.
[[nodiscard]] std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Model& model,
                                                                      const OptimizerOptions& options);

// Drops the gradients, rather than filling them with zeros: the next backward pass then need not add to them.
void zero_grad(torch::optim::Optimizer& optimizer);

void set_learning_rate(torch::optim::Optimizer& optimizer, double lr);

// State (moments, step counts) as bytes, and back into an optimizer that was made alike; equal states give equal bytes.
// Learning rate and other options are not part of it. Throws kInvalidArgument for an optimizer that make_optimizer did
// not make, kCorruptData for bytes that are no such state or that of other parameters; the optimizer is unchanged then.
[[nodiscard]] std::string save_optimizer(const torch::optim::Optimizer& optimizer);
void load_optimizer(torch::optim::Optimizer& optimizer, const std::string& bytes);

enum class LrCurve { kConstant, kStep, kCosine };

struct LrSchedule {
  LrCurve curve = LrCurve::kConstant;
  std::int64_t warmup_steps = 0;   // linear from lr / warmup_steps
  double final_fraction = 0.0;     // kCosine: lr at the end, as a fraction
  std::vector<double> milestones;  // kStep: epochs at which lr is multiplied by gamma
  double gamma = 0.1;
  // Throws kInvalidArgument.
  void validate() const;
  // Learning rate for step `step` (from 0) of `total_steps`:
  //   warm-up    base_lr * (step + 1) / warmup_steps                              while step < warmup_steps
  //   constant   base_lr
  //   step       base_lr * gamma^m, m = milestones at or before step / steps_per_epoch
  //   cosine     base_lr * (f + (1 - f) * (1 + cos(pi * p)) / 2), f = final_fraction,
  //              p = (step - warmup_steps) / (total_steps - warmup_steps)
  [[nodiscard]] double at(double base_lr, std::int64_t step, std::int64_t total_steps,
                          std::int64_t steps_per_epoch) const;
};

}  // namespace pare::train
