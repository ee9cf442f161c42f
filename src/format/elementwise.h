// Sums and averages of codes: the one definition of what QLinearAdd and QLinearGlobalAveragePool compute.
//
// As in format/affine.h, all arithmetic is IEEE float32 in the order written, rounding half to even. Quantization-aware
// training reaches the same bits: a sum of two fake-quantized tensors, fake-quantized again, is add_codes by
// construction; an average is not a sum of floats in some order, so training calls average_real on the exact sum of the
// codes and quantizes its result.
#pragma once

#include <cstdint>

#include "pare/format/affine.h"

namespace pare::format {

// quantize(dequantize(a) + dequantize(b)). A Relu is fused by raising range.qmin to y.zero_point: equal to a Relu of
// the sum. Precondition: 255 * a_params.scale + 255 * b_params.scale is finite in float32, so that no sum is NaN.
[[nodiscard]] inline std::int32_t add_codes(std::int32_t a, AffineParams a_params, std::int32_t b,
                                            AffineParams b_params, AffineParams y, QuantRange range) {
  return quantize(dequantize(a, a_params) + dequantize(b, b_params), y, range);
}

// Most pixels that one average may take: 255 * 2^23 < 2^31, and float32 holds every count up to 2^24.
inline constexpr std::int64_t kMaxAveragedPixels = std::int64_t{1} << 23;

// One step of a sum in reals: scale / float(pixels). Precondition: 1 <= pixels <= kMaxAveragedPixels.
[[nodiscard]] inline float average_scale(float scale, std::int64_t pixels) {
  return scale / static_cast<float>(pixels);
}

// Average of `pixels` codes, from the exact sum over (q - zero_point): float(sum) * (scale / float(pixels)).
// float(sum) rounds to nearest even beyond 2^24.
[[nodiscard]] inline float average_real(std::int32_t sum, float scale, std::int64_t pixels) {
  return static_cast<float>(sum) * average_scale(scale, pixels);
}

// quantize(average_real(sum)), to all of uint8.
[[nodiscard]] inline std::int32_t average_code(std::int32_t sum, float scale, std::int64_t pixels, AffineParams y) {
  return quantize(average_real(sum, scale, pixels), y, kUint8Range);
}

}  // namespace pare::format
