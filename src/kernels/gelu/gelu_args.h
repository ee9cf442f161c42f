// Operands of the Gelu function: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

#include "pare/kernels/real/real_output.h"

namespace pare::kernels {

struct GeluArgs {
  const float* x = nullptr;
  RealOutput y;
};

#if defined(__x86_64__)
void run_gelu_avx2(const GeluArgs& args, std::int64_t begin, std::int64_t end);
void run_gelu_avx512(const GeluArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
