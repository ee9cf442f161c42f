// LSQ, learned step size quantization (Esser et al., arXiv 1902.08153): scales are parameters and train with the
// weights.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>

#include "pare/format/affine.h"
#include "pare/quant/fake_quantize.h"

namespace pare::quant {

// y = s * clamp(rint(x * (1 / s)), lo, hi) with lo = qmin - zero_point and hi = qmax - zero_point:
// format::fake_quantize element by element. scale: float32 [channels], one for each x[c], or [1] for all of x.
//
// Gradients are the paper's (section 2, eq. 3): of x straight-through where rint(x / s) lies within [lo, hi], else 0;
// of s, times `gradient_scale` and summed over all that share it,
//
//   dy/ds = rint(x / s) - x / s within the range,  lo below it,  hi above it
//
// Throws kNumeric where x holds NaN or infinity. Precondition: scales are positive, x.size(0) is their number or that
// is 1.
[[nodiscard]] torch::Tensor fake_quantize_learned(const torch::Tensor& x, const torch::Tensor& scale,
                                                  std::int32_t zero_point, format::QuantRange range,
                                                  double gradient_scale);

// A weight's or an activation's fake-quantizer whose scale trains: a parameter `step`, float32 [channels], and
//
//   scale = start * step        start: of the range seen at the start (buffers min_val and max_val), step: 1 at first
//
// So a step of an optimizer that normalizes gradients, as Adam does, changes a scale by its learning rate as a
// fraction, whatever the scale's size. The gradient that `step` gets is the scale's divided by `start`: then SGD moves
// the scale itself exactly as the paper's update has it. It is multiplied by the paper's 1 / sqrt(N * qmax), N the
// number of weights with this scale, or of an activation's features. A step stays above 2^-10.
//
// Of a weight [channels, ...]: one scale a channel, zero point 0; begin() takes the start from the weight as
// WeightFakeQuantizer would have it. Of an activation: one scale and an integer zero point, which does not move, from
// the first batch in training mode. (The paper's start, 2 <|v|> / sqrt(qmax), is meant for 2 to 4 bits; at 8 it is some
// four times as coarse as the largest value needs.) Both in place of torch.ao's _LearnableFakeQuantize, whose zero
// points are real numbers.
//
// forward() throws kNumeric where it meets NaN or infinity; forward() in evaluation mode and quantize() throw kState
// before there is a start.
class LearnedFakeQuantizer final : public FakeQuantizerBase {
 public:
  enum class Of { kWeight, kActivation };
  // `name`: of the value or weight, for errors. channels: 1 of an activation.
  LearnedFakeQuantizer(std::string name, Of of, std::int64_t channels, format::QuantRange range);

  // Takes the start from x. Throws kNumeric for NaN or infinity, kInvalidArgument for another number of channels.
  void begin(const torch::Tensor& x);

  torch::Tensor forward(const torch::Tensor& x) override;
  [[nodiscard]] torch::Tensor quantize(const torch::Tensor& x) const override;
  [[nodiscard]] torch::Tensor scale() const override;
  [[nodiscard]] int axis() const override { return of_ == Of::kWeight ? 0 : -1; }
  // Off: the step gets no gradient.
  void enable_observer(bool enabled) override;
  // There is a start.
  [[nodiscard]] bool calibrated() const override;
  [[nodiscard]] const torch::Tensor& step() const { return step_; }

 private:
  [[nodiscard]] torch::Tensor start() const;
  void require_start() const;
  void require_channels(const torch::Tensor& x) const;

  Of of_;
  torch::Tensor step_;
};

}  // namespace pare::quant
