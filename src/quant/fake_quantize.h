// Fake-quantizers: float32 in, float32 out, with exactly the values that integer codes stand for (format/affine.h).
//
// Names of buffers, methods and their meaning are those of torch.ao.quantization's FakeQuantize, MinMaxObserver and
// MovingAverageMinMaxObserver. All state is in buffers, so a checkpoint of the model is complete.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>

#include "pare/format/affine.h"
#include "pare/train/fake_quantizer.h"

namespace pare::quant {

enum class ObserverKind {
  kMinMax,               // least and greatest value ever seen
  kMovingAverageMinMax,  // m += c * (batch's - m), from the first batch's own
  // Of a histogram of all values ever seen (range_search.h), so for calibration rather than training:
  kHistogram,   // torch.ao's HistogramObserver
  kPercentile,  // all but a fraction of the values
  kMse,         // the range that loses least in squared error
};
[[nodiscard]] constexpr bool keeps_histogram(ObserverKind kind) {
  return kind == ObserverKind::kHistogram || kind == ObserverKind::kPercentile || kind == ObserverKind::kMse;
}

struct ObserverOptions {
  ObserverKind kind = ObserverKind::kMovingAverageMinMax;
  double averaging_constant = 0.01;  // kMovingAverageMinMax, in (0, 1]: torch.ao's default
  double outside = 1e-4;             // kPercentile, in [0, 1): fraction of the values that may be clipped
  // Throws kInvalidArgument.
  void validate() const;
};

// format::fake_quantize element by element; the gradient is straight-through where
// format::fake_quantize_passes_gradient, else 0. float32, any shape and device; the result is a new tensor.
[[nodiscard]] torch::Tensor fake_quantize_per_tensor(const torch::Tensor& x, format::AffineParams params,
                                                     format::QuantRange range);

// What activations and weights have in common: buffers `scale`, `zero_point`, `min_val`, `max_val`, `observer_enabled`
// and `fake_quant_enabled`.
class FakeQuantizerBase : public train::FakeQuantizer {
 public:
  [[nodiscard]] torch::Tensor scale() const override { return scale_; }
  [[nodiscard]] std::int32_t zero_point() const override;
  [[nodiscard]] format::QuantRange range() const override { return range_; }
  [[nodiscard]] torch::Tensor min_val() const { return min_val_; }
  [[nodiscard]] torch::Tensor max_val() const { return max_val_; }

  void enable_fake_quant(bool enabled) override;
  [[nodiscard]] bool observer_enabled() const;
  [[nodiscard]] bool fake_quant_enabled() const;

 protected:
  // `name`: of the value or weight, for errors.
  FakeQuantizerBase(std::string name, std::int64_t channels, format::QuantRange range);
  [[nodiscard]] const std::string& quantized_name() const { return name_; }
  // Throws kNumeric: NaN or infinity was met.
  [[noreturn]] void throw_not_finite() const;
  // Throws kInvalidArgument for anything but float32.
  void check_input(const torch::Tensor& x) const;

  torch::Tensor scale_;               // float32 [channels]
  torch::Tensor zero_point_;          // int32 [1]
  torch::Tensor min_val_;             // float32 [channels], +inf before anything was seen
  torch::Tensor max_val_;             // float32 [channels], -inf before anything was seen
  torch::Tensor observer_enabled_;    // uint8 [1]
  torch::Tensor fake_quant_enabled_;  // uint8 [1]

 private:
  std::string name_;
  format::QuantRange range_;
};

// Of an activation: one scale and zero point, estimated from what passes through in training mode while the observer is
// enabled. forward() throws kNumeric where it meets NaN or infinity, and kState where nothing was observed yet and
// nothing is observed now. With a histogram (further buffers: `histogram`, `histogram_range`) min_val and max_val are
// the range that was chosen; it is searched for when it is needed: not while fake quantization is off and the observer
// is on.
class ActivationFakeQuantizer final : public FakeQuantizerBase {
 public:
  // Throws kInvalidArgument.
  ActivationFakeQuantizer(std::string value, const ObserverOptions& observer,
                          format::QuantRange range = format::kUint8Range);

  torch::Tensor forward(const torch::Tensor& x) override;
  // Throws kState before anything was observed.
  [[nodiscard]] torch::Tensor quantize(const torch::Tensor& x) const override;
  [[nodiscard]] int axis() const override { return -1; }
  void enable_observer(bool enabled) override;
  void enable_fake_quant(bool enabled) override;
  [[nodiscard]] bool calibrated() const override;
  // Throws kState before anything was observed.
  [[nodiscard]] format::AffineParams params() const;

  // Updates range, scale and zero point from x, whatever the mode. An empty x changes nothing.
  void observe(const torch::Tensor& x);

 private:
  void add_to_histogram(const torch::Tensor& x);
  void search_range();
  void set_range(float min, float max);

  ObserverOptions observer_;
  torch::Tensor histogram_;        // float32 [Histogram::kBins]
  torch::Tensor histogram_range_;  // float32 [2]
  bool searched_ = true;           // the range is that of the histogram
};

// Of a weight [channels, …]: zero point 0 and one scale per output channel, format::choose_qparams_symmetric of the
// least and the greatest value. Scales are no estimate: forward() and quantize() take them from the weight that they
// are given, in every mode, and leave them in scale(). So scale(), codes and fake-quantized weight always belong
// together, and nothing depends on what was seen before, until scales are held (below).
//
// A channel of zeros gets the scale of a channel whose greatest magnitude is 1. (torch.ao's is its epsilon; the bias is
// stored in multiples of input scale times weight scale, and 2^30 of so small a step may not reach it.)
//
// No weight ever leaves the range: |w| / scale <= 127 * (1 + 3 * 2^-24), which rounds to 127. So the straight-through
// gradient passes everywhere.
//
// enable_observer(false) holds the scales of the last weight seen, for one that was put on their grid (gptq.h); then
// the gradient passes within the range.
class WeightFakeQuantizer final : public FakeQuantizerBase {
 public:
  WeightFakeQuantizer(std::string fqn, std::int64_t channels, format::QuantRange range = format::kInt8WeightRange);

  // Both throw kNumeric where they meet NaN or infinity, and kInvalidArgument for another number of channels.
  torch::Tensor forward(const torch::Tensor& weight) override;
  [[nodiscard]] torch::Tensor quantize(const torch::Tensor& weight) const override;
  [[nodiscard]] int axis() const override { return 0; }
  void enable_observer(bool enabled) override;
  [[nodiscard]] bool calibrated() const override { return true; }

 private:
  enum class Output { kFakeQuantized, kCodes };
  [[nodiscard]] torch::Tensor run(const torch::Tensor& weight, Output output) const;
  void settle_channel(std::int64_t channel, float min, float max) const;
};

namespace internal {
// The arithmetic of fused_loops.h by tensor operations, for devices other than the CPU. reciprocal: 1 / scale, float32,
// broadcast against x. Returns q - zero_point.
[[nodiscard]] torch::Tensor rounded_by_tensor_ops(const torch::Tensor& x, const torch::Tensor& reciprocal, double lo,
                                                  double hi);
// 1 where the gradient passes, else 0; bool.
[[nodiscard]] torch::Tensor passes_by_tensor_ops(const torch::Tensor& x, const torch::Tensor& reciprocal, double lo,
                                                 double hi);
}  // namespace internal

}  // namespace pare::quant
