#include "pare/kernels/transpose/transpose.h"

#include "pare/base/error.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

// 16 planes at a time, so that a cache line of X serves as many writes as it has elements, within few planes.
void run_scalar(const TransposeArgs& args, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kPlanes = 16;
  for (std::int64_t image = begin; image < end; ++image) {
    const std::uint8_t* x = args.x + image * args.pixels * args.channels;
    std::uint8_t* y = args.y + image * args.pixels * args.channels;
    for (std::int64_t c = 0; c < args.channels; c += kPlanes) {
      const std::int64_t c_end = c + kPlanes < args.channels ? c + kPlanes : args.channels;
      for (std::int64_t p = 0; p < args.pixels; ++p) {
        for (std::int64_t plane = c; plane < c_end; ++plane) {
          y[plane * args.pixels + p] = x[p * args.channels + plane];
        }
      }
    }
  }
}

}  // namespace

std::span<const TransposeKernel> transpose_kernels() {
  static constexpr TransposeKernel kTable[] = {
    {"nhwc_to_nchw_u8_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"nhwc_to_nchw_u8_avx2", Isa::kAvx2, run_transpose_avx2},
#endif
  };
  return kTable;
}

const TransposeKernel& find_transpose_kernel(Isa isa) {
  const TransposeKernel* found = strongest(transpose_kernels(), isa, [](const TransposeKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_transpose(const TransposeArgs& args, std::int64_t batch) {
  for (std::int64_t i = 0; i < batch * args.channels * args.pixels; ++i) {
    const std::int64_t image = i / (args.channels * args.pixels);
    const std::int64_t c = i / args.pixels % args.channels;
    const std::int64_t p = i % args.pixels;
    args.y[i] = args.x[(image * args.pixels + p) * args.channels + c];
  }
}

}  // namespace pare::kernels
