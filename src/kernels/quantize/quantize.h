// Images to uint8 codes, NCHW to NHWC. Pixel p of image b is position p = y * width + x of a plane of `pixels`.
//
//   table:  Y[b, p, c] = table[c][X[b, c, p]]                                        X uint8
//   affine: Y[b, p, c] = format::quantize(X[b, c, p], {scale, zero_point}, [0, 255]) X float32; NaN gives zero_point
//
// A raw pixel has 256 values, so normalization and quantization together are one look-up. Rules for kernels:
// qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/quantize/quantize_args.h"

namespace pare::kernels {

struct QuantizeKernel {
  const char* name;  // quantize_<input>_<isa>
  Isa isa;
  // Writes pixels [begin, end), where pixel i is image i / pixels, position i % pixels.
  void (*run)(const QuantizeArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const QuantizeKernel> quantize_table_kernels();
[[nodiscard]] std::span<const QuantizeKernel> quantize_affine_kernels();
[[nodiscard]] const QuantizeKernel& find_quantize_table_kernel(Isa isa);
[[nodiscard]] const QuantizeKernel& find_quantize_affine_kernel(Isa isa);

// The semantics: pixels [0, count).
void reference_quantize_table(const QuantizeArgs& args, std::int64_t count);
void reference_quantize_affine(const QuantizeArgs& args, std::int64_t count);

}  // namespace pare::kernels
