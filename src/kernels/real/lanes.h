// 16 lanes of float32, in one vector of AVX-512 or two of AVX2: what kernels on reals are written in, once for both.
//
// In an unnamed namespace on purpose: files for different instruction sets include it, and each keeps its own code.
// The functions are format/real_functions.h's, lane by lane.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "pare/format/real_functions.h"

namespace pare::kernels {
namespace {

constexpr std::int64_t kRealLanes = 16;

#if defined(__AVX512F__)

struct Lanes {
  __m512 v;
};

inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= kRealLanes ? 0xFFFF : (1U << count) - 1);
}
inline Lanes splat(float x) { return {_mm512_set1_ps(x)}; }
inline Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }
// The first `count` of 16, zeros after them; touches nothing else.
inline Lanes load(const float* from, std::int64_t count) { return {_mm512_maskz_loadu_ps(first_lanes(count), from)}; }
inline void store(float* to, Lanes x, std::int64_t count) { _mm512_mask_storeu_ps(to, first_lanes(count), x.v); }
inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes lesser(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Lanes greater(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
// 0 where x is NaN.
inline Lanes number(Lanes x) { return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, x.v, _CMP_ORD_Q), x.v)}; }
// 0 from lane `count` on.
inline Lanes first(Lanes x, std::int64_t count) { return {_mm512_maskz_mov_ps(first_lanes(count), x.v)}; }
// 2^n from n + kRoundToWhole.
inline Lanes power_of_two(Lanes shifted) {
  const __m512i exponent = _mm512_add_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(127 - 0x4B400000));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}
// rint(x) + zero_point of the first `count` lanes, as bytes, which they must fit.
inline void store_codes(std::uint8_t* to, Lanes x, std::int32_t zero_point, std::int64_t count) {
  const __m512i codes = _mm512_add_epi32(_mm512_cvtps_epi32(x.v), _mm512_set1_epi32(zero_point));
  _mm_mask_storeu_epi8(to, first_lanes(count), _mm512_cvtepi32_epi8(codes));
}
inline float fold_sum(Lanes x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float fold_greatest(Lanes x) { return _mm512_reduce_max_ps(x.v); }

#else

struct Lanes {
  __m256 a, b;
};

inline Lanes splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline Lanes load(const float* from, std::int64_t count) {
  if (count >= kRealLanes) return load(from);
  alignas(32) float all[kRealLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) all[i] = from[i];
  return load(all);
}
inline void store(float* to, Lanes x, std::int64_t count) {
  if (count >= kRealLanes) {
    _mm256_storeu_ps(to, x.a);
    _mm256_storeu_ps(to + 8, x.b);
    return;
  }
  alignas(32) float all[kRealLanes];
  _mm256_store_ps(all, x.a);
  _mm256_store_ps(all + 8, x.b);
  for (std::int64_t i = 0; i < count; ++i) to[i] = all[i];
}
inline Lanes operator+(Lanes x, Lanes y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Lanes operator-(Lanes x, Lanes y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Lanes operator*(Lanes x, Lanes y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Lanes operator/(Lanes x, Lanes y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Lanes lesser(Lanes x, Lanes y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Lanes greater(Lanes x, Lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Lanes number(Lanes x) {
  return {_mm256_and_ps(x.a, _mm256_cmp_ps(x.a, x.a, _CMP_ORD_Q)),
          _mm256_and_ps(x.b, _mm256_cmp_ps(x.b, x.b, _CMP_ORD_Q))};
}
inline Lanes first(Lanes x, std::int64_t count) {
  if (count >= kRealLanes) return x;
  alignas(32) float all[kRealLanes];
  store(all, x, kRealLanes);
  return load(all, count);
}
inline __m256 power_of_two(__m256 shifted) {
  const __m256i exponent = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127 - 0x4B400000));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline Lanes power_of_two(Lanes shifted) { return {power_of_two(shifted.a), power_of_two(shifted.b)}; }
inline void store_codes(std::uint8_t* to, Lanes x, std::int32_t zero_point, std::int64_t count) {
  const __m256i zero = _mm256_set1_epi32(zero_point);
  const __m256i a = _mm256_add_epi32(_mm256_cvtps_epi32(x.a), zero);
  const __m256i b = _mm256_add_epi32(_mm256_cvtps_epi32(x.b), zero);
  // Packing works within halves: 0-3, 8-11, 4-7, 12-15.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xD8);
  const __m128i codes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  if (count >= kRealLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), codes);
    return;
  }
  alignas(16) std::uint8_t all[kRealLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(all), codes);
  for (std::int64_t i = 0; i < count; ++i) to[i] = all[i];
}
inline float fold_sum(Lanes x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float fold_greatest(Lanes x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif

inline Lanes exp_nonpositive(Lanes x) {
  const Lanes limited = greater(x, splat(format::kExpLeast));
  const Lanes shifted = limited * splat(format::kLog2E) + splat(format::kRoundToWhole);
  const Lanes n = shifted - splat(format::kRoundToWhole);
  const Lanes r = (limited - n * splat(format::kLn2High)) - n * splat(format::kLn2Low);
  Lanes p = splat(format::kExpTerms[0]);
  for (int i = 1; i < 6; ++i) p = p * r + splat(format::kExpTerms[i]);
  return ((p * (r * r) + r) + splat(1.0F)) * power_of_two(shifted);
}

inline Lanes erf(Lanes x) {
  const Lanes limited = lesser(greater(x, splat(-format::kErfMost)), splat(format::kErfMost));
  const Lanes square = limited * limited;
  Lanes top = splat(format::kErfTop[0]);
  for (int i = 1; i < 7; ++i) top = top * square + splat(format::kErfTop[i]);
  Lanes bottom = splat(format::kErfBottom[0]);
  for (int i = 1; i < 5; ++i) bottom = bottom * square + splat(format::kErfBottom[i]);
  return lesser(greater(limited * top / bottom, splat(-1.0F)), splat(1.0F));
}

inline Lanes gelu(Lanes x) {
  const Lanes half = splat(0.5F) * x;
  return half + half * erf(x * splat(format::kRootOfHalf));
}

// format::quantize to uint8.
struct LaneQuantizer {
  Lanes reciprocal, lo, hi;
  std::int32_t zero_point;

  LaneQuantizer(float factor, std::int32_t zero)
      : reciprocal(splat(factor)),
        lo(splat(static_cast<float>(0 - zero))),
        hi(splat(static_cast<float>(255 - zero))),
        zero_point(zero) {}
  void store(std::uint8_t* to, Lanes x, std::int64_t count) const {
    store_codes(to, lesser(greater(number(x * reciprocal), lo), hi), zero_point, count);
  }
};

}  // namespace
}  // namespace pare::kernels
