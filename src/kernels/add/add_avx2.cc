#include <immintrin.h>

#include "pare/kernels/add/add_args.h"

namespace pare::kernels {

namespace {

struct Side {
  __m256i zero_point;
  __m256 scale;
};

__m256 real(const std::uint8_t* codes, const Side& side) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(wide, side.zero_point)), side.scale);
}

struct Constants {
  Side a, b;
  __m256 reciprocal, hi;
  __m256i zero_point, qmin;
};

__m256i rounded(const std::uint8_t* a, const std::uint8_t* b, const Constants& k) {
  const __m256 scaled = _mm256_mul_ps(_mm256_add_ps(real(a, k.a), real(b, k.b)), k.reciprocal);
  return _mm256_cvtps_epi32(_mm256_min_ps(scaled, k.hi));
}

// Clamps as add_avx512.cc does.
void add_32(const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y, const Constants& k) {
  const __m256i low = _mm256_packs_epi32(rounded(a, b, k), rounded(a + 8, b + 8, k));
  const __m256i high = _mm256_packs_epi32(rounded(a + 16, b + 16, k), rounded(a + 24, b + 24, k));
  const __m256i codes =
      _mm256_packus_epi16(_mm256_adds_epi16(low, k.zero_point), _mm256_adds_epi16(high, k.zero_point));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                      _mm256_permutevar8x32_epi32(_mm256_max_epu8(codes, k.qmin), in_order));
}

}  // namespace

void run_add_avx2(const AddArgs& args, std::int64_t begin, std::int64_t end) {
  const Constants k{{_mm256_set1_epi32(args.a_zero_point), _mm256_set1_ps(args.a_scale)},
                    {_mm256_set1_epi32(args.b_zero_point), _mm256_set1_ps(args.b_scale)},
                    _mm256_set1_ps(1.0F / args.y_scale),
                    _mm256_set1_ps(static_cast<float>(255 - args.y_zero_point)),
                    _mm256_set1_epi16(static_cast<short>(args.y_zero_point)),
                    _mm256_set1_epi8(static_cast<char>(args.qmin))};
  std::int64_t i = begin;
  for (; i + 32 <= end; i += 32) add_32(args.a + i, args.b + i, args.y + i, k);
  if (i == end) return;
  // The rest goes through buffers of a whole vector, as neighbours may not be touched.
  std::uint8_t a[32] = {}, b[32] = {}, y[32];
  for (std::int64_t j = 0; j < end - i; ++j) {
    a[j] = args.a[i + j];
    b[j] = args.b[i + j];
  }
  add_32(a, b, y, k);
  for (std::int64_t j = 0; j < end - i; ++j) args.y[i + j] = y[j];
}

void run_add_real_avx2(const float* a, const float* b, float* y, std::int64_t elems) {
  std::int64_t i = 0;
  for (; i + 8 <= elems; i += 8) _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
  for (; i < elems; ++i) y[i] = a[i] + b[i];
}

}  // namespace pare::kernels
