// The float32 functions of a transformer's operators: the one definition of their bits.
//
// As in format/affine.h, all arithmetic is IEEE float32 in the order written, without fused multiply-add, so that every
// instruction set reaches the same bits. Minimum and maximum are those of x86: the second operand where one is NaN.
//
// Non-goals: the last half unit of accuracy, and denormal results.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace pare::format {

[[nodiscard]] inline float lesser(float a, float b) { return a < b ? a : b; }
[[nodiscard]] inline float greater(float a, float b) { return a > b ? a : b; }

// What exp_nonpositive and erf compute with; kernels read the same.
inline constexpr float kExpLeast = -87.0F;  // e^-87 = 1.6e-38 is a normal number still
inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kRoundToWhole = 12582912.0F;  // 1.5 * 2^23: floats there are whole numbers
inline constexpr float kLn2High = 0.693359375F;      // few enough bits that its product with a whole number is exact
inline constexpr float kLn2Low = -2.12194440e-4F;
inline constexpr float kExpTerms[] = {1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F,
                                      4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F};
inline constexpr float kErfMost = 4.0F;
inline constexpr float kErfTop[] = {-2.72614225801306e-10F, 2.77068142495902e-08F,  -2.10102402082508e-06F,
                                    -5.69250639462346e-05F, -7.34990630326855e-04F, -2.95459980854025e-03F,
                                    -1.60960333262415e-02F};
inline constexpr float kErfBottom[] = {-1.45660718464996e-05F, -2.13374055278905e-04F, -1.68282697438203e-03F,
                                       -7.37332916720468e-03F, -1.42647390514189e-02F};
inline constexpr float kRootOfHalf = 0.70710678118654752F;

// e^x for x <= 0, as in Cephes' expf (Moshier, netlib.org/cephes): x = n ln 2 + r with |r| <= ln 2 / 2, and a
// polynomial of degree 7. Relative error at most 2^-23 (measured over 3 million x; 0.7 units in the last place); e^0
// = 1. Below kExpLeast it gives e^kExpLeast.
[[nodiscard]] inline float exp_nonpositive(float x) {
  const float limited = greater(x, kExpLeast);
  const float shifted = limited * kLog2E + kRoundToWhole;
  const float n = shifted - kRoundToWhole;
  const float r = (limited - n * kLn2High) - n * kLn2Low;
  float p = kExpTerms[0];
  for (int i = 1; i < 6; ++i) p = p * r + kExpTerms[i];
  const float fraction = (p * (r * r) + r) + 1.0F;
  std::int32_t bits = 0;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<std::int32_t>(static_cast<std::uint32_t>(bits - 0x4B400000 + 127) << 23);
  float power = 0.0F;
  std::memcpy(&power, &bits, sizeof power);
  return fraction * power;
}

// The error function as a ratio of polynomials in x^2 within +-4, beyond which float32 knows +-1 only (the coefficients
// are those of Eigen's generic_fast_erf). Absolute error at most 5e-7 (measured over 2 million x).
[[nodiscard]] inline float erf(float x) {
  const float limited = lesser(greater(x, -kErfMost), kErfMost);
  const float square = limited * limited;
  float top = kErfTop[0];
  for (int i = 1; i < 7; ++i) top = top * square + kErfTop[i];
  float bottom = kErfBottom[0];
  for (int i = 1; i < 5; ++i) bottom = bottom * square + kErfBottom[i];
  return lesser(greater(limited * top / bottom, -1.0F), 1.0F);
}

// x / 2 + x / 2 erf(x / sqrt(2)): ONNX's Gelu without approximation. The error is erf's, times |x| / 2. NaN for -inf.
[[nodiscard]] inline float gelu(float x) {
  const float half = 0.5F * x;
  return half + half * erf(x * kRootOfHalf);
}

// Of a head's scores in real numbers, from exact sums of products of codes: (s_q * s_k) / sqrt(float(head_elems)).
[[nodiscard]] inline float score_scale(float q_scale, float k_scale, std::int64_t head_elems) {
  return (q_scale * k_scale) / std::sqrt(static_cast<float>(head_elems));
}

// Sums of float32 are taken in 16 parts, of elements 0, 16, 32, ..., 1, 17, ... and so on, each in order; the parts are
// then added in pairs 8, 4, 2 and 1 apart. So vectors of any width up to 16 reach the same bits.
inline constexpr std::int64_t kSumParts = 16;
[[nodiscard]] inline float fold_parts(const float (&parts)[kSumParts]) {
  float sums[kSumParts];
  std::memcpy(sums, parts, sizeof sums);
  for (std::int64_t apart = kSumParts / 2; apart > 0; apart /= 2) {
    for (std::int64_t i = 0; i < apart; ++i) sums[i] = sums[i] + sums[i + apart];
  }
  return sums[0];
}

}  // namespace pare::format
