// Affine quantization: the one definition of rounding, clamping and requantization.
//
//   real = scale * (q - zero_point)          scale > 0 (float32), zero_point an integer within [qmin, qmax]
//
// Everything that quantizes (fake-quantizers, conversion, kernels) is tested against these scalar functions. All
// arithmetic is IEEE float32 in the order written, rounding half to even; pare is compiled without contraction into
// fused multiply-add.
//
// Non-goals: speed, and schemes whose zero point is not an integer.
#pragma once

#include <cmath>
#include <cstdint>

namespace pare::format {

struct QuantRange {
  std::int32_t qmin;
  std::int32_t qmax;
  friend bool operator==(const QuantRange&, const QuantRange&) = default;
};

inline constexpr QuantRange kUint8Range{0, 255};
inline constexpr QuantRange kInt8Range{-128, 127};
// Weights: symmetric about 0, so that negating a weight never leaves the range.
inline constexpr QuantRange kInt8WeightRange{-127, 127};
inline constexpr QuantRange kInt4Range{-8, 7};

struct AffineParams {
  float scale = 1.0F;
  std::int32_t zero_point = 0;
  friend bool operator==(const AffineParams&, const AffineParams&) = default;
};

// The smallest scale that is ever chosen: float32 machine epsilon, as in torch.ao.quantization's observers.
inline constexpr float kMinScale = 1.1920929e-07F;

// q = clamp(rint(x * (1 / scale)) + zero_point, qmin, qmax), half to even before the zero point is added; x is clamped
// in float first, so that any finite or infinite x is safe. NaN gives zero_point.
// (torch.fake_quantize_per_tensor_affine multiplies by the float32 reciprocal as well: its golden values tell the two
// apart.)
[[nodiscard]] inline std::int32_t quantize(float x, AffineParams params, QuantRange range) {
  const float scaled = x * (1.0F / params.scale);
  const auto lo = static_cast<float>(range.qmin - params.zero_point);
  const auto hi = static_cast<float>(range.qmax - params.zero_point);
  const float clamped = !(scaled >= lo) ? (scaled != scaled ? 0.0F : lo) : (scaled > hi ? hi : scaled);
  return static_cast<std::int32_t>(std::nearbyintf(clamped)) + params.zero_point;
}

[[nodiscard]] inline float dequantize(std::int32_t q, AffineParams params) {
  return static_cast<float>(q - params.zero_point) * params.scale;
}

[[nodiscard]] inline float fake_quantize(float x, AffineParams params, QuantRange range) {
  return dequantize(quantize(x, params, range), params);
}

// True where the straight-through gradient of fake_quantize passes: the rounded value before clamping lies within
// [qmin, qmax], ends included.
[[nodiscard]] inline bool fake_quantize_passes_gradient(float x, AffineParams params, QuantRange range) {
  const float rounded = std::nearbyintf(x * (1.0F / params.scale)) + static_cast<float>(params.zero_point);
  return rounded >= static_cast<float>(range.qmin) && rounded <= static_cast<float>(range.qmax);
}

// Scale of an int32 accumulator and of its bias: input scale times weight scale, in float32.
[[nodiscard]] inline float accumulator_scale(float input_scale, float weight_scale) {
  return input_scale * weight_scale;
}

// bias_q = clamp(rint(bias / accumulator_scale)) in double, limited to +-2^30 so that an accumulator cannot overflow on
// it.
[[nodiscard]] std::int32_t quantize_bias(float bias, float accumulator_scale);

// Factor of a requantization: accumulator_scale / output_scale, in float32.
[[nodiscard]] inline float requantize_multiplier(float accumulator_scale, float output_scale) {
  return accumulator_scale / output_scale;
}

// The one documented requantization, from an exact int32 accumulator to an output code:
//   clamp(rint(float(acc) * multiplier), qmin - zp, qmax - zp) + zp
// float(acc) rounds to nearest even beyond 2^24. A ReLU is fused by raising qmin to max(qmin, zp).
[[nodiscard]] inline std::int32_t requantize(std::int32_t acc, float multiplier, std::int32_t zero_point,
                                             QuantRange range) {
  const float scaled = static_cast<float>(acc) * multiplier;
  const auto lo = static_cast<float>(range.qmin - zero_point);
  const auto hi = static_cast<float>(range.qmax - zero_point);
  const float clamped = scaled < lo ? lo : (scaled > hi ? hi : scaled);
  return static_cast<std::int32_t>(std::nearbyintf(clamped)) + zero_point;
}

// Asymmetric parameters for values in [min_value, max_value], as torch.ao's observers choose them (the range is widened
// to hold 0, the zero point is rounded half to even and clamped). Precondition: min <= max, both finite.
[[nodiscard]] AffineParams choose_qparams_affine(float min_value, float max_value, QuantRange range);

// Symmetric parameters, zero_point 0: scale = max(|min|, |max|) / ((qmax - qmin) / 2), as torch.ao's observers for
// signed types.
[[nodiscard]] AffineParams choose_qparams_symmetric(float min_value, float max_value, QuantRange range);

// A pixel as the network sees it: (pixel / 255 - mean) / std, each operation rounded to float32.
[[nodiscard]] inline float normalize_pixel(std::uint8_t pixel, float mean, float std) {
  return (static_cast<float>(pixel) / 255.0F - mean) / std;
}

}  // namespace pare::format
