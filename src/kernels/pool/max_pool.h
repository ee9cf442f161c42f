// Y[b, oy, ox, c] = max over ky, kx of X[b, iy, ix, c]     iy = oy * stride_h + ky * dilation_h - pad_top, ix likewise
//
// uint8 codes, NHWC. Taps in the padding do not take part; a window wholly in the padding gives 0. The scale of codes
// is positive, so the largest code is the largest real. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/pool/pool_args.h"

namespace pare::kernels {

struct MaxPoolKernel {
  const char* name;  // maxpool_u8_<isa>
  Isa isa;
  // Computes output rows [row_begin, row_end), where row r is image r / out_h, line r % out_h.
  void (*run)(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end);
};

[[nodiscard]] std::span<const MaxPoolKernel> max_pool_kernels();
[[nodiscard]] const MaxPoolKernel& find_max_pool_kernel(Isa isa);

// The semantics: rows [0, rows) of Y.
void reference_max_pool(const MaxPoolArgs& args, std::int64_t rows);

}  // namespace pare::kernels
