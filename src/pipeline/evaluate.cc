#include "pare/pipeline/evaluate.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/quant/exact.h"

namespace pare::pipeline {
namespace {

double percent(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

// Codes or logits of one slice, as the runtime holds them.
struct SliceValue {
  DType dtype = DType::kU8;
  Shape shape;
  std::vector<std::byte> bytes;
};
using SliceValues = std::map<std::string, SliceValue>;

SliceValue to_slice_value(const torch::Tensor& tensor) {
  SliceValue value;
  torch::Tensor plain = tensor.detach().to(torch::kCPU);
  if (plain.scalar_type() == torch::kFloat32) {
    value.dtype = DType::kF32;
  } else {
    // Codes outside uint8 must not wrap into codes that happen to agree.
    if ((plain != plain.clamp(0, 255).round()).any().item<bool>()) {
      throw Error(ErrorCategory::kVerification, "exact evaluation gave a code that is no uint8",
                  "quant::exact_forward");
    }
    plain = plain.to(torch::kUInt8);
  }
  plain = plain.contiguous();
  value.shape = plain.sizes().vec();
  const auto* data = static_cast<const std::byte*>(plain.data_ptr());
  value.bytes.assign(data, data + plain.nbytes());
  return value;
}

// Marks the images of a slice whose numbers differ; returns the first of them or -1.
std::int64_t mark_differences(const SliceValue& a, const SliceValue& b, std::vector<bool>& differs) {
  const auto count = static_cast<std::int64_t>(differs.size());
  if (a.dtype != b.dtype || a.shape != b.shape || a.bytes.size() != b.bytes.size()) {
    std::fill(differs.begin(), differs.end(), true);
    return 0;
  }
  const std::size_t image_bytes = a.bytes.size() / differs.size();
  std::int64_t first = -1;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto offset = static_cast<std::size_t>(i) * image_bytes;
    if (std::memcmp(a.bytes.data() + offset, b.bytes.data() + offset, image_bytes) != 0) {
      differs[static_cast<std::size_t>(i)] = true;
      first = first < 0 ? i : first;
    }
  }
  return first;
}

// Compares slices of a session's taps with those of the exact evaluation.
class Comparison {
 public:
  Comparison(runtime::Session& session, train::Model& model, const train::Normalization& normalization)
      : session_(session), model_(model), normalization_(normalization) {
    session_.set_tap([this](const runtime::Tap& tap) {
      SliceValue value;
      value.dtype = tap.dtype;
      value.shape = tap.shape;
      value.bytes.assign(tap.bytes.begin(), tap.bytes.end());
      from_session_[tap.value] = std::move(value);
    });
  }
  ~Comparison() { session_.set_tap({}); }
  Comparison(const Comparison&) = delete;
  Comparison& operator=(const Comparison&) = delete;

  // After the session has run this slice.
  void compare(const torch::Tensor& images, std::int64_t begin, RuntimeEvaluation& result) {
    std::vector<bool> differs(static_cast<std::size_t>(images.size(0)), false);
    const auto tap = [&](const std::string& name, const torch::Tensor& codes) {
      const auto found = from_session_.find(name);
      if (found == from_session_.end()) {
        return;
      }
      compared_.insert(name);
      const std::int64_t first = mark_differences(to_slice_value(codes), found->second, differs);
      if (first >= 0 && result.first_mismatch.empty()) {
        result.first_mismatch = str_cat("value '", name, "' of image ", begin + first);
      }
    };
    const torch::Tensor normalized = train::normalize(images, normalization_).to(model_.device());
    static_cast<void>(quant::exact_forward(model_, normalized, tap));
    result.mismatches += std::count(differs.begin(), differs.end(), true);
    from_session_.clear();
  }

  [[nodiscard]] const std::set<std::string>& compared() const { return compared_; }

