#include "pare/quant/learned_step.h"

#include <cmath>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::quant {
namespace {

constexpr double kMinStep = 0x1p-10;

// What scales multiply: [channels, elements].
torch::Tensor rows_of(const torch::Tensor& x, const torch::Tensor& scale) {
  return x.contiguous().view({scale.size(0), -1});
}

struct Bounds {
  double lo;
  double hi;
};
Bounds bounds_of(std::int32_t zero_point, format::QuantRange range) {
  return {static_cast<double>(range.qmin - zero_point), static_cast<double>(range.qmax - zero_point)};
}

torch::Tensor reciprocal_of(const torch::Tensor& scale) { return torch::ones_like(scale).div_(scale).view({-1, 1}); }

class LearnedStep : public torch::autograd::Function<LearnedStep> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& scale, Bounds bounds, double gradient_scale) {
    context->save_for_backward({x, scale});
    context->saved_data["lo"] = bounds.lo;
    context->saved_data["hi"] = bounds.hi;
    context->saved_data["gradient_scale"] = gradient_scale;
    const torch::Tensor rounded =
        internal::rounded_by_tensor_ops(rows_of(x, scale), reciprocal_of(scale), bounds.lo, bounds.hi);
    return (rounded * scale.view({-1, 1})).view(x.sizes());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor& scale = saved.at(1);
    const double lo = context->saved_data["lo"].toDouble();
    const double hi = context->saved_data["hi"].toDouble();
    const torch::Tensor rows = rows_of(saved.at(0), scale);
    const torch::Tensor grad_y = rows_of(gradients.at(0), scale);
    const torch::Tensor reciprocal = reciprocal_of(scale);
    const torch::Tensor passes = internal::passes_by_tensor_ops(rows, reciprocal, lo, hi);
    const torch::Tensor steps = rows * reciprocal;
    const torch::Tensor rounded = steps.round().clamp_(lo, hi);
    const torch::Tensor slope = torch::where(passes, rounded - steps, rounded);
    return {torch::where(passes, grad_y, torch::zeros({}, grad_y.options())).view(saved.at(0).sizes()),
            (grad_y * slope).sum(1) * context->saved_data["gradient_scale"].toDouble(), torch::Tensor(),
            torch::Tensor()};
  }
};

// start * step, with the gradient of SGD on the product itself.
class ScaleOfStep : public torch::autograd::Function<ScaleOfStep> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& step,
                               const torch::Tensor& start) {
    context->save_for_backward({start});
    return start * step;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0) / context->get_saved_variables().at(0), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor fake_quantize_learned(const torch::Tensor& x, const torch::Tensor& scale, std::int32_t zero_point,
                                    format::QuantRange range, double gradient_scale) {
  if (!torch::isfinite(x).all().item<bool>()) {
    throw Error(ErrorCategory::kNumeric, "NaN or infinity among the values to quantize", "fake_quantize_learned",
                "training has diverged or its data are not finite: lower the learning rate, look at the data");
  }
  return LearnedStep::apply(x, scale, bounds_of(zero_point, range), gradient_scale);
}

LearnedFakeQuantizer::LearnedFakeQuantizer(std::string name, Of of, std::int64_t channels, format::QuantRange range)
    : FakeQuantizerBase(std::move(name), channels, range), of_(of) {
  PARE_CHECK(of == Of::kWeight || channels == 1);
  step_ = register_parameter("step", torch::ones({channels}, torch::kFloat32));
}

void LearnedFakeQuantizer::require_channels(const torch::Tensor& x) const {
  check_input(x);
  if (x.numel() == 0 || (of_ == Of::kWeight && (x.dim() < 1 || x.size(0) != step_.size(0)))) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("values of shape ", x.sizes(), " for a quantizer of ", step_.size(0), " channels"),
                str_cat("'", quantized_name(), "'"));
  }
}

void LearnedFakeQuantizer::require_start() const {
  if (!calibrated()) {
    throw Error(ErrorCategory::kState, "its quantizer has seen no data, so it has no scale",
                str_cat("'", quantized_name(), "'"), "train at least one batch in training mode after prepare_qat");
  }
}

