// Fake-quantizers of the dynamic and the int4 schemes (scheme.h). As those of fake_quantize.h: float32 in, float32 out,
// with exactly the values that codes stand for.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>

#include "pare/format/int4.h"
#include "pare/train/fake_quantizer.h"

namespace pare::quant {

// Rows of what a layer reads, each by its own largest magnitude (symmetric per token, as TorchAO's dynamic int8
// activations are):
//   scale = max(max over k of |x| / 127, format::kMinScale)    y = format::fake_quantize(x, {scale, 0}, [-127, 127])
// so codes and scales are those of kernels/quantize_rows, bit for bit. No x / scale rounds to more than 127, so the
// straight-through gradient passes everywhere; as in TorchAO, none goes through the scale. Runs on the CPU; rows on
// another device are brought there and back.
class RowFakeQuantizer final : public train::RowQuantizer {
 public:
  // `layer`: for errors.
  explicit RowFakeQuantizer(std::string layer);

  // x: float32 [..., k], k > 0. Throws kInvalidArgument for another type, kNumeric where it meets NaN or infinity.
  torch::Tensor forward(const torch::Tensor& x) override;
  void enable_fake_quant(bool enabled) override { fake_quant_enabled_.fill_(enabled ? 1 : 0); }

 private:
  std::string layer_;
  torch::Tensor fake_quant_enabled_;  // uint8 [1], a buffer
};

// An int4 weight [n, k] in groups along k: codes and float16 scales are those of format::quantize_int4, bit for bit. A
// group of zeros has scale 0 and stays 0, so a masked weight is exactly 0 under any mask. Scales are no estimate: as
// those of WeightFakeQuantizer they are taken from the weight that forward() and quantize() are given, in every mode,
// and left in the buffer `scale`, float32 [n, groups].
//
// enable_observer(false) holds the scales of the last weight seen, for one that was put on their grid (gptq.h).
//
// The gradient passes straight through where the rounded code lies within the range, ends included (so it is blocked
// where Int4Scale::kAmaxOver7p5 or a held scale clips), and in a group whose scale rounds to 0. Runs on the CPU; a
// weight on another device is brought there and back.
class GroupFakeQuantizer final : public train::FakeQuantizer {
 public:
  // Throws kInvalidArgument for another group than 32, 64, 128 and 256. n, k: of the weight.
  GroupFakeQuantizer(std::string fqn, std::int64_t n, std::int64_t k, std::int64_t group,
                     format::Int4Scale rule = format::Int4Scale::kAmaxOver7);

  // Both throw kNumeric where they meet NaN or infinity, kInvalidArgument for another shape or type.
  torch::Tensor forward(const torch::Tensor& weight) override;
  [[nodiscard]] torch::Tensor quantize(const torch::Tensor& weight) const override;

  [[nodiscard]] torch::Tensor scale() const override { return scale_; }
  [[nodiscard]] std::int32_t zero_point() const override { return 0; }
  [[nodiscard]] format::QuantRange range() const override { return format::int4_range(rule_); }
  [[nodiscard]] int axis() const override { return 0; }
  [[nodiscard]] std::int64_t group() const override { return group_; }
  [[nodiscard]] format::Int4Scale rule() const { return rule_; }

  void enable_observer(bool enabled) override { observer_enabled_.fill_(enabled ? 1 : 0); }
  void enable_fake_quant(bool enabled) override { fake_quant_enabled_.fill_(enabled ? 1 : 0); }
  [[nodiscard]] bool calibrated() const override { return true; }

 private:
  enum class Output { kFakeQuantized, kCodes };
  // `passes`: where the gradient does, float32 0 or 1; left undefined where it passes everywhere.
  [[nodiscard]] torch::Tensor run(const torch::Tensor& weight, Output output, torch::Tensor* passes) const;

  std::string fqn_;
  std::int64_t k_;
  std::int64_t group_;
  format::Int4Scale rule_;
  torch::Tensor scale_;               // float32 [n, groups]
  torch::Tensor observer_enabled_;    // uint8 [1]
  torch::Tensor fake_quant_enabled_;  // uint8 [1]
};

}  // namespace pare::quant
