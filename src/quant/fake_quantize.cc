#include "pare/quant/fake_quantize.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/quant/fused_loops.h"
#include "pare/quant/range_search.h"
#include "pare/quant/straight_through.h"

namespace pare::quant {
namespace {

// Elements that one thread takes at a time: below this a second thread costs more than it saves.
constexpr std::int64_t kGrainElems = 32768;

struct Extremes {
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();
  bool finite = true;
};

// A tensor whose elements fill its memory without gaps, in whatever order: elementwise loops need no more.
torch::Tensor dense_in_memory(const torch::Tensor& x) { return x.is_non_overlapping_and_dense() ? x : x.contiguous(); }

// Precondition: not empty.
Extremes extremes_of(const torch::Tensor& tensor) {
  const torch::Tensor x = dense_in_memory(tensor.detach());
  Extremes all;
  if (!x.is_cpu()) {
    const auto [min, max] = torch::aminmax(x);
    all.min = min.item<float>();
    all.max = max.item<float>();
    all.finite = std::isfinite(all.min) && std::isfinite(all.max);
    return all;
  }
  const float* const data = x.data_ptr<float>();
  std::mutex mutex;
  at::parallel_for(0, x.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
    Extremes part;
    part.finite = min_max(data + begin, end - begin, part.min, part.max);
    const std::lock_guard<std::mutex> lock(mutex);
    all.min = std::min(all.min, part.min);
    all.max = std::max(all.max, part.max);
    all.finite = all.finite && part.finite;
  });
  return all;
}

struct FakeQuantized {
  torch::Tensor y;
  bool finite = true;
};

FakeQuantized fake_quantize_values(const torch::Tensor& tensor, const QuantizeConstants& constants) {
  const torch::Tensor x = dense_in_memory(tensor.detach());
  if (!x.is_cpu()) {
    const torch::Tensor reciprocal = torch::tensor(constants.reciprocal);
    torch::Tensor y = internal::rounded_by_tensor_ops(x, reciprocal, constants.lo, constants.hi) *
                      static_cast<double>(constants.scale);
    return {std::move(y), torch::isfinite(x).all().item<bool>()};
  }
  torch::Tensor y = torch::empty_like(x);
  const float* const from = x.data_ptr<float>();
  float* const to = y.data_ptr<float>();
  std::atomic<bool> finite = true;
  at::parallel_for(0, x.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
    if (!fake_quantize(from + begin, to + begin, end - begin, constants)) {
      finite = false;
    }
  });
  return {std::move(y), finite};
}

class StraightThroughWithinRange : public torch::autograd::Function<StraightThroughWithinRange> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const QuantizeConstants& constants, bool* finite) {
    context->save_for_backward({x});
    context->saved_data["reciprocal"] = static_cast<double>(constants.reciprocal);
    context->saved_data["lo"] = static_cast<double>(constants.lo);
    context->saved_data["hi"] = static_cast<double>(constants.hi);
    FakeQuantized result = fake_quantize_values(x, constants);
    *finite = result.finite;
    return std::move(result.y);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::Tensor x = dense_in_memory(context->get_saved_variables().at(0));
    torch::Tensor grad_y = gradients.at(0);
    const double reciprocal = context->saved_data["reciprocal"].toDouble();
    const double lo = context->saved_data["lo"].toDouble();
    const double hi = context->saved_data["hi"].toDouble();
    if (!x.is_cpu() || grad_y.scalar_type() != torch::kFloat32) {
      const torch::Tensor passes =
          internal::passes_by_tensor_ops(x, torch::tensor(static_cast<float>(reciprocal)), lo, hi);
      return {torch::where(passes, grad_y, torch::zeros({}, grad_y.options())), torch::Tensor(), torch::Tensor()};
    }
    if (grad_y.strides() != x.strides()) {
      grad_y = torch::empty_like(x).copy_(grad_y);
    }
    torch::Tensor grad_x = torch::empty_like(x);
    const float* const values = x.data_ptr<float>();
    const float* const from = grad_y.data_ptr<float>();
    float* const to = grad_x.data_ptr<float>();
    const GradientBounds bounds(static_cast<float>(reciprocal), static_cast<float>(lo), static_cast<float>(hi));
    at::parallel_for(0, x.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
      fake_quantize_gradient(values + begin, from + begin, to + begin, end - begin, bounds);
    });
    return {grad_x, torch::Tensor(), torch::Tensor()};
  }
};

torch::Tensor fake_quantize_differentiably(const torch::Tensor& x, const QuantizeConstants& constants, bool* finite) {
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    return StraightThroughWithinRange::apply(x, constants, finite);
  }
  FakeQuantized result = fake_quantize_values(x, constants);
  *finite = result.finite;
  return std::move(result.y);
}

