// Operands of a depthwise convolution: plain structs, for files of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pare::kernels {

struct DepthwiseArgs {
  std::int64_t in_h = 0, in_w = 0, channels = 0;
  std::int64_t out_h = 0, out_w = 0;
  std::int64_t kernel_h = 0, kernel_w = 0;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0;
  const std::uint8_t* x = nullptr;  // [batch][in_h][in_w][channels]
  std::uint8_t* y = nullptr;        // [batch][out_h][out_w][channels]
  const void* packed = nullptr;
  std::int32_t x_zero_point = 0;
  std::int32_t y_zero_point = 0;
  std::int32_t qmin = 0;  // a fused Relu is qmin = y_zero_point
};

// What a layer knows when it is planned, all of it to be packed.
struct DepthwiseWeights {
  std::int64_t channels = 0, kernel_h = 0, kernel_w = 0;
  const std::int8_t* values = nullptr;  // [channels][kernel_h][kernel_w]
  const std::int32_t* bias = nullptr;   // [channels]
  const float* multiplier = nullptr;    // [channels]
  std::int32_t x_zero_point = 0;
};

#if defined(__x86_64__)
std::size_t depthwise_packed_bytes_avx512(const DepthwiseWeights& weights);
void pack_depthwise_avx512(const DepthwiseWeights& weights, void* packed);
void run_depthwise_avx512(const DepthwiseArgs& args, std::int64_t row_begin, std::int64_t row_end);
#endif

}  // namespace pare::kernels
