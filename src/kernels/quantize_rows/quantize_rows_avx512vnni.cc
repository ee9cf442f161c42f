#include <immintrin.h>

#include "pare/kernels/quantize_rows/quantize_rows_args.h"

namespace pare::kernels {

namespace {

constexpr float kMinScale = 1.1920929e-07F;  // format::kMinScale, whose header is not for such files

__mmask16 lanes_of(std::int64_t left) { return static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << left) - 1U); }

float largest_magnitude(const float* x, std::int64_t k) {
  __m512 largest[4];
  for (__m512& v : largest) v = _mm512_setzero_ps();
  std::int64_t i = 0;
  // In this order of operands a NaN leaves what is there.
  for (; i + 64 <= k; i += 64) {
    for (int j = 0; j < 4; ++j) largest[j] = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i + 16 * j)), largest[j]);
  }
  for (; i < k; i += 16) {
    largest[0] = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes_of(k - i), x + i)), largest[0]);
  }
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3])));
}

}  // namespace

void run_quantize_rows_avx512vnni(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end) {
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i zero_points = _mm512_set1_epi8(static_cast<char>(args.zero_point));
  for (std::int64_t m = m_begin; m < m_end; ++m) {
    const float* x = args.x + m * args.x_stride_elems;
    std::uint8_t* codes = args.codes + m * args.codes_stride_bytes;
    const float exact = largest_magnitude(x, args.k) / 127.0F;
    const float scale = exact > kMinScale ? exact : kMinScale;
    args.scale[m] = scale;
    const __m512 reciprocal = _mm512_set1_ps(1.0F / scale);
    const auto steps = [&](__m512 real) {
      // No clamp: the largest magnitude times this reciprocal is 127 but for two roundings, far from 127.5.
      const __m512 scaled = _mm512_mul_ps(real, reciprocal);
      return _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(scaled, scaled, _CMP_ORD_Q), scaled);
    };
    std::int64_t k = 0;
    for (; k + 64 <= args.k; k += 64) {
      __m512i v[4];
      for (int j = 0; j < 4; ++j) v[j] = steps(_mm512_loadu_ps(x + k + 16 * j));
      const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
      _mm512_storeu_si512(codes + k, _mm512_xor_si512(_mm512_permutexvar_epi32(in_order, packed), zero_points));
    }
    for (; k < args.k_padded; k += 16) {
      const std::int64_t left = args.k > k ? args.k - k : 0;
      const __m128i packed = _mm512_cvtepi32_epi8(steps(_mm512_maskz_loadu_ps(lanes_of(left), x + k)));
      _mm_mask_storeu_epi8(codes + k, lanes_of(args.k_padded - k),
                           _mm_xor_si128(packed, _mm512_castsi512_si128(zero_points)));
    }
  }
}

}  // namespace pare::kernels
