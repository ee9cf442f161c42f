// IEEE binary16, as scales of int4 groups are stored: 1 sign, 5 exponent and 10 fraction bits, subnormals included.
#pragma once

#include <bit>
#include <cstdint>

namespace pare::format {

inline constexpr std::uint16_t kLargestHalf = 0x7BFF;  // 65504

// Exact. NaN keeps what payload it has.
[[nodiscard]] inline float float_from_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  if (magnitude < 0x0400) {
    // Zero or subnormal: so many times 2^-24.
    const float real = static_cast<float>(magnitude) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(real) | sign);
  }
  const std::uint32_t exponent = magnitude >= 0x7C00 ? 0x7F800000U : ((magnitude >> 10) + 112) << 23;
  return std::bit_cast<float>(sign | exponent | (magnitude & 0x3FFU) << 13);
}

// The nearest half, ties to even; what lies beyond 65520 becomes infinite, NaN a quiet NaN.
[[nodiscard]] inline std::uint16_t half_from_float(float real) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(real);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const auto rounded = [](std::uint32_t value, std::uint32_t dropped) {
    const std::uint32_t kept = value >> dropped;
    const std::uint32_t rest = value & ((1U << dropped) - 1);
    const std::uint32_t tie = 1U << (dropped - 1);
    return kept + (rest > tie || (rest == tie && (kept & 1U) != 0) ? 1U : 0U);
  };
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00;
  } else if (magnitude >= 0x477FF000U) {
    half = 0x7C00;
  } else if (magnitude >= 0x38800000U) {
    half = rounded(magnitude - (112U << 23), 13);
  } else if (magnitude >= 0x33000000U) {
    // Subnormal: the fraction with its leading 1, so many times 2^-24.
    half = rounded((magnitude & 0x7FFFFFU) | 0x800000U, 126 - (magnitude >> 23));
  }
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace pare::format
