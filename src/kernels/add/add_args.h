// Operands of an addition: a plain struct for codes, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct AddArgs {
  const std::uint8_t* a = nullptr;  // a, b and y have the same order of elements; a may be b
  const std::uint8_t* b = nullptr;
  std::uint8_t* y = nullptr;  // overlaps neither
  float a_scale = 1.0F;
  float b_scale = 1.0F;
  float y_scale = 1.0F;
  std::int32_t a_zero_point = 0;
  std::int32_t b_zero_point = 0;
  std::int32_t y_zero_point = 0;
  std::int32_t qmin = 0;  // a fused Relu is qmin = y_zero_point
};

#if defined(__x86_64__)
void run_add_avx2(const AddArgs& args, std::int64_t begin, std::int64_t end);
void run_add_avx512(const AddArgs& args, std::int64_t begin, std::int64_t end);
void run_add_real_avx2(const float* a, const float* b, float* y, std::int64_t elems);
void run_add_real_avx512(const float* a, const float* b, float* y, std::int64_t elems);
#endif

}  // namespace pare::kernels
