#include "pare/kernels/attention/attention_lanes.h"

namespace pare::kernels {

float attention_softmax_avx512(const float* scores, std::int64_t length, std::uint8_t* codes) {
  return softmax_row(scores, length, codes);
}

void attention_finish_avx512(const AttentionArgs& args, const float* sums, float inverse, std::int64_t first,
                             std::int64_t count) {
  finish_row(args, sums, inverse, first, count);
}

}  // namespace pare::kernels
