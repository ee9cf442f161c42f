// Y[i] = A[i] + B[i]     float32: a residual beside layers that give float32. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"

namespace pare::kernels {

struct AddRealKernel {
  const char* name;  // add_f32_<isa>
  Isa isa;
  // Writes `elems` elements of y, which overlaps neither a nor b.
  void (*run)(const float* a, const float* b, float* y, std::int64_t elems);
};

[[nodiscard]] std::span<const AddRealKernel> add_real_kernels();
[[nodiscard]] const AddRealKernel& find_add_real_kernel(Isa isa);

}  // namespace pare::kernels
