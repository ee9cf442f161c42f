#include "pare/quant/scheme_fake_quantize.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/half.h"
#include "pare/quant/fused_loops.h"
#include "pare/quant/scheme.h"
#include "pare/quant/straight_through.h"

namespace pare::quant {
namespace {

// Elements that one thread takes at a time: below this a second thread costs more than it saves.
constexpr std::int64_t kGrainElems = 32768;

constexpr format::QuantRange kRowRange{-127, 127};

[[noreturn]] void throw_not_finite(const std::string& name) {
  throw Error(ErrorCategory::kNumeric, "NaN or infinity among the values to quantize", str_cat("'", name, "'"),
              "training has diverged or its data are not finite: lower the learning rate, look at the data");
}

void require_float32(const torch::Tensor& x, const std::string& name) {
  if (!x.defined() || x.scalar_type() != torch::kFloat32 || x.dim() < 1 || x.numel() == 0) {
    throw Error(ErrorCategory::kInvalidArgument, "only float32 that is not empty can be fake-quantized",
                str_cat("'", name, "'"));
  }
}

// False if any element is NaN or infinite.
bool largest_magnitude(const float* x, std::int64_t elems, float& largest) {
  float min = 0.0F;
  float max = 0.0F;
  const bool finite = min_max(x, elems, min, max);
  largest = std::max(max, -min);
  return finite;
}

class PassesWhere : public torch::autograd::Function<PassesWhere> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& /*x*/,
                               const torch::Tensor& result, const torch::Tensor& passes) {
    context->save_for_backward({passes});
    return result;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0) * context->get_saved_variables().at(0), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

RowFakeQuantizer::RowFakeQuantizer(std::string layer) : layer_(std::move(layer)) {
  fake_quant_enabled_ = register_buffer("fake_quant_enabled", torch::ones({1}, torch::kUInt8));
}

torch::Tensor RowFakeQuantizer::forward(const torch::Tensor& x) {
  require_float32(x, layer_);
  if (fake_quant_enabled_.item<std::uint8_t>() == 0) {
    return x;
  }
  torch::Tensor result;
  {
    const torch::NoGradGuard no_gradient;
    const torch::Tensor input = x.detach().to(torch::kCPU).contiguous();
    const std::int64_t k = input.size(-1);
    const std::int64_t rows = input.numel() / k;
    result = torch::empty_like(input);
    const float* const from = input.data_ptr<float>();
    float* const to = result.data_ptr<float>();
    std::atomic<bool> finite = true;
    at::parallel_for(0, rows, std::max<std::int64_t>(1, kGrainElems / k), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        float largest = 0.0F;
        if (!largest_magnitude(from + row * k, k, largest)) {
          finite = false;
          return;
        }
        const float scale = std::max(largest / 127.0F, format::kMinScale);
        (void)fake_quantize(from + row * k, to + row * k, k, QuantizeConstants({scale, 0}, kRowRange));
      }
    });
    if (!finite) {
      throw_not_finite(str_cat(layer_, ", its input"));
    }
    result = result.to(x.device());
  }
  return at::GradMode::is_enabled() && x.requires_grad() ? StraightThrough::apply(x, result) : result;
}

GroupFakeQuantizer::GroupFakeQuantizer(std::string fqn, std::int64_t n, std::int64_t k, std::int64_t group,
                                       format::Int4Scale rule)
    : fqn_(std::move(fqn)), k_(k), group_(group), rule_(rule) {
  LayerScheme{.activation = ActivationScheme::kDynamicInt8, .int4_group = group, .int4_scale = rule}.validate();
  PARE_CHECK(n > 0 && k > 0 && group > 0);
  scale_ = register_buffer("scale", torch::zeros({n, (k + group - 1) / group}, torch::kFloat32));
  observer_enabled_ = register_buffer("observer_enabled", torch::ones({1}, torch::kUInt8));
  fake_quant_enabled_ = register_buffer("fake_quant_enabled", torch::ones({1}, torch::kUInt8));
}