// Of an activation's two buffers, which may live on another device.
Histogram histogram_of(const torch::Tensor& counts, const torch::Tensor& range) {
  const torch::Tensor bins = counts.cpu();
  const torch::Tensor ends = range.cpu();
  const float* const first = bins.data_ptr<float>();
  return {{ends[0].item<float>(), ends[1].item<float>()}, std::vector<float>(first, first + Histogram::kBins)};
}

}  // namespace

namespace internal {

torch::Tensor rounded_by_tensor_ops(const torch::Tensor& x, const torch::Tensor& reciprocal, double lo, double hi) {
  const torch::Tensor scaled = x * reciprocal;
  const torch::Tensor clamped = torch::where(torch::isnan(scaled), torch::zeros_like(scaled), scaled.clamp(lo, hi));
  return clamped.round() + 0.0;  // + 0 makes a negative zero positive
}

torch::Tensor passes_by_tensor_ops(const torch::Tensor& x, const torch::Tensor& reciprocal, double lo, double hi) {
  const torch::Tensor rounded = (x * reciprocal).round();
  return (rounded >= lo) & (rounded <= hi);
}

}  // namespace internal

torch::Tensor fake_quantize_per_tensor(const torch::Tensor& x, format::AffineParams params, format::QuantRange range) {
  bool finite = true;
  return fake_quantize_differentiably(x, QuantizeConstants(params, range), &finite);
}

FakeQuantizerBase::FakeQuantizerBase(std::string name, std::int64_t channels, format::QuantRange range)
    : name_(std::move(name)), range_(range) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  scale_ = register_buffer("scale", torch::ones({channels}, torch::kFloat32));
  zero_point_ = register_buffer("zero_point", torch::zeros({1}, torch::kInt32));
  min_val_ = register_buffer("min_val", torch::full({channels}, kInfinity, torch::kFloat32));
  max_val_ = register_buffer("max_val", torch::full({channels}, -kInfinity, torch::kFloat32));
  observer_enabled_ = register_buffer("observer_enabled", torch::ones({1}, torch::kUInt8));
  fake_quant_enabled_ = register_buffer("fake_quant_enabled", torch::ones({1}, torch::kUInt8));
}

std::int32_t FakeQuantizerBase::zero_point() const { return zero_point_.item<std::int32_t>(); }

void FakeQuantizerBase::enable_fake_quant(bool enabled) { fake_quant_enabled_.fill_(enabled ? 1 : 0); }

bool FakeQuantizerBase::observer_enabled() const { return observer_enabled_.item<std::uint8_t>() != 0; }

bool FakeQuantizerBase::fake_quant_enabled() const { return fake_quant_enabled_.item<std::uint8_t>() != 0; }

void FakeQuantizerBase::throw_not_finite() const {
  throw Error(ErrorCategory::kNumeric, "NaN or infinity among the values to quantize", str_cat("'", name_, "'"),
              "training has diverged or its data are not finite: lower the learning rate, look at the data");
}

void FakeQuantizerBase::check_input(const torch::Tensor& x) const {
  if (!x.defined() || x.scalar_type() != torch::kFloat32) {
    throw Error(ErrorCategory::kInvalidArgument, "only float32 can be fake-quantized", str_cat("'", name_, "'"));
  }
}

void ObserverOptions::validate() const {
  if (!(averaging_constant > 0.0 && averaging_constant <= 1.0)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("averaging_constant = ", averaging_constant), "observer",
                "it must lie in (0, 1]; torch.ao's is 0.01");
  }
  if (!(outside >= 0.0 && outside < 1.0)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("outside = ", outside), "observer",
                "it is a fraction of the values, such as 1e-4");
  }
}

ActivationFakeQuantizer::ActivationFakeQuantizer(std::string value, const ObserverOptions& observer,
                                                 format::QuantRange range)
    : FakeQuantizerBase(std::move(value), 1, range), observer_(observer) {
  observer_.validate();
  if (keeps_histogram(observer_.kind)) {
    histogram_ = register_buffer("histogram", torch::zeros({Histogram::kBins}, torch::kFloat32));
    histogram_range_ = register_buffer("histogram_range", torch::zeros({2}, torch::kFloat32));
  }
}

void ActivationFakeQuantizer::enable_observer(bool enabled) {
  observer_enabled_.fill_(enabled ? 1 : 0);
  if (!enabled) {
    search_range();
  }
}

void ActivationFakeQuantizer::enable_fake_quant(bool enabled) {
  FakeQuantizerBase::enable_fake_quant(enabled);
  if (enabled) {
    search_range();
  }
}

