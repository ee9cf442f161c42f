#include "pare/train/evaluate.h"

#include <algorithm>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::train {
Evaluation evaluate(Model& model, const Dataset& dataset, const Normalization& normalization, std::int64_t batch) {
  if (batch < 1 || dataset.size() < 1) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("batches of ", batch, " from ", dataset.size(), " images"),
                "evaluation", "both are at least 1");
  }
  const Mode mode(model, /*training=*/false);
  const torch::NoGradGuard no_gradient;
  std::int64_t correct = 0;
  double loss = 0.0;
  for (std::int64_t first = 0; first < dataset.size(); first += batch) {
    const std::int64_t count = std::min(batch, dataset.size() - first);
    const torch::Tensor images = normalize(dataset.images.narrow(0, first, count), normalization);
    const torch::Tensor labels = dataset.labels.narrow(0, first, count).to(model.device());
    const torch::Tensor logits = model.forward(images.to(model.device()));
    if (const auto largest = labels.max().item<std::int64_t>(); largest >= logits.size(1)) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("label ", largest, " for a model of ", logits.size(1), " classes"), "evaluation",
                  "model and data must agree on the classes");
    }
    if (!torch::isfinite(logits).all().item<bool>()) {
      throw Error(ErrorCategory::kNumeric, "the model computes NaN or infinite logits", "evaluation",
                  "a lower learning rate keeps training from diverging");
    }
    correct += (logits.argmax(1) == labels).sum().item<std::int64_t>();
    namespace F = torch::nn::functional;
    loss += F::cross_entropy(logits, labels, F::CrossEntropyFuncOptions().reduction(torch::kSum)).item<double>();
  }
  const auto samples = static_cast<double>(dataset.size());
  return {100.0 * static_cast<double>(correct) / samples, loss / samples, dataset.size()};
}

}  // namespace pare::train
