#include <immintrin.h>

#include "pare/kernels/dequantize/dequantize_args.h"

namespace pare::kernels {

void run_dequantize_avx2(const DequantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const __m256 scale = _mm256_set1_ps(args.scale);
  const __m256i zero_point = _mm256_set1_epi32(args.zero_point);
  std::int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(args.x + i)));
    _mm256_storeu_ps(args.y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero_point)), scale));
  }
  for (; i < end; ++i) args.y[i] = static_cast<float>(args.x[i] - args.zero_point) * args.scale;
}

}  // namespace pare::kernels
