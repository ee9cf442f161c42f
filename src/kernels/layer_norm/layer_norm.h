// Rows of `features` numbers to mean 0 and variance 1, each feature then scaled and moved:
//
//   mean = sum x / n      d = x - mean      variance = sum d^2 / n      y = (d * (1 / sqrt(variance + epsilon))) * w +
//   b
//
// Sums are taken in 16 parts (format/real_functions.h), every operation is rounded to float32. ONNX's
// LayerNormalization over the last axis; the result as float32 or quantized to uint8 codes. Rules for kernels:
// qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/layer_norm/layer_norm_args.h"

namespace pare::kernels {

struct LayerNormKernel {
  const char* name;  // layer_norm_f32_<isa>
  Isa isa;
  // Writes rows [begin, end).
  void (*run)(const LayerNormArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const LayerNormKernel> layer_norm_kernels();
[[nodiscard]] const LayerNormKernel& find_layer_norm_kernel(Isa isa);

// The semantics, and the scalar kernel.
void reference_layer_norm(const LayerNormArgs& args, std::int64_t begin, std::int64_t end);

}  // namespace pare::kernels
