// The interfaces through which train::Model quantizes a weight or an activation.
//
// Concrete ones live in quant/; train/ only knows where in the pipeline they stand.
#pragma once

#include <torch/torch.h>

#include "pare/format/affine.h"

namespace pare::train {

// A torch module, so that its buffers (scale, zero_point, min_val, max_val, observer_enabled, …) are part of the
// model's state_dict. Names of buffers and methods are torch.ao.quantization.FakeQuantize's.
class FakeQuantizer : public torch::nn::Module {
 public:
  // float32 in, float32 out, differentiable (straight-through within the range). In training mode with the observer
  // enabled it updates the range first.
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;

  // Integer codes of x as float64 (format::quantize, element by element), no gradient.
  [[nodiscard]] virtual torch::Tensor quantize(const torch::Tensor& x) const = 0;

  [[nodiscard]] virtual torch::Tensor scale() const = 0;      // float32, [1], [channels] or [channels, groups]
  [[nodiscard]] virtual std::int32_t zero_point() const = 0;  // one for all channels
  [[nodiscard]] virtual format::QuantRange range() const = 0;
  [[nodiscard]] virtual int axis() const = 0;  // -1: per tensor
  // Elements of a group along k, each with a scale of its own (format/int4.h); 0: one scale for all of a channel.
  [[nodiscard]] virtual std::int64_t group() const { return 0; }

  virtual void enable_observer(bool enabled) = 0;
  // Off: forward() observes, but hands x through.
  virtual void enable_fake_quant(bool enabled) = 0;
  // False until a range has been seen; converting then is an error.
  [[nodiscard]] virtual bool calibrated() const = 0;
};

// Quantizes what one layer reads, row by row as it comes. Nothing is estimated, so there is nothing to observe, to
// calibrate or to keep.
class RowQuantizer : public torch::nn::Module {
 public:
  // float32 [..., k] in and out, differentiable (straight-through).
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
  // Off: forward() hands x through.
  virtual void enable_fake_quant(bool enabled) = 0;
};

}  // namespace pare::train
