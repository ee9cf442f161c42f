#include <immintrin.h>

#include "pare/kernels/dequantize/dequantize_args.h"

namespace pare::kernels {

void run_dequantize_avx512(const DequantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const __m512 scale = _mm512_set1_ps(args.scale);
  const __m512i zero_point = _mm512_set1_epi32(args.zero_point);
  for (std::int64_t i = begin; i < end; i += 16) {
    const auto mask = static_cast<__mmask16>(end - i >= 16 ? 0xFFFF : (1U << (end - i)) - 1);
    const __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, args.x + i));
    _mm512_mask_storeu_ps(args.y + i, mask,
                          _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero_point)), scale));
  }
}

}  // namespace pare::kernels
