// Y[b, oy, ox, c] = requantize(bias[c] + sum over ky, kx of (X[b, iy, ix, c] - x_zero_point) * W[c, ky, kx])
//                   iy = oy * stride_h + ky * dilation_h - pad_top, ix likewise
//
// One filter a channel (ONNX: Conv with group = channels). uint8 codes, NHWC; accumulators are exact int32; requantize
// is format::requantize(acc, multiplier[c], y_zero_point, {qmin, 255}). Taps in the padding are real 0 and do not take
// part. Preconditions as in kernels/epilogue.h. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/depthwise/depthwise_args.h"

namespace pare::kernels {

struct DepthwiseKernel {
  const char* name;  // depthwise_u8_s8_<isa>
  Isa isa;
  const char* note;  // what a reader of the plan should know, or ""
  // Bytes that pack() writes; the caller aligns them to 64.
  std::size_t (*packed_bytes)(const DepthwiseWeights& weights);
  void (*pack)(const DepthwiseWeights& weights, void* packed);
  // Computes output rows [row_begin, row_end), where row r is image r / out_h, line r % out_h.
  void (*run)(const DepthwiseArgs& args, std::int64_t row_begin, std::int64_t row_end);
};

[[nodiscard]] std::span<const DepthwiseKernel> depthwise_kernels();
[[nodiscard]] const DepthwiseKernel& find_depthwise_kernel(Isa isa);

// The semantics: rows [0, rows) of Y (`args.packed` is not read).
void reference_depthwise(const DepthwiseArgs& args, const DepthwiseWeights& weights, std::int64_t rows);

}  // namespace pare::kernels
