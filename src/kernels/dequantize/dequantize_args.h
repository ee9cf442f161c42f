// Operands of a dequantization: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct DequantizeArgs {
  const std::uint8_t* x = nullptr;
  float* y = nullptr;
  float scale = 1.0F;
  std::int32_t zero_point = 0;
};

#if defined(__x86_64__)
void run_dequantize_avx2(const DequantizeArgs& args, std::int64_t begin, std::int64_t end);
void run_dequantize_avx512(const DequantizeArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