 private:
  runtime::Session& session_;
  train::Model& model_;
  const train::Normalization& normalization_;
  SliceValues from_session_;
  std::set<std::string> compared_;
};

RuntimeEvaluation run_slices(runtime::Session& session, const train::Dataset& dataset, Comparison* comparison,
                             const EvaluationProgress& progress) {
  const std::int64_t classes = session.classes();
  RuntimeEvaluation result;
  result.samples = dataset.size();
  result.confusion.assign(static_cast<std::size_t>(classes),
                          std::vector<std::int64_t>(static_cast<std::size_t>(classes), 0));
  std::vector<float> logits(static_cast<std::size_t>(kEvaluationBatch * classes));
  std::int64_t correct = 0;
  for (std::int64_t begin = 0; begin < dataset.size(); begin += kEvaluationBatch) {
    const std::int64_t count = std::min(kEvaluationBatch, dataset.size() - begin);
    const torch::Tensor images = dataset.images.narrow(0, begin, count).contiguous();
    const torch::Tensor labels = dataset.labels.narrow(0, begin, count).contiguous();
    session.run(
        std::span<const std::uint8_t>(images.data_ptr<std::uint8_t>(), static_cast<std::size_t>(images.numel())), count,
        std::span<float>(logits.data(), static_cast<std::size_t>(count * classes)));
    for (std::int64_t i = 0; i < count; ++i) {
      const float* row = logits.data() + i * classes;
      const std::int64_t predicted = std::max_element(row, row + classes) - row;
      const std::int64_t truth = labels.data_ptr<std::int64_t>()[i];
      if (truth < 0 || truth >= classes) {
        throw Error(ErrorCategory::kInvalidArgument,
                    str_cat("image ", begin + i, " has label ", truth, "; the artifact knows ", classes, " classes"));
      }
      ++result.confusion[static_cast<std::size_t>(truth)][static_cast<std::size_t>(predicted)];
      correct += predicted == truth ? 1 : 0;
    }
    if (comparison != nullptr) {
      comparison->compare(images, begin, result);
    }
    if (progress) {
      progress(begin + count);
    }
  }
  result.accuracy = percent(correct, result.samples);
  return result;
}

}  // namespace

train::Evaluation evaluate_model(train::Model& model, const train::Dataset& dataset,
                                 const train::Normalization& normalization) {
  if (model.qat_state() == train::QatState::kNone) {
    return train::evaluate(model, dataset, normalization);
  }
  const torch::NoGradGuard no_gradient;
  train::Evaluation result;
  result.samples = dataset.size();
  double loss_sum = 0.0;
  std::int64_t correct = 0;
  for (std::int64_t begin = 0; begin < dataset.size(); begin += kEvaluationBatch) {
    const std::int64_t count = std::min(kEvaluationBatch, dataset.size() - begin);
    const torch::Tensor inputs =
        train::normalize(dataset.images.narrow(0, begin, count), normalization).to(model.device());
    const torch::Tensor logits = quant::exact_forward(model, inputs);
    if (!torch::isfinite(logits).all().item<bool>()) {
      throw Error(ErrorCategory::kNumeric, "the network gives logits that are not finite", "evaluation",
                  "lower the learning rate");
    }
    const torch::Tensor labels = dataset.labels.narrow(0, begin, count);
    correct += (logits.argmax(1) == labels).sum().item<std::int64_t>();
    loss_sum += torch::nn::functional::cross_entropy(
                    logits, labels, torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum))
                    .item<double>();
  }
  result.accuracy = percent(correct, result.samples);
  result.loss = loss_sum / static_cast<double>(std::max<std::int64_t>(1, result.samples));
  return result;
}

RuntimeEvaluation evaluate_session(runtime::Session& session, const train::Dataset& dataset,
                                   const EvaluationProgress& progress) {
  return run_slices(session, dataset, nullptr, progress);
}

RuntimeEvaluation compare_with_model(runtime::Session& session, train::Model& model, const train::Dataset& dataset,
                                     const train::Normalization& normalization,
                                     const std::vector<std::string>& must_compare, const EvaluationProgress& progress) {
  const torch::NoGradGuard no_gradient;
  Comparison comparison(session, model, normalization);
  RuntimeEvaluation result = run_slices(session, dataset, &comparison, progress);
  result.compared.assign(comparison.compared().begin(), comparison.compared().end());
  for (const std::string& name : must_compare) {
    if (dataset.size() > 0 && !comparison.compared().contains(name)) {
      throw Error(ErrorCategory::kVerification,
                  str_cat("value '", name, "' was not seen on both sides, so it could not be compared"),
                  "runtime against QAT");
    }
  }
  return result;
}

}  // namespace pare::pipeline