void ActivationFakeQuantizer::add_to_histogram(const torch::Tensor& x) {
  const torch::Tensor values = x.detach().cpu().contiguous();
  Histogram histogram = calibrated() ? histogram_of(histogram_, histogram_range_) : Histogram();
  histogram.add(values.data_ptr<float>(), values.numel());
  histogram_.copy_(torch::tensor(histogram.counts()));
  histogram_range_.copy_(torch::tensor({histogram.range().min, histogram.range().max}));
  min_val_.fill_(histogram.range().min);
  max_val_.fill_(histogram.range().max);
  searched_ = false;
}

void ActivationFakeQuantizer::search_range() {
  if (searched_) {
    return;
  }
  const Histogram histogram = histogram_of(histogram_, histogram_range_);
  const ValueRange found = observer_.kind == ObserverKind::kHistogram ? search_least_error_inwards(histogram)
                           : observer_.kind == ObserverKind::kPercentile
                               ? search_percentile(histogram, observer_.outside)
                               : search_least_squares(histogram, this->range());
  set_range(found.min, found.max);
  searched_ = true;
}

void ActivationFakeQuantizer::set_range(float min, float max) {
  const format::AffineParams params = format::choose_qparams_affine(min, max, range());
  if (!std::isfinite(min) || !std::isfinite(max) || !std::isfinite(params.scale)) {
    throw_not_finite();
  }
  min_val_.fill_(min);
  max_val_.fill_(max);
  scale_.fill_(params.scale);
  zero_point_.fill_(params.zero_point);
}

bool ActivationFakeQuantizer::calibrated() const { return min_val_.item<float>() <= max_val_.item<float>(); }

format::AffineParams ActivationFakeQuantizer::params() const {
  if (!calibrated()) {
    throw Error(ErrorCategory::kState, "its quantizer has seen no data, so it has no scale",
                str_cat("'", quantized_name(), "'"),
                "train in QAT, or run some batches in training mode with the observer enabled");
  }
  return {scale_.item<float>(), zero_point()};
}

void ActivationFakeQuantizer::observe(const torch::Tensor& x) {
  check_input(x);
  if (x.numel() == 0) {
    return;
  }
  const Extremes batch = extremes_of(x);
  if (!batch.finite) {
    throw_not_finite();
  }
  if (keeps_histogram(observer_.kind)) {
    add_to_histogram(x);
    if (fake_quant_enabled()) {
      search_range();
    }
    return;
  }
  float min = batch.min;
  float max = batch.max;
  if (calibrated()) {
    const float old_min = min_val_.item<float>();
    const float old_max = max_val_.item<float>();
    if (observer_.kind == ObserverKind::kMinMax) {
      min = std::min(min, old_min);
      max = std::max(max, old_max);
    } else {
      const auto constant = static_cast<float>(observer_.averaging_constant);
      min = old_min + constant * (min - old_min);
      max = old_max + constant * (max - old_max);
    }
  }
  set_range(min, max);
}

torch::Tensor ActivationFakeQuantizer::forward(const torch::Tensor& x) {
  check_input(x);
  if (is_training() && observer_enabled()) {
    observe(x);
  }
  if (!fake_quant_enabled()) {
    return x;
  }
  bool finite = true;
  torch::Tensor y = fake_quantize_differentiably(x, QuantizeConstants(params(), range()), &finite);
  if (!finite) {
    throw_not_finite();
  }
  return y;
}

torch::Tensor ActivationFakeQuantizer::quantize(const torch::Tensor& x) const {
  check_input(x);
  const torch::NoGradGuard no_gradient;
  const QuantizeConstants constants(params(), range());
  const torch::Tensor values = dense_in_memory(x.detach());
  if (!values.is_cpu()) {
    const torch::Tensor rounded =
        internal::rounded_by_tensor_ops(values, torch::tensor(constants.reciprocal), constants.lo, constants.hi);
    return rounded.to(torch::kFloat64) + static_cast<double>(constants.zero_point);
  }
  torch::Tensor codes = torch::empty_like(values, values.options().dtype(torch::kFloat64));
  const float* const from = values.data_ptr<float>();
  double* const to = codes.data_ptr<double>();
  at::parallel_for(0, values.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
    pare::quant::quantize(from + begin, to + begin, end - begin, constants);
  });
  return codes;
}

WeightFakeQuantizer::WeightFakeQuantizer(std::string fqn, std::int64_t channels, format::QuantRange range)
    : FakeQuantizerBase(std::move(fqn), channels, range) {}

void WeightFakeQuantizer::enable_observer(bool enabled) { observer_enabled_.fill_(enabled ? 1 : 0); }

