#include "pare/kernels/pool/max_pool.h"

#include "pare/base/error.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

void run_scalar(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t channels = args.channels;
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* image = args.x + row / args.out_h * args.in_h * args.in_w * channels;
    const std::int64_t top = row % args.out_h * args.stride_h - args.pad_top;
    for (std::int64_t ox = 0; ox < args.out_w; ++ox) {
      const std::int64_t left = ox * args.stride_w - args.pad_left;
      std::uint8_t* y = args.y + (row * args.out_w + ox) * channels;
      for (std::int64_t c = 0; c < channels; ++c) y[c] = 0;
      for (std::int64_t ky = 0; ky < args.kernel_h; ++ky) {
        const std::int64_t iy = top + ky * args.dilation_h;
        if (iy < 0 || iy >= args.in_h) continue;
        for (std::int64_t kx = 0; kx < args.kernel_w; ++kx) {
          const std::int64_t ix = left + kx * args.dilation_w;
          if (ix < 0 || ix >= args.in_w) continue;
          const std::uint8_t* x = image + (iy * args.in_w + ix) * channels;
          for (std::int64_t c = 0; c < channels; ++c) y[c] = x[c] > y[c] ? x[c] : y[c];
        }
      }
    }
  }
}

}  // namespace

std::span<const MaxPoolKernel> max_pool_kernels() {
  static constexpr MaxPoolKernel kTable[] = {
    {"maxpool_u8_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"maxpool_u8_avx2", Isa::kAvx2, run_max_pool_avx2},
    {"maxpool_u8_avx512vnni", Isa::kAvx512Vnni, run_max_pool_avx512},
#endif
  };
  return kTable;
}

const MaxPoolKernel& find_max_pool_kernel(Isa isa) {
  const MaxPoolKernel* found = strongest(max_pool_kernels(), isa, [](const MaxPoolKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_max_pool(const MaxPoolArgs& args, std::int64_t rows) {
  for (std::int64_t index = 0; index < rows * args.out_w * args.channels; ++index) {
    const std::int64_t c = index % args.channels;
    const std::int64_t ox = index / args.channels % args.out_w;
    const std::int64_t row = index / args.channels / args.out_w;
    std::uint8_t largest = 0;
    for (std::int64_t tap = 0; tap < args.kernel_h * args.kernel_w; ++tap) {
      const std::int64_t iy = row % args.out_h * args.stride_h + tap / args.kernel_w * args.dilation_h - args.pad_top;
      const std::int64_t ix = ox * args.stride_w + tap % args.kernel_w * args.dilation_w - args.pad_left;
      if (iy < 0 || iy >= args.in_h || ix < 0 || ix >= args.in_w) continue;
      const std::uint8_t x = args.x[((row / args.out_h * args.in_h + iy) * args.in_w + ix) * args.channels + c];
      if (x > largest) largest = x;
    }
    args.y[index] = largest;
  }
}

}  // namespace pare::kernels
