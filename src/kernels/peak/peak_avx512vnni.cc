#include <immintrin.h>

#include "pare/kernels/peak/peak_kernels.h"

namespace pare::kernels {

std::int64_t run_peak_avx512vnni(std::int64_t iterations) {
  __m512i ones = _mm512_set1_epi8(1);
  __m512i acc[kPeakSums];
  for (__m512i& sum : acc) sum = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kPeakSums; ++j) {
      asm volatile("" : "+v"(ones));
      acc[j] = _mm512_dpbusd_epi32(acc[j], ones, ones);
    }
  }
  std::int64_t total = 0;
  for (const __m512i sum : acc) {
    alignas(64) std::int32_t lanes[16];
    _mm512_store_si512(lanes, sum);
    for (const std::int32_t lane : lanes) total += lane;
  }
  return total;
}

}  // namespace pare::kernels
