// The inner loops of fake-quantization over contiguous float32: one pass over memory each, four lanes at a time on any
// CPU. Element by element they equal format/affine.h, bit for bit, NaN and infinities included.
//
// Rounding: adding and subtracting 1.5 * 2^23 rounds a float of magnitude below 2^22 to an integer, half to even, in
// the default rounding mode. Values are clamped to the code range first, so the precondition always holds.
#pragma once

#include <cstdint>

#include "pare/format/affine.h"

namespace pare::quant {

// What the loops need of a scale, a zero point and a range, worked out once per tensor or channel.
struct QuantizeConstants {
  float reciprocal;  // 1 / scale
  float scale;
  float lo;  // qmin - zero_point
  float hi;  // qmax - zero_point
  float zero_point;

  QuantizeConstants(format::AffineParams params, format::QuantRange range);
};

// The values of x / scale whose gradient passes: [first, last].
struct GradientBounds {
  float reciprocal;
  float first;
  float last;

  GradientBounds(float reciprocal_scale, float lo, float hi);  // as in QuantizeConstants
};

// The least and the greatest of `elems` > 0 values. False if any is NaN or infinite: `min` and `max` mean nothing then.
[[nodiscard]] bool min_max(const float* x, std::int64_t elems, float& min, float& max);

// y[i] = format::fake_quantize(x[i]); x and y may be the same. False if any x is NaN or infinite (y is written anyway).
bool fake_quantize(const float* x, float* y, std::int64_t elems, const QuantizeConstants& constants);

// grad_x[i] = format::fake_quantize_passes_gradient(x[i]) ? grad_y[i] : 0.
void fake_quantize_gradient(const float* x, const float* grad_y, float* grad_x, std::int64_t elems,
                            const GradientBounds& bounds);

// codes[i] = format::quantize(x[i]), as float64.
void quantize(const float* x, double* codes, std::int64_t elems, const QuantizeConstants& constants);

}  // namespace pare::quant
