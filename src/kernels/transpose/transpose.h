// Y[b, c, p] = X[b, p, c]     NHWC to NCHW, p = y * width + x; uint8 codes
//
// Flatten needs it, because the columns of a Gemm's weight count in NCHW order, and so do taps. Rules for kernels:
// qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/transpose/transpose_args.h"

namespace pare::kernels {

struct TransposeKernel {
  const char* name;  // nhwc_to_nchw_u8_<isa>
  Isa isa;
  // Images [begin, end).
  void (*run)(const TransposeArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const TransposeKernel> transpose_kernels();
[[nodiscard]] const TransposeKernel& find_transpose_kernel(Isa isa);

// The semantics: images [0, batch).
void reference_transpose(const TransposeArgs& args, std::int64_t batch);

}  // namespace pare::kernels
