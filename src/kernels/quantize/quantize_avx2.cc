#include <immintrin.h>

#include "pare/kernels/quantize/planes.h"

namespace pare::kernels {

namespace {

struct Constants {
  __m256 reciprocal, lo, hi;
  __m256i zero_point;
};

// Codes of 8 numbers, each in 32 bits. NaN becomes 0 before the zero point is added.
__m256i codes_of_8(const float* x, const Constants& k) {
  const __m256 real = _mm256_loadu_ps(x);
  const __m256 scaled = _mm256_and_ps(_mm256_mul_ps(real, k.reciprocal), _mm256_cmp_ps(real, real, _CMP_ORD_Q));
  const __m256 clamped = _mm256_min_ps(_mm256_max_ps(scaled, k.lo), k.hi);
  return _mm256_add_epi32(_mm256_cvtps_epi32(clamped), k.zero_point);
}

void codes_of_32(const float* x, const Constants& k, std::uint8_t* out) {
  const __m256i low = _mm256_packus_epi32(codes_of_8(x, k), codes_of_8(x + 8, k));
  const __m256i high = _mm256_packus_epi32(codes_of_8(x + 16, k), codes_of_8(x + 24, k));
  // Packing interleaves the 128-bit lanes of its operands; this puts them in order again.
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), in_order));
}

}  // namespace

void run_quantize_affine_avx2(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const Constants k{_mm256_set1_ps(1.0F / args.scale), _mm256_set1_ps(static_cast<float>(0 - args.zero_point)),
                    _mm256_set1_ps(static_cast<float>(255 - args.zero_point)), _mm256_set1_epi32(args.zero_point)};
  quantize_blocks(args, begin, end,
                  [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t count, std::uint8_t* out) {
                    const float* x = args.real + (image * args.channels + c) * args.pixels + first;
                    std::int64_t p = 0;
                    for (; p + 32 <= count; p += 32) codes_of_32(x + p, k, out + p);
                    if (p == count) return;
                    // The rest goes through buffers of a whole block, as neighbours may not be touched.
                    float rest[32] = {};
                    std::uint8_t codes[32];
                    for (std::int64_t j = 0; j < count - p; ++j) rest[j] = x[p + j];
                    codes_of_32(rest, k, codes);
                    for (std::int64_t j = 0; j < count - p; ++j) out[p + j] = codes[j];
                  });
}

}  // namespace pare::kernels
