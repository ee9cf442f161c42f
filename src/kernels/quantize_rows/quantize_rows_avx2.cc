#include <immintrin.h>

#include "pare/kernels/quantize_rows/quantize_rows_args.h"

namespace pare::kernels {

namespace {

constexpr float kMinScale = 1.1920929e-07F;  // format::kMinScale, whose header is not for such files

struct Constants {
  __m256 reciprocal, lo, hi;
  __m256i zero_points;
};

__m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x); }

float largest_magnitude(const float* x, std::int64_t k) {
  __m256 largest[4];
  for (__m256& v : largest) v = _mm256_setzero_ps();
  std::int64_t i = 0;
  // In this order of operands a NaN leaves what is there.
  for (; i + 32 <= k; i += 32) {
    for (int j = 0; j < 4; ++j) largest[j] = _mm256_max_ps(magnitude(_mm256_loadu_ps(x + i + 8 * j)), largest[j]);
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, _mm256_max_ps(_mm256_max_ps(largest[0], largest[1]), _mm256_max_ps(largest[2], largest[3])));
  float found = 0.0F;
  for (const float lane : lanes) found = lane > found ? lane : found;
  for (; i < k; ++i) {
    const float real = x[i] < 0.0F ? 0.0F - x[i] : x[i];
    found = real > found ? real : found;
  }
  return found;
}

__m256i steps_of_8(const float* x, const Constants& c) {
  const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x), c.reciprocal);
  const __m256 ordered = _mm256_and_ps(scaled, _mm256_cmp_ps(scaled, scaled, _CMP_ORD_Q));
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(ordered, c.lo), c.hi));
}

void codes_of_32(const float* x, const Constants& c, std::uint8_t* out) {
  const __m256i low = _mm256_packs_epi32(steps_of_8(x, c), steps_of_8(x + 8, c));
  const __m256i high = _mm256_packs_epi32(steps_of_8(x + 16, c), steps_of_8(x + 24, c));
  // Packing interleaves the 128-bit lanes of its operands; this puts them in order again.
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), in_order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_xor_si256(packed, c.zero_points));
}

}  // namespace

void run_quantize_rows_avx2(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end) {
  Constants c{_mm256_setzero_ps(), _mm256_set1_ps(-127.0F), _mm256_set1_ps(127.0F),
              _mm256_set1_epi8(static_cast<char>(args.zero_point))};
  for (std::int64_t m = m_begin; m < m_end; ++m) {
    const float* x = args.x + m * args.x_stride_elems;
    std::uint8_t* codes = args.codes + m * args.codes_stride_bytes;
    const float exact = largest_magnitude(x, args.k) / 127.0F;
    const float scale = exact > kMinScale ? exact : kMinScale;
    args.scale[m] = scale;
    c.reciprocal = _mm256_set1_ps(1.0F / scale);
    std::int64_t k = 0;
    for (; k + 32 <= args.k; k += 32) codes_of_32(x + k, c, codes + k);
    // The rest goes through buffers of a whole block, as neighbours may not be touched; zeros fill it up.
    for (; k < args.k_padded; k += 32) {
      float rest[32] = {};
      std::uint8_t block[32];
      for (std::int64_t i = 0; k + i < args.k && i < 32; ++i) rest[i] = x[k + i];
      codes_of_32(rest, c, block);
      for (std::int64_t i = 0; k + i < args.k_padded && i < 32; ++i) codes[k + i] = block[i];
    }
  }
}

}  // namespace pare::kernels
