#include "pare/base/rng.h"

#include <cmath>
#include <cstddef>
#include <utility>

namespace pare {
namespace {

// 2^64 / golden ratio, the increment of SplitMix64.
constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15U;

// The output function of SplitMix64 ("Mix13" of Stafford). Maps 0 to 0.
constexpr std::uint64_t mix(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// Natural logarithm from +, -, *, / alone, which IEEE 754 fixes to the bit; the C library's differs between versions
// and instruction sets. With x = m * 2^e and m in [sqrt(1/2), sqrt(2)): log x = e * log 2 + 2 * artanh((m - 1) / (m +
// 1)). Precondition: x > 0, finite.
double portable_log(double x) noexcept {
  constexpr double kLog2 = 0.693147180559945309417;
  constexpr double kSqrtHalf = 0.707106781186547524401;
  constexpr int kTerms = 13;  // |s| < 0.172, so s^(2 * 13 + 1) / 27 is below double's last bit
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);
  if (mantissa < kSqrtHalf) {
    mantissa *= 2.0;
    --exponent;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s_squared = s * s;
  double sum = 0.0;
  for (int i = kTerms - 1; i >= 0; --i) sum = sum * s_squared + 1.0 / (2 * i + 1);
  return exponent * kLog2 + 2.0 * s * sum;
}

}  // namespace

Rng::Rng(std::uint64_t seed, std::uint64_t stream_a, std::uint64_t stream_b) noexcept
    : state_(seed + mix(mix(stream_a * kGamma) + stream_b * kGamma)) {}

std::uint64_t Rng::next() noexcept {
  state_ += kGamma;
  return mix(state_);
}

std::uint64_t Rng::below(std::uint64_t bound) noexcept {
  // 2^64 mod bound values are surplus; refusing the lowest ones leaves every remainder equally often.
  const std::uint64_t surplus = (0 - bound) % bound;
  std::uint64_t value = next();
  while (value < surplus) value = next();
  return value % bound;
}

float Rng::uniform() noexcept { return static_cast<float>(next() >> 40) * 0x1p-24F; }

float Rng::normal() noexcept {
  // Marsaglia's polar form of Box-Muller: the only functions it needs are log and sqrt.
  for (;;) {
    const double u = static_cast<double>(next() >> 11) * 0x1p-52 - 1.0;
    const double v = static_cast<double>(next() >> 11) * 0x1p-52 - 1.0;
    const double radius_squared = u * u + v * v;
    if (radius_squared > 0.0 && radius_squared < 1.0) {
      return static_cast<float>(u * std::sqrt(-2.0 * portable_log(radius_squared) / radius_squared));
    }
  }
}

void Rng::shuffle(std::span<std::uint32_t> items) noexcept {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
}

}  // namespace pare