// Writes through the buffers' memory, which is the cache of what forward() and quantize() saw last. Buffers on the CPU.
void WeightFakeQuantizer::settle_channel(std::int64_t channel, float min, float max) const {
  const bool all_zero = min == 0.0F && max == 0.0F;
  const format::AffineParams params = all_zero ? format::choose_qparams_symmetric(-1.0F, 1.0F, range())
                                               : format::choose_qparams_symmetric(min, max, range());
  min_val_.data_ptr<float>()[channel] = min;
  max_val_.data_ptr<float>()[channel] = max;
  scale_.data_ptr<float>()[channel] = params.scale;
}

torch::Tensor WeightFakeQuantizer::run(const torch::Tensor& weight, Output output) const {
  check_input(weight);
  if (weight.dim() < 1 || weight.size(0) != scale_.size(0) || weight.numel() == 0) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("a weight of shape ", weight.sizes(), " for a quantizer of ", scale_.size(0), " channels"),
                str_cat("'", quantized_name(), "'"));
  }
  const torch::NoGradGuard no_gradient;
  const torch::Tensor w = weight.detach().contiguous();
  const std::int64_t channels = w.size(0);
  const std::int64_t row_elems = w.numel() / channels;
  const bool settles = observer_enabled();
  const auto lo = static_cast<float>(range().qmin);
  const auto hi = static_cast<float>(range().qmax);
  if (!w.is_cpu()) {
    const torch::Tensor rows = w.view({channels, row_elems});
    const torch::Tensor min = rows.amin(1);
    const torch::Tensor max = rows.amax(1);
    if (!(torch::isfinite(min) & torch::isfinite(max)).all().item<bool>()) {
      throw_not_finite();
    }
    if (settles) {
      // Scales by the same scalar code as on the CPU: some devices divide less exactly.
      WeightFakeQuantizer host(quantized_name(), channels, range());
      const torch::Tensor host_min = min.cpu();
      const torch::Tensor host_max = max.cpu();
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        host.settle_channel(channel, host_min.data_ptr<float>()[channel], host_max.data_ptr<float>()[channel]);
      }
      min_val_.copy_(min);
      max_val_.copy_(max);
      scale_.copy_(host.scale_);
    }
    const torch::Tensor host_scale = scale_.cpu();
    const torch::Tensor reciprocal = torch::ones_like(host_scale).div_(host_scale).to(w.device()).view({-1, 1});
    const torch::Tensor rounded = internal::rounded_by_tensor_ops(rows, reciprocal, lo, hi);
    return (output == Output::kCodes ? rounded.to(torch::kFloat64) : rounded * scale_.view({-1, 1})).view_as(w);
  }
  torch::Tensor result =
      torch::empty(w.sizes(), w.options().dtype(output == Output::kCodes ? torch::kFloat64 : torch::kFloat32));
  const float* const from = w.data_ptr<float>();
  std::atomic<bool> finite = true;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrainElems / row_elems);
  at::parallel_for(0, channels, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t channel = begin; channel < end; ++channel) {
      const float* const row = from + channel * row_elems;
      float min = 0.0F;
      float max = 0.0F;
      if (!min_max(row, row_elems, min, max)) {
        finite = false;
        return;
      }
      if (settles) {
        settle_channel(channel, min, max);
      }
      const QuantizeConstants constants({scale_.data_ptr<float>()[channel], 0}, range());
      if (output == Output::kCodes) {
        pare::quant::quantize(row, result.data_ptr<double>() + channel * row_elems, row_elems, constants);
      } else {
        fake_quantize(row, result.data_ptr<float>() + channel * row_elems, row_elems, constants);
      }
    }
  });
  if (!finite) {
    throw_not_finite();
  }
  return result;
}

torch::Tensor WeightFakeQuantizer::forward(const torch::Tensor& weight) {
  if (!fake_quant_enabled()) {
    return weight;
  }
  torch::Tensor result = run(weight, Output::kFakeQuantized);
  if (at::GradMode::is_enabled() && weight.requires_grad()) {
    if (!observer_enabled()) {
      const torch::Tensor rows = weight.detach().flatten(1);
      const torch::Tensor passes =
          internal::passes_by_tensor_ops(rows, torch::ones_like(scale_).div_(scale_).view({-1, 1}),
                                         static_cast<double>(range().qmin), static_cast<double>(range().qmax));
      return StraightThrough::apply(torch::where(passes.view_as(weight), weight, weight.detach()), result);
    }
    return StraightThrough::apply(weight, result);
  }
  return result;
}

torch::Tensor WeightFakeQuantizer::quantize(const torch::Tensor& weight) const { return run(weight, Output::kCodes); }

}  // namespace pare::quant
