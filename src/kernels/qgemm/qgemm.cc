#include "pare/kernels/qgemm/qgemm.h"

#include "pare/base/error.h"
#include "pare/kernels/block/block_tile.h"
#include "pare/kernels/dot/dot_s16.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/reference_epilogue.h"
#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

std::span<const QGemmKernel> qgemm_kernels() {
  static constexpr QGemmKernel kTable[] = {
#define PARE_QGEMM_KERNEL(name, isa, format, n_tile, uses_zeros, packed_bytes, pack, scratch_bytes, run, note) \
  {#name, Isa::isa, WeightFormat::format, n_tile, note, uses_zeros, packed_bytes, pack, scratch_bytes, run},
#include "pare/kernels/qgemm/qgemm_kernels.inc"
#undef PARE_QGEMM_KERNEL
  };
  return kTable;
}

const QGemmKernel& find_qgemm_kernel(WeightFormat format, Isa isa) {
  const QGemmKernel* found =
      strongest(qgemm_kernels(), isa, [format](const QGemmKernel& kernel) { return kernel.format == format; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_qgemm(const QGemmArgs& args, const CanonicalWeights& weights, WeightFormat format) {
  const Epilogue& epilogue = args.epilogue;
  for (std::int64_t m = 0; m < args.m; ++m) {
    for (std::int64_t n = 0; n < args.n; ++n) {
      std::int64_t acc = epilogue.bias[n];
      for (std::int64_t k = 0; k < args.k; ++k) {
        const std::int32_t a = args.a[m * args.a_stride_bytes + k];
        acc += (a - args.a_zero_point) * weight_at(weights, format, n, k);
      }
      reference_epilogue(epilogue, acc, m, n, args.c, m * args.c_stride_elems + n);
    }
  }
}

}  // namespace pare::kernels
