// Operands of a layer normalization: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

#include "pare/kernels/real/real_output.h"

namespace pare::kernels {

struct LayerNormArgs {
  std::int64_t features = 0;
  const float* x = nullptr;       // [rows][features]
  const float* weight = nullptr;  // [features]
  const float* bias = nullptr;    // [features]
  float epsilon = 1e-5F;
  RealOutput y;
};

#if defined(__x86_64__)
void run_layer_norm_avx2(const LayerNormArgs& args, std::int64_t begin, std::int64_t end);
void run_layer_norm_avx512(const LayerNormArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
