// What happens to exact int32 accumulators at the end of a matrix product or convolution.
//
// Per output channel j of n:  acc = bias[j] + sum over k of (a - a_zero_point) * w
//   to uint8:   format::requantize(acc, multiplier[j], zero_point, {qmin, qmax}); a fused Relu is qmin = zero_point
//   to float32: float(acc) * multiplier[j], limited to >= 0 if `relu`
//   the same, rows scaled: (float(acc) * multiplier[j]) * row_scale[m] + real_bias[j], limited likewise; each step
//   rounds
// Rows are scaled where activations were quantized row by row as they came (quantize_rows/quantize_rows.h): a bias at
// the scale of an accumulator does not exist then, so it is real.
//
// Preconditions of all kernels: 0 <= qmin <= qmax <= 255, 0 <= zero_point <= 255, multipliers finite, and no
// accumulator beyond int32: |bias[j]| + 255 * sum over k of |w| < 2^31 for every j, whatever the activations are.
#pragma once

#include <cstdint>
#include <cstring>

namespace pare::kernels {

struct Epilogue {
  enum class Output : std::uint8_t { kU8, kF32 };
  Output output = Output::kU8;
  const std::int32_t* bias = nullptr;  // n, never null
  const float* multiplier = nullptr;   // n
  std::int32_t zero_point = 0;         // of the output
  std::int32_t qmin = 0;
  std::int32_t qmax = 255;
  bool relu = false;                 // kF32 only
  const float* row_scale = nullptr;  // m, kF32 only, matrix products only; or null
  const float* real_bias = nullptr;  // n, set where row_scale is
};

// rint(x) for |x| <= 2^22, half to even. x + 1.5 * 2^23 lies where floats are whole numbers, so the addition rounds,
// and the sum's low mantissa bits are the result. nearbyintf is a function call wherever SSE4.1 may not be assumed.
[[nodiscard]] inline std::int32_t round_small(float x) {
  const float shifted = x + 12582912.0F;
  std::int32_t bits = 0;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

// format::requantize for codes that fit uint8; equal to it for every accumulator (tested), and a form that compilers
// turn into vector code.
[[nodiscard]] inline std::uint8_t requantize_u8(std::int32_t acc, float multiplier, std::int32_t zero_point,
                                                std::int32_t qmin, std::int32_t qmax) {
  const float scaled = static_cast<float>(acc) * multiplier;
  const auto lo = static_cast<float>(qmin - zero_point);
  const auto hi = static_cast<float>(qmax - zero_point);
  const float above = scaled < lo ? lo : scaled;
  const float clamped = above > hi ? hi : above;
  return static_cast<std::uint8_t>(round_small(clamped) + zero_point);
}

// Writes the outputs of row `m`, channels [n_begin, n_begin + n), from accumulators that lack their bias; `out` points
// at the first.
inline void store_epilogue(const Epilogue& epilogue, const std::int32_t* acc, std::int64_t m, std::int64_t n_begin,
                           std::int64_t n, void* out) {
  const std::int32_t* bias = epilogue.bias + n_begin;
  const float* multiplier = epilogue.multiplier + n_begin;
  if (epilogue.output == Epilogue::Output::kU8) {
    auto* codes = static_cast<std::uint8_t*>(out);
    const std::int32_t zero_point = epilogue.zero_point;
    const std::int32_t qmin = epilogue.qmin;
    const std::int32_t qmax = epilogue.qmax;
    for (std::int64_t j = 0; j < n; ++j) {
      codes[j] = requantize_u8(acc[j] + bias[j], multiplier[j], zero_point, qmin, qmax);
    }
  } else {
    auto* reals = static_cast<float*>(out);
    const bool relu = epilogue.relu;
    for (std::int64_t j = 0; j < n; ++j) {
      float real = static_cast<float>(acc[j] + bias[j]) * multiplier[j];
      if (epilogue.row_scale != nullptr) real = real * epilogue.row_scale[m] + epilogue.real_bias[n_begin + j];
      reals[j] = relu && real < 0.0F ? 0.0F : real;
    }
  }
}

}  // namespace pare::kernels
