// Operands of a quantized convolution (qconv.h), and what the kernels of its table are made from. Includes nothing that
// files compiled for one instruction set may not include.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/epilogue.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

struct QConvShape {
  std::int64_t in_h = 0, in_w = 0, in_c = 0;
  std::int64_t out_h = 0, out_w = 0, out_c = 0;
  std::int64_t kernel_h = 0, kernel_w = 0;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0;
};

struct QConvArgs {
  QConvShape shape;
  const std::uint8_t* x = nullptr;  // [batch][in_h][in_w][in_c]
  std::int32_t x_zero_point = 0;
  const void* packed = nullptr;  // what pack() wrote
  void* y = nullptr;             // [batch][out_h][out_w][out_c]
  Epilogue epilogue;
};

// Implementations, named as the table names them. The packings of the scalar ones are dot/dot_s16.h's.
inline std::size_t qconv_no_scratch(const QConvArgs& /*args*/) { return 0; }
void qconv_run_s16(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);

// Of tile/tile.h's packings, which args.packed must point to.
std::size_t qconv_tile_scratch(const QConvArgs& args);
void qconv_run_avx2(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);
void qconv_run_avx512vnni(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);
void qconv_run_avx512vbmi(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);
void qconv_run_neon_dotprod(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);
void qconv_run_neon_i8mm(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);

// Of block/block_tile.h's packing.
std::size_t qconv_block_scratch(const QConvArgs& args);
void qconv_run_block_avx512vnni(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);

}  // namespace pare::kernels
