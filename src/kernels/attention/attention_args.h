// Operands of attention on codes: plain structs, for files of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/real/real_output.h"

namespace pare::kernels {

struct AttentionArgs {
  const std::uint8_t* q = nullptr;  // q, k, v and y: [batch][length][heads][head_elems]
  const std::uint8_t* k = nullptr;
  const std::uint8_t* v = nullptr;
  std::int64_t length = 0;
  std::int64_t heads = 1;
  std::int64_t head_elems = 0;
  std::int32_t q_zero_point = 0;
  std::int32_t v_zero_point = 0;
  float score_scale = 1.0F;  // q's scale * k's / sqrt(head_elems)
  float v_scale = 1.0F;
  RealOutput y;

  [[nodiscard]] std::int64_t stride() const { return heads * head_elems; }
};

// Whole rows of it, in lanes (real/lanes.h).
struct AttentionRows {
  // codes[j] = rint(255 e^(scores[j] - greatest score)); gives 1 / sum of the codes.
  float (*softmax)(const float* scores, std::int64_t length, std::uint8_t* codes);
  // Writes elements [first, first + count) of y from sums of codes * (v - 128).
  void (*finish)(const AttentionArgs& args, const float* sums, float inverse, std::int64_t first, std::int64_t count);
};

std::size_t attention_row_scratch(const AttentionArgs& args);
std::size_t attention_tile_scratch(const AttentionArgs& args);
#if defined(__x86_64__)
float attention_softmax_avx2(const float* scores, std::int64_t length, std::uint8_t* codes);
float attention_softmax_avx512(const float* scores, std::int64_t length, std::uint8_t* codes);
void attention_finish_avx2(const AttentionArgs& args, const float* sums, float inverse, std::int64_t first,
                           std::int64_t count);
void attention_finish_avx512(const AttentionArgs& args, const float* sums, float inverse, std::int64_t first,
                             std::int64_t count);
void run_attention_avx2(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch);
void run_attention_avx512(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch);
#endif

}  // namespace pare::kernels