torch::Tensor GroupFakeQuantizer::run(const torch::Tensor& weight, Output output, torch::Tensor* passes) const {
  require_float32(weight, fqn_);
  if (weight.dim() != 2 || weight.size(0) != scale_.size(0) || weight.size(1) != k_) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("a weight of shape ", weight.sizes(), " for an int4 quantizer of ", scale_.size(0), " x ", k_),
                str_cat("'", fqn_, "'"));
  }
  const torch::NoGradGuard no_gradient;
  const torch::Tensor w = weight.detach().to(torch::kCPU).contiguous();
  const std::int64_t groups = scale_.size(1);
  const bool settles = observer_enabled_.item<std::uint8_t>() != 0;
  const torch::Tensor scales = scale_.detach().to(torch::kCPU, torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
  torch::Tensor result =
      torch::empty(w.sizes(), w.options().dtype(output == Output::kCodes ? torch::kFloat64 : torch::kFloat32));
  const float* const from = w.data_ptr<float>();
  float* const scale_at = scales.data_ptr<float>();
  std::atomic<bool> finite = true;
  std::atomic<bool> clips = false;
  const auto quantize_group = [&](std::int64_t row, std::int64_t number) {
    const std::int64_t first = row * k_ + number * group_;
    const std::int64_t elems = std::min(group_, k_ - number * group_);
    float largest = 0.0F;
    if (!largest_magnitude(from + first, elems, largest)) {
      finite = false;
      return;
    }
    float& scale = scale_at[row * groups + number];
    if (settles) {
      scale = format::float_from_half(format::int4_scale(largest, rule_));
    }
    const QuantizeConstants constants({scale == 0.0F ? 1.0F : scale, 0}, range());
    if (scale != 0.0F && !(largest * constants.reciprocal < static_cast<float>(range().qmax) + 0.5F)) {
      clips = true;
    }
    if (output == Output::kCodes) {
      double* const codes = result.data_ptr<double>() + first;
      if (scale == 0.0F) {
        std::fill_n(codes, elems, 0.0);
      } else {
        pare::quant::quantize(from + first, codes, elems, constants);
      }
      return;
    }
    float* const values = result.data_ptr<float>() + first;
    if (scale == 0.0F) {
      std::fill_n(values, elems, 0.0F);
    } else {
      (void)fake_quantize(from + first, values, elems, constants);
    }
  };
  at::parallel_for(0, w.size(0), std::max<std::int64_t>(1, kGrainElems / k_),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                       for (std::int64_t number = 0; number < groups; ++number) {
                         quantize_group(row, number);
                       }
                     }
                   });
  if (!finite) {
    throw_not_finite(fqn_);
  }
  scale_.copy_(scales);
  if (passes != nullptr && clips) {
    torch::Tensor ones = torch::ones_like(w);
    torch::Tensor bits = torch::empty_like(w);
    for (std::int64_t row = 0; row < w.size(0); ++row) {
      for (std::int64_t number = 0; number < groups; ++number) {
        const float scale = scale_at[row * groups + number];
        const std::int64_t first = row * k_ + number * group_;
        const GradientBounds bounds(scale == 0.0F ? 0.0F : 1.0F / scale, static_cast<float>(range().qmin),
                                    static_cast<float>(range().qmax));
        fake_quantize_gradient(from + first, ones.data_ptr<float>() + first, bits.data_ptr<float>() + first,
                               std::min(group_, k_ - number * group_), bounds);
      }
    }
    *passes = bits.to(weight.device());
  }
  return result.to(weight.device());
}

torch::Tensor GroupFakeQuantizer::forward(const torch::Tensor& weight) {
  if (fake_quant_enabled_.item<std::uint8_t>() == 0) {
    return weight;
  }
  const bool differentiable = at::GradMode::is_enabled() && weight.requires_grad();
  torch::Tensor passes;
  torch::Tensor result = run(weight, Output::kFakeQuantized, differentiable ? &passes : nullptr);
  if (!differentiable) {
    return result;
  }
  return passes.defined() ? PassesWhere::apply(weight, result, passes) : StraightThrough::apply(weight, result);
}

torch::Tensor GroupFakeQuantizer::quantize(const torch::Tensor& weight) const {
  return run(weight, Output::kCodes, nullptr);
}

}  // namespace pare::quant
