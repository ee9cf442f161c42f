// Y[i] = format::dequantize(X[i]) = float(X[i] - zero_point) * scale     X uint8, one scale and zero point
//
// Preconditions: the zero point within [0, 255]. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/dequantize/dequantize_args.h"

namespace pare::kernels {

struct DequantizeKernel {
  const char* name;  // dequantize_u8_f32_<isa>
  Isa isa;
  // Writes elements [begin, end).
  void (*run)(const DequantizeArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const DequantizeKernel> dequantize_kernels();
[[nodiscard]] const DequantizeKernel& find_dequantize_kernel(Isa isa);

// The semantics: elements [0, elems).
void reference_dequantize(const DequantizeArgs& args, std::int64_t elems);

}  // namespace pare::kernels
