// Three instructions a product, as in tile_avx2.h: without VNNI there is no exact dot product in one.
#include <immintrin.h>

#include "pare/kernels/peak/peak_kernels.h"

namespace pare::kernels {

std::int64_t run_peak_avx2(std::int64_t iterations) {
  __m256i bytes = _mm256_set1_epi8(1);
  __m256i words = _mm256_set1_epi16(1);
  __m256i acc[kPeakSums];
  for (__m256i& sum : acc) sum = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kPeakSums; ++j) {
      asm volatile("" : "+x"(bytes));  // not to be computed once for all
      acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, bytes), words));
    }
  }
  std::int64_t total = 0;
  for (const __m256i sum : acc) {
    alignas(32) std::int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
    for (const std::int32_t lane : lanes) total += lane;
  }
  return total;
}

}  // namespace pare::kernels
