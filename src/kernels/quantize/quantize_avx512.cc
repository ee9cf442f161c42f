#include <immintrin.h>

#include "pare/kernels/quantize/planes.h"

namespace pare::kernels {

void run_quantize_affine_avx512(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const __m512 reciprocal = _mm512_set1_ps(1.0F / args.scale);
  const __m512 lo = _mm512_set1_ps(static_cast<float>(0 - args.zero_point));
  const __m512 hi = _mm512_set1_ps(static_cast<float>(255 - args.zero_point));
  const __m512i zero_point = _mm512_set1_epi32(args.zero_point);
  const auto codes = [&](__m512 x) {
    // NaN becomes 0.
    const __m512 scaled = _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x, reciprocal);
    const __m512i steps = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(scaled, lo), hi));
    return _mm512_cvtusepi32_epi8(_mm512_add_epi32(steps, zero_point));
  };
  quantize_blocks(args, begin, end,
                  [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t count, std::uint8_t* out) {
                    const float* x = args.real + (image * args.channels + c) * args.pixels + first;
                    std::int64_t p = 0;
                    for (; p + 16 <= count; p += 16) {
                      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + p), codes(_mm512_loadu_ps(x + p)));
                    }
                    if (p == count) return;
                    const auto mask = static_cast<__mmask16>((1U << (count - p)) - 1);
                    _mm_mask_storeu_epi8(out + p, mask, codes(_mm512_maskz_loadu_ps(mask, x + p)));
                  });
}

}  // namespace pare::kernels
