// Y[b, c] = format::average_code(sum over p of (X[b, p, c] - x_zero_point), x_scale, pixels, y)
//
// uint8 codes, NHWC; the sum is exact in int32. Preconditions: 1 <= pixels <= format::kMaxAveragedPixels, zero points
// within [0, 255], scales as verify accepts them. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/pool/pool_args.h"

namespace pare::kernels {

struct GlobalAveragePoolKernel {
  const char* name;  // avgpool_global_u8_<isa>
  Isa isa;
  // Images [begin, end).
  void (*run)(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const GlobalAveragePoolKernel> global_average_pool_kernels();
[[nodiscard]] const GlobalAveragePoolKernel& find_global_average_pool_kernel(Isa isa);

// The semantics: images [0, batch).
void reference_global_average_pool(const GlobalAveragePoolArgs& args, std::int64_t batch);

}  // namespace pare::kernels