bool LearnedFakeQuantizer::calibrated() const { return (min_val_ <= max_val_).all().item<bool>(); }

void LearnedFakeQuantizer::enable_observer(bool enabled) { observer_enabled_.fill_(enabled ? 1 : 0); }

void LearnedFakeQuantizer::begin(const torch::Tensor& x) {
  require_channels(x);
  const torch::NoGradGuard no_gradient;
  const torch::Tensor rows = rows_of(x.detach(), step_);
  const torch::Tensor min = rows.amin(1);
  const torch::Tensor max = rows.amax(1);
  if (!(torch::isfinite(min) & torch::isfinite(max)).all().item<bool>()) {
    throw_not_finite();
  }
  min_val_.copy_(min);
  max_val_.copy_(max);
  if (of_ == Of::kActivation) {
    zero_point_.fill_(format::choose_qparams_affine(min.item<float>(), max.item<float>(), range()).zero_point);
  }
}

// By the scalar code that the other fake-quantizers use, from what begin() saw.
torch::Tensor LearnedFakeQuantizer::start() const {
  const torch::Tensor min = min_val_.cpu();
  const torch::Tensor max = max_val_.cpu();
  torch::Tensor scales = torch::empty_like(min);
  for (std::int64_t channel = 0; channel < min.size(0); ++channel) {
    const float lo = min.data_ptr<float>()[channel];
    const float hi = max.data_ptr<float>()[channel];
    const bool all_zero = lo == 0.0F && hi == 0.0F;
    const format::AffineParams params = of_ == Of::kActivation ? format::choose_qparams_affine(lo, hi, range())
                                        : all_zero             ? format::choose_qparams_symmetric(-1.0F, 1.0F, range())
                                                               : format::choose_qparams_symmetric(lo, hi, range());
    scales.data_ptr<float>()[channel] = params.scale;
  }
  return scales.to(step_.device());
}

torch::Tensor LearnedFakeQuantizer::scale() const {
  if (!calibrated()) {
    return scale_;
  }
  const torch::NoGradGuard no_gradient;
  const torch::Tensor scale = (start() * step_.clamp_min(kMinStep)).clamp_min_(format::kMinScale);
  torch::Tensor(scale_).copy_(scale);  // for whoever reads the state
  return scale;
}

torch::Tensor LearnedFakeQuantizer::forward(const torch::Tensor& x) {
  require_channels(x);
  if (is_training() && !calibrated()) {
    begin(x);
  }
  if (!fake_quant_enabled()) {
    return x;
  }
  require_start();
  if (is_training()) {
    step_.detach().clamp_min_(kMinStep);
  }
  const bool learns = at::GradMode::is_enabled() && observer_enabled();
  torch::Tensor scale = this->scale();
  if (learns) {
    // As scale() has it, and differentiable.
    scale = ScaleOfStep::apply(step_, start()).clamp_min(format::kMinScale);
  }
  const std::int64_t features = x.numel() / (of_ == Of::kWeight ? step_.size(0) : x.size(0));
  try {
    return fake_quantize_learned(x, scale, zero_point(), range(),
                                 1.0 / std::sqrt(static_cast<double>(features) * static_cast<double>(range().qmax)));
  } catch (const Error& error) {
    throw Error(error.category(), error.problem(), str_cat("'", quantized_name(), "'"), error.remedy());
  }
}

torch::Tensor LearnedFakeQuantizer::quantize(const torch::Tensor& x) const {
  require_channels(x);
  require_start();
  const torch::NoGradGuard no_gradient;
  const torch::Tensor values = x.detach();
  if (!torch::isfinite(values).all().item<bool>()) {
    throw_not_finite();
  }
  const torch::Tensor scale = this->scale();
  const Bounds bounds = bounds_of(zero_point(), range());
  const torch::Tensor rounded =
      internal::rounded_by_tensor_ops(rows_of(values, scale), reciprocal_of(scale), bounds.lo, bounds.hi);
  return (rounded.to(torch::kFloat64) + static_cast<double>(zero_point())).view(values.sizes());
}

}  // namespace pare::quant
