#include "pare/train/distillation.h"

#include <cmath>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::train {
namespace {

[[noreturn]] void fail(const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCategory::kInvalidArgument, problem, "distillation", remedy);
}

void require_alike(const torch::Tensor& ours, const torch::Tensor& teachers, const std::string& what) {
  if (ours.sizes() != teachers.sizes()) {
    fail(str_cat(what, " of the model have shape ", ours.sizes(), ", the teacher's ", teachers.sizes()),
         "take a teacher for the same classes, and layers that both have alike");
  }
}

}  // namespace

void DistillationOptions::validate() const {
  if (!(temperature > 0.0) || !std::isfinite(temperature)) {
    fail(str_cat("temperature ", temperature, " is impossible"), "it is above 0; 1 to 10 is common");
  }
  if (!(weight >= 0.0 && weight <= 1.0)) {
    fail(str_cat("weight ", weight, " is outside [0, 1]"), "it is the teacher's share of the loss");
  }
  if (!(layers_weight >= 0.0) || !std::isfinite(layers_weight)) {
    fail(str_cat("layers_weight ", layers_weight, " is impossible"), "it is 0 or above");
  }
}

torch::Tensor distillation_loss(Model& model, Model& teacher, const torch::Tensor& inputs, const torch::Tensor& labels,
                                const DistillationOptions& options) {
  namespace F = torch::nn::functional;
  std::vector<torch::Tensor> taught;
  torch::Tensor target;
  {
    const torch::NoGradGuard no_gradient;
    const Mode mode(teacher, /*training=*/false);
    target = teacher.forward(inputs, options.layers, taught);
  }
  std::vector<torch::Tensor> learned;
  const torch::Tensor logits = model.forward(inputs, options.layers, learned);
  require_alike(logits, target, "logits");
  torch::Tensor loss;
  if (options.weight > 0.0) {
    const double t = options.temperature;
    // kl_div takes log-probabilities of the model; batchmean is the mathematical mean over the batch.
    const torch::Tensor divergence = F::kl_div(torch::log_softmax(logits / t, 1), torch::softmax(target / t, 1),
                                               F::KLDivFuncOptions().reduction(torch::kBatchMean));
    loss = options.weight * t * t * divergence;
  }
  if (options.weight < 1.0) {
    const torch::Tensor by_labels = (1.0 - options.weight) * F::cross_entropy(logits, labels);
    loss = loss.defined() ? loss + by_labels : by_labels;
  }
  for (std::size_t i = 0; i < options.layers.size(); ++i) {
    require_alike(learned[i], taught[i], str_cat("outputs of '", options.layers[i], "'"));
    loss = loss + options.layers_weight * F::mse_loss(learned[i], taught[i]);
  }
  return loss;
}

}  // namespace pare::train
