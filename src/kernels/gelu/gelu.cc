#include "pare/kernels/gelu/gelu.h"

#include "pare/base/error.h"
#include "pare/format/real_functions.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/real/store_real.h"

namespace pare::kernels {

std::span<const GeluKernel> gelu_kernels() {
  static constexpr GeluKernel kTable[] = {
    {"gelu_f32_scalar", Isa::kScalar, reference_gelu},
#if defined(__x86_64__)
    {"gelu_f32_avx2", Isa::kAvx2, run_gelu_avx2},
    {"gelu_f32_avx512vnni", Isa::kAvx512Vnni, run_gelu_avx512},
#endif
  };
  return kTable;
}

const GeluKernel& find_gelu_kernel(Isa isa) {
  const GeluKernel* found = strongest(gelu_kernels(), isa, [](const GeluKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_gelu(const GeluArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) store_real(args.y, i, format::gelu(args.x[i]));
}

}  // namespace pare::kernels
