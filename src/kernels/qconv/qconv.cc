#include "pare/kernels/qconv/qconv.h"

#include "pare/base/error.h"
#include "pare/kernels/block/block_tile.h"
#include "pare/kernels/dot/dot_s16.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/reference_epilogue.h"
#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

std::span<const QConvKernel> qconv_kernels() {
  static constexpr QConvKernel kTable[] = {
#define PARE_QCONV_KERNEL(name, isa, format, uses_zeros, packed_bytes, pack, scratch_bytes, run, note) \
  {#name, Isa::isa, WeightFormat::format, note, uses_zeros, packed_bytes, pack, scratch_bytes, run},
#include "pare/kernels/qconv/qconv_kernels.inc"
#undef PARE_QCONV_KERNEL
  };
  return kTable;
}

const QConvKernel& find_qconv_kernel(WeightFormat format, Isa isa) {
  const QConvKernel* found =
      strongest(qconv_kernels(), isa, [format](const QConvKernel& kernel) { return kernel.format == format; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_qconv(const QConvArgs& args, const CanonicalWeights& weights, WeightFormat format, std::int64_t rows) {
  const QConvShape& s = args.shape;
  for (std::int64_t pixel = 0; pixel < rows * s.out_w; ++pixel) {
    const std::int64_t image = pixel / (s.out_h * s.out_w);
    const std::int64_t oy = pixel / s.out_w % s.out_h;
    const std::int64_t ox = pixel % s.out_w;
    for (std::int64_t o = 0; o < s.out_c; ++o) {
      std::int64_t acc = args.epilogue.bias[o];
      for (std::int64_t tap = 0; tap < s.kernel_h * s.kernel_w; ++tap) {
        const std::int64_t iy = oy * s.stride_h + tap / s.kernel_w * s.dilation_h - s.pad_top;
        const std::int64_t ix = ox * s.stride_w + tap % s.kernel_w * s.dilation_w - s.pad_left;
        if (iy < 0 || iy >= s.in_h || ix < 0 || ix >= s.in_w) continue;
        const std::uint8_t* x = args.x + ((image * s.in_h + iy) * s.in_w + ix) * s.in_c;
        for (std::int64_t i = 0; i < s.in_c; ++i) {
          acc += (x[i] - args.x_zero_point) * weight_at(weights, format, o, tap * s.in_c + i);
        }
      }
      reference_epilogue(args.epilogue, acc, pixel, o, args.y, pixel * s.out_c + o);
    }
  }
}

}  // namespace pare::kernels
