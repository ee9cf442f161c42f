#include <immintrin.h>

#include "pare/kernels/add/add_args.h"

namespace pare::kernels {

namespace {

struct Side {
  __m512i zero_point;
  __m512 scale;
};

__m512 real(__m128i codes, const Side& side) {
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), side.zero_point)), side.scale);
}

}  // namespace

// The upper clamp comes before the rounding, as conversion gives the least integer for what is too large. Below, that
// is what clamping wants, so packing saturates to 0 and one unsigned maximum a vector raises it to qmin.
void run_add_avx512(const AddArgs& args, std::int64_t begin, std::int64_t end) {
  const Side a{_mm512_set1_epi32(args.a_zero_point), _mm512_set1_ps(args.a_scale)};
  const Side b{_mm512_set1_epi32(args.b_zero_point), _mm512_set1_ps(args.b_scale)};
  const __m512 reciprocal = _mm512_set1_ps(1.0F / args.y_scale);
  const __m512 hi = _mm512_set1_ps(static_cast<float>(255 - args.y_zero_point));
  const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(args.y_zero_point));
  const __m512i qmin = _mm512_set1_epi8(static_cast<char>(args.qmin));
  // Packing interleaves the 128-bit lanes of its operands; this puts them in order again.
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const auto rounded = [&](__m128i x, __m128i y) {
    const __m512 scaled = _mm512_mul_ps(_mm512_add_ps(real(x, a), real(y, b)), reciprocal);
    return _mm512_cvtps_epi32(_mm512_min_ps(scaled, hi));
  };
  const auto codes = [&](__m512i x, __m512i y) {
    const __m512i v0 = rounded(_mm512_castsi512_si128(x), _mm512_castsi512_si128(y));
    const __m512i v1 = rounded(_mm512_extracti32x4_epi32(x, 1), _mm512_extracti32x4_epi32(y, 1));
    const __m512i v2 = rounded(_mm512_extracti32x4_epi32(x, 2), _mm512_extracti32x4_epi32(y, 2));
    const __m512i v3 = rounded(_mm512_extracti32x4_epi32(x, 3), _mm512_extracti32x4_epi32(y, 3));
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v0, v1), zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v2, v3), zero_point);
    return _mm512_permutexvar_epi32(in_order, _mm512_max_epu8(_mm512_packus_epi16(low, high), qmin));
  };
  std::int64_t i = begin;
  for (; i + 64 <= end; i += 64) {
    _mm512_storeu_si512(args.y + i, codes(_mm512_loadu_si512(args.a + i), _mm512_loadu_si512(args.b + i)));
  }
  if (i == end) return;
  const __mmask64 mask = (__mmask64{1} << (end - i)) - 1;
  _mm512_mask_storeu_epi8(args.y + i, mask,
                          codes(_mm512_maskz_loadu_epi8(mask, args.a + i), _mm512_maskz_loadu_epi8(mask, args.b + i)));
}

void run_add_real_avx512(const float* a, const float* b, float* y, std::int64_t elems) {
  for (std::int64_t i = 0; i < elems; i += 16) {
    const auto mask = static_cast<__mmask16>(elems - i >= 16 ? 0xFFFF : (1U << (elems - i)) - 1);
    _mm512_mask_storeu_ps(y + i, mask,
                          _mm512_add_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i)));
  }
}

}  // namespace pare::kernels
