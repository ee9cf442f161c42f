#include "pare/quant/fused_loops.h"

#include <cmath>
#include <cstring>

namespace pare::quant {
namespace {

// GCC's and Clang's portable vectors: the compiler's own vectorizer leaves these loops alone, because comparisons could
// trap and min/max may not be reordered.
constexpr std::int64_t kLanes = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef std::int32_t Bits __attribute__((vector_size(16)));

constexpr float kRound = 12582912.0F;  // 1.5 * 2^23

Floats load(const float* x) {
  Floats v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

void store(float* y, Floats v) { std::memcpy(y, &v, sizeof v); }

Floats all(float value) { return Floats{value, value, value, value}; }

// A last, partial vector; lanes past the end hold 0.
Floats load_tail(const float* x, std::int64_t elems) {
  Floats v = {};
  std::memcpy(&v, x, static_cast<std::size_t>(elems) * sizeof(float));
  return v;
}

void store_tail(float* y, Floats v, std::int64_t elems) {
  std::memcpy(y, &v, static_cast<std::size_t>(elems) * sizeof(float));
}

// 0 for a finite value; NaN and infinity times 0 are NaN, which stays in any sum.
Floats zero_if_finite(Floats x) { return x * 0.0F; }

bool all_zero(Floats v) { return v[0] == 0.0F && v[1] == 0.0F && v[2] == 0.0F && v[3] == 0.0F; }

// q - zero_point, as format::quantize has it.
Floats rounded(Floats x, const QuantizeConstants& c) {
  const Floats scaled = x * c.reciprocal;
  Floats clamped = scaled > c.lo ? scaled : all(c.lo);
  clamped = clamped < c.hi ? clamped : all(c.hi);
  clamped = scaled == scaled ? clamped : all(0.0F);
  return (clamped + kRound) - kRound;
}

}  // namespace

QuantizeConstants::QuantizeConstants(format::AffineParams params, format::QuantRange range)
    : reciprocal(1.0F / params.scale),
      scale(params.scale),
      lo(static_cast<float>(range.qmin - params.zero_point)),
      hi(static_cast<float>(range.qmax - params.zero_point)),
      zero_point(static_cast<float>(params.zero_point)) {}

bool min_max(const float* x, std::int64_t elems, float& min, float& max) {
  // Two sets of lanes, so that a comparison need not wait for the one before it.
  Floats lo_a = all(x[0]), lo_b = lo_a, hi_a = lo_a, hi_b = lo_a;
  Floats fault_a = {}, fault_b = {};
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= elems; i += 2 * kLanes) {
    const Floats a = load(x + i), b = load(x + i + kLanes);
    lo_a = a < lo_a ? a : lo_a;
    lo_b = b < lo_b ? b : lo_b;
    hi_a = a > hi_a ? a : hi_a;
    hi_b = b > hi_b ? b : hi_b;
    fault_a += zero_if_finite(a);
    fault_b += zero_if_finite(b);
  }
  for (; i < elems; ++i) {
    const Floats a = all(x[i]);
    lo_a = a < lo_a ? a : lo_a;
    hi_a = a > hi_a ? a : hi_a;
    fault_a += zero_if_finite(a);
  }
  lo_a = lo_b < lo_a ? lo_b : lo_a;
  hi_a = hi_b > hi_a ? hi_b : hi_a;
  min = lo_a[0];
  max = hi_a[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    min = lo_a[lane] < min ? lo_a[lane] : min;
    max = hi_a[lane] > max ? hi_a[lane] : max;
  }
  return all_zero(fault_a + fault_b);
}

bool fake_quantize(const float* x, float* y, std::int64_t elems, const QuantizeConstants& constants) {
  const QuantizeConstants c = constants;  // a copy that stores to y cannot alias
  Floats fault = {};
  std::int64_t i = 0;
  for (; i + kLanes <= elems; i += kLanes) {
    const Floats v = load(x + i);
    fault += zero_if_finite(v);
    store(y + i, rounded(v, c) * c.scale);
  }
  if (i < elems) {
    const Floats v = load_tail(x + i, elems - i);
    fault += zero_if_finite(v);
    store_tail(y + i, rounded(v, c) * c.scale, elems - i);
  }
  return all_zero(fault);
}

GradientBounds::GradientBounds(float reciprocal_scale, float lo, float hi) : reciprocal(reciprocal_scale) {
  // rint(s) lies in [lo, hi] where s lies in [lo - 0.5, hi + 0.5]; the ends themselves go to the even neighbour, so
  // they belong to it if lo (hi) is even. Bounds of codes are small integers, so all of this is exact in float32.
  const auto is_even = [](float value) { return std::fmod(value, 2.0F) == 0.0F; };
  first = is_even(lo) ? lo - 0.5F : std::nextafter(lo - 0.5F, HUGE_VALF);
  last = is_even(hi) ? hi + 0.5F : std::nextafter(hi + 0.5F, -HUGE_VALF);
}

void fake_quantize_gradient(const float* x, const float* grad_y, float* grad_x, std::int64_t elems,
                            const GradientBounds& bounds) {
  const GradientBounds b = bounds;
  const auto gradient = [b](Floats v, Floats grad) {
    const Floats scaled = v * b.reciprocal;
    const Bits passes = (scaled >= b.first) & (scaled <= b.last);
    return reinterpret_cast<Floats>(reinterpret_cast<Bits>(grad) & passes);
  };
  std::int64_t i = 0;
  for (; i + kLanes <= elems; i += kLanes) {
    store(grad_x + i, gradient(load(x + i), load(grad_y + i)));
  }
  if (i < elems) {
    store_tail(grad_x + i, gradient(load_tail(x + i, elems - i), load_tail(grad_y + i, elems - i)), elems - i);
  }
}

void quantize(const float* x, double* codes, std::int64_t elems, const QuantizeConstants& constants) {
  const QuantizeConstants c = constants;
  std::int64_t i = 0;
  for (; i < elems; i += kLanes) {
    const std::int64_t count = elems - i < kLanes ? elems - i : kLanes;
    const Floats q = rounded(load_tail(x + i, count), c) + c.zero_point;
    for (int lane = 0; lane < count; ++lane) {
      codes[i + lane] = static_cast<double>(q[lane]);
    }
  }
}

}  // namespace pare::quant
