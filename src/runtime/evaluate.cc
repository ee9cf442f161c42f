#include "pare/runtime/evaluate.h"

#include <algorithm>
#include <cmath>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::runtime {

std::int64_t predicted_class(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

std::vector<double> probabilities(std::span<const float> logits) {
  std::vector<double> result(logits.begin(), logits.end());
  const double largest = *std::max_element(result.begin(), result.end());
  double sum = 0.0;
  for (double& number : result) {
    number = std::exp(number - largest);
    sum += number;
  }
  for (double& number : result) number /= sum;
  return result;
}

Evaluation evaluate(Session& session, std::span<const std::uint8_t> images, std::span<const std::uint8_t> labels) {
  constexpr std::size_t kImagesAtOnce = 1024;
  const auto elems = static_cast<std::size_t>(session.input_elems());
  const auto classes = static_cast<std::size_t>(session.classes());
  if (images.size() / elems != labels.size() || images.size() % elems != 0) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat(images.size(), " pixels are not ", labels.size(), " images of ", elems), "evaluate");
  }
  const auto outside = std::find_if(labels.begin(), labels.end(), [&](std::uint8_t label) { return label >= classes; });
  if (outside != labels.end()) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("label ", static_cast<int>(*outside), " of image ", outside - labels.begin(),
                        " lies outside the model's ", classes, " classes"),
                "evaluate", "the labels belong to another model or data set");
  }
  Evaluation result;
  result.confusion.assign(classes, std::vector<std::int64_t>(classes, 0));
  std::vector<float> logits;
  for (std::size_t begin = 0; begin < labels.size(); begin += kImagesAtOnce) {
    const std::size_t count = std::min(kImagesAtOnce, labels.size() - begin);
    logits.resize(count * classes);
    session.run(images.subspan(begin * elems, count * elems), static_cast<std::int64_t>(count), logits);
    for (std::size_t i = 0; i < count; ++i) {
      const auto predicted =
          static_cast<std::size_t>(predicted_class(std::span<const float>(logits).subspan(i * classes, classes)));
      const std::size_t label = labels[begin + i];
      ++result.samples;
      result.correct += predicted == label ? 1 : 0;
      ++result.confusion[label][predicted];
    }
  }
  return result;
}

}  // namespace pare::runtime
