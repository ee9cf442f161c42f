// Operands of a quantization of images: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct QuantizeArgs {
  std::int64_t channels = 0;
  std::int64_t pixels = 0;              // of one plane
  const std::uint8_t* raw = nullptr;    // table: [batch][channels][pixels]
  const std::uint8_t* table = nullptr;  // table: [channels][256]
  const float* real = nullptr;          // affine: [batch][channels][pixels]
  float scale = 1.0F;                   // affine
  std::int32_t zero_point = 0;          // affine; within [0, 255]
  std::uint8_t* y = nullptr;            // [batch][pixels][channels]
};

#if defined(__x86_64__)
void run_quantize_affine_avx2(const QuantizeArgs& args, std::int64_t begin, std::int64_t end);
void run_quantize_affine_avx512(const QuantizeArgs& args, std::int64_t begin, std::int64_t end);
void run_quantize_table_avx512vbmi(const QuantizeArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
