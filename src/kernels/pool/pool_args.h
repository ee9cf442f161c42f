// Operands of pooling kernels: plain structs, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct MaxPoolArgs {
  std::int64_t in_h = 0, in_w = 0, channels = 0;
  std::int64_t out_h = 0, out_w = 0;
  std::int64_t kernel_h = 0, kernel_w = 0;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0;
  const std::uint8_t* x = nullptr;  // [batch][in_h][in_w][channels]
  std::uint8_t* y = nullptr;        // [batch][out_h][out_w][channels]
};

struct GlobalAveragePoolArgs {
  std::int64_t pixels = 0;  // of one image, at most format::kMaxAveragedPixels
  std::int64_t channels = 0;
  const std::uint8_t* x = nullptr;  // [batch][pixels][channels]
  std::uint8_t* y = nullptr;        // [batch][channels]
  float x_scale = 1.0F;
  float y_scale = 1.0F;
  std::int32_t x_zero_point = 0;
  std::int32_t y_zero_point = 0;
};

#if defined(__x86_64__)
void run_max_pool_avx2(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end);
void run_max_pool_avx512(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end);
void run_global_average_pool_avx2(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end);
void run_global_average_pool_avx512(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
