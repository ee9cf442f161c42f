// Y[i] = format::gelu(X[i]), as float32 or quantized to uint8 codes. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/gelu/gelu_args.h"

namespace pare::kernels {

struct GeluKernel {
  const char* name;  // gelu_f32_<isa>
  Isa isa;
  // Writes elements [begin, end).
  void (*run)(const GeluArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const GeluKernel> gelu_kernels();
[[nodiscard]] const GeluKernel& find_gelu_kernel(Isa isa);

// The semantics, and the scalar kernel.
void reference_gelu(const GeluArgs& args, std::int64_t begin, std::int64_t end);

}  // namespace pare::kernels
