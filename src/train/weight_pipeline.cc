#include "pare/train/weight_pipeline.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::train {
namespace {

// Elements that one thread takes at a time: below this a second thread costs more than it saves.
constexpr std::int64_t kGrainElems = 32768;

bool plain_floats(const torch::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == torch::kFloat32 && tensor.is_contiguous();
}

// where(mask, values, 0). A product would leave NaN where a masked weight is not finite, and -0 where it is negative.
torch::Tensor select_kept(const torch::Tensor& values, const torch::Tensor& mask) {
  if (!plain_floats(values) || !plain_floats(mask)) {
    return torch::where(mask != 0, values, torch::zeros({}, values.options()));
  }
  torch::Tensor kept = torch::empty_like(values);
  const float* const from = values.data_ptr<float>();
  const float* const keep = mask.data_ptr<float>();
  float* const to = kept.data_ptr<float>();
  at::parallel_for(0, values.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float value = from[i];  // loaded in any case, so that the loop is vectorized
      to[i] = keep[i] != 0.0F ? value : 0.0F;
    }
  });
  return kept;
}

// gradient + decay * (1 - mask) * dense
torch::Tensor add_decay_of_masked(const torch::Tensor& gradient, const torch::Tensor& mask, const torch::Tensor& dense,
                                  double decay) {
  const torch::Tensor decayed = gradient + decay * dense;
  return torch::where(mask != 0, gradient, decayed);
}

class ApplyMask : public torch::autograd::Function<ApplyMask> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& dense,
                               const torch::Tensor& mask, bool masked_gradient, double decay) {
    context->saved_data["masked_gradient"] = masked_gradient;
    context->saved_data["decay"] = decay;
    if (masked_gradient) {
      context->save_for_backward({mask});
    } else if (decay != 0.0) {
      context->save_for_backward({mask, dense});
    }
    return select_kept(dense, mask);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    torch::Tensor gradient = gradients.at(0);
    const double decay = context->saved_data["decay"].toDouble();
    if (context->saved_data["masked_gradient"].toBool()) {
      gradient = select_kept(gradient, context->get_saved_variables().at(0));
    } else if (decay != 0.0) {
      const torch::autograd::variable_list saved = context->get_saved_variables();
      gradient = add_decay_of_masked(gradient, saved.at(0), saved.at(1), decay);
    }
    return {gradient, torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

WeightPipeline::WeightPipeline(std::string fqn, torch::Tensor dense) : fqn_(std::move(fqn)), dense_(std::move(dense)) {
  PARE_CHECK(dense_.defined() && dense_.scalar_type() == torch::kFloat32);
}

void WeightPipeline::set_mask(const torch::Tensor& mask) {
  if (!mask.defined() || mask.sizes() != dense_.sizes()) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("mask of shape ", mask.defined() ? str_cat(mask.sizes()) : "(none)", " for a weight of shape ",
                        dense_.sizes()),
                fqn_, "a mask has one element for each weight");
  }
  const torch::NoGradGuard no_gradient;
  const torch::Tensor kept = mask != 0;
  if (!torch::equal(mask, kept.to(mask.scalar_type()))) {
    throw Error(ErrorCategory::kInvalidArgument, "mask with values other than 0 and 1", fqn_,
                "1 keeps a weight, 0 masks it");
  }
  mask_ = kept.to(dense_.options().requires_grad(false)).contiguous();
  changed();
}

void WeightPipeline::clear_mask() {
  mask_ = torch::Tensor();
  mask_gradient_ = MaskGradient::kStraightThrough;
  sr_ste_decay_ = 0.0;
  changed();
}

void WeightPipeline::set_mask_gradient(MaskGradient gradient) {
  mask_gradient_ = gradient;
  changed();
}

void WeightPipeline::set_sr_ste_decay(double decay) {
  if (!(decay >= 0.0) || !std::isfinite(decay)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("SR-STE decay of ", decay), fqn_,
                "it is a number from 0 upwards");
  }
  sr_ste_decay_ = decay;
  changed();
}

void WeightPipeline::set_fake_quantizer(std::shared_ptr<FakeQuantizer> quantizer) {
  quantizer_ = std::move(quantizer);
  changed();
}

torch::Tensor WeightPipeline::used() const {
  torch::Tensor weight = dense_;
  if (mask_.defined()) {
    weight = ApplyMask::apply(dense_, mask_, mask_gradient_ == MaskGradient::kMasked, sr_ste_decay_);
  }
  return quantizer_ == nullptr ? weight : quantizer_->forward(weight);
}

torch::Tensor WeightPipeline::masked() const {
  const torch::NoGradGuard no_gradient;
  return mask_.defined() ? select_kept(dense_.detach(), mask_) : dense_.detach();
}

torch::Tensor WeightPipeline::codes() const {
  PARE_CHECK(quantizer_ != nullptr);
  return quantizer_->quantize(masked());
}

void WeightPipeline::squash() {
  if (mask_.defined()) {
    const torch::NoGradGuard no_gradient;
    dense_.copy_(masked());
    clear_mask();
  }
}

void WeightPipeline::changed() const {
  if (listener_) {
    listener_();
  }
}

}  // namespace pare::train
