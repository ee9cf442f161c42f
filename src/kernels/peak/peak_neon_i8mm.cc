#include <arm_neon.h>

#include "pare/kernels/peak/peak_kernels.h"

namespace pare::kernels {

std::int64_t run_peak_neon_i8mm(std::int64_t iterations) {
  int8x16_t ones = vdupq_n_s8(1);
  int32x4_t acc[kPeakSums];
  for (int32x4_t& sum : acc) sum = vdupq_n_s32(0);
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kPeakSums; ++j) {
      asm volatile("" : "+w"(ones));
      acc[j] = vusmmlaq_s32(acc[j], vreinterpretq_u8_s8(ones), ones);
    }
  }
  std::int64_t total = 0;
  for (const int32x4_t sum : acc) total += vaddlvq_s32(sum);
  return total;
}

}  // namespace pare::kernels
