#include "pare/kernels/depthwise/depthwise.h"

#include <cstring>

#include "pare/base/error.h"
#include "pare/format/affine.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

// Packed: bias [channels] int32, multiplier [channels] float, weights [taps][channels] int8.

std::size_t packed_bytes_scalar(const DepthwiseWeights& weights) {
  const auto taps = weights.kernel_h * weights.kernel_w;
  return static_cast<std::size_t>(weights.channels * (8 + taps));
}

void pack_scalar(const DepthwiseWeights& weights, void* packed) {
  const std::int64_t channels = weights.channels;
  const std::int64_t taps = weights.kernel_h * weights.kernel_w;
  auto* out = static_cast<std::int8_t*>(packed);
  std::memcpy(out, weights.bias, static_cast<std::size_t>(4 * channels));
  std::memcpy(out + 4 * channels, weights.multiplier, static_cast<std::size_t>(4 * channels));
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t c = 0; c < channels; ++c) out[(8 + tap) * channels + c] = weights.values[c * taps + tap];
  }
}

constexpr std::int64_t kBlock = 64;  // channels whose accumulators stay on the stack

// One output pixel of `block` channels from `c` on.
void run_pixel(const DepthwiseArgs& s, const std::uint8_t* image, std::int64_t top, std::int64_t left, std::int64_t c,
               std::int64_t block, std::uint8_t* y) {
  const auto* bias = static_cast<const std::int32_t*>(s.packed);
  const auto* multiplier = static_cast<const float*>(s.packed) + s.channels;
  const auto* weights = static_cast<const std::int8_t*>(s.packed) + 8 * s.channels;
  std::int32_t acc[kBlock];
  for (std::int64_t j = 0; j < block; ++j) acc[j] = bias[c + j];
  for (std::int64_t ky = 0; ky < s.kernel_h; ++ky) {
    const std::int64_t iy = top + ky * s.dilation_h;
    if (iy < 0 || iy >= s.in_h) continue;
    for (std::int64_t kx = 0; kx < s.kernel_w; ++kx) {
      const std::int64_t ix = left + kx * s.dilation_w;
      if (ix < 0 || ix >= s.in_w) continue;
      const std::uint8_t* x = image + (iy * s.in_w + ix) * s.channels + c;
      const std::int8_t* w = weights + (ky * s.kernel_w + kx) * s.channels + c;
      for (std::int64_t j = 0; j < block; ++j) acc[j] += (x[j] - s.x_zero_point) * w[j];
    }
  }
  for (std::int64_t j = 0; j < block; ++j) {
    y[j] = requantize_u8(acc[j], multiplier[c + j], s.y_zero_point, s.qmin, 255);
  }
}

void run_scalar(const DepthwiseArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const DepthwiseArgs s = args;
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* image = s.x + row / s.out_h * s.in_h * s.in_w * s.channels;
    const std::int64_t top = row % s.out_h * s.stride_h - s.pad_top;
    for (std::int64_t ox = 0; ox < s.out_w; ++ox) {
      std::uint8_t* y = s.y + (row * s.out_w + ox) * s.channels;
      for (std::int64_t c = 0; c < s.channels; c += kBlock) {
        const std::int64_t block = s.channels - c < kBlock ? s.channels - c : kBlock;
        run_pixel(s, image, top, ox * s.stride_w - s.pad_left, c, block, y + c);
      }
    }
  }
}

}  // namespace

std::span<const DepthwiseKernel> depthwise_kernels() {
  static constexpr DepthwiseKernel kTable[] = {
    {"depthwise_u8_s8_scalar", Isa::kScalar, "", packed_bytes_scalar, pack_scalar, run_scalar},
#if defined(__x86_64__)
    {"depthwise_u8_s8_avx512vnni", Isa::kAvx512Vnni, "four rows of a column in one product",
     depthwise_packed_bytes_avx512, pack_depthwise_avx512, run_depthwise_avx512},
#endif
  };
  return kTable;
}

const DepthwiseKernel& find_depthwise_kernel(Isa isa) {
  const DepthwiseKernel* found = strongest(depthwise_kernels(), isa, [](const DepthwiseKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_depthwise(const DepthwiseArgs& args, const DepthwiseWeights& weights, std::int64_t rows) {
  for (std::int64_t index = 0; index < rows * args.out_w * args.channels; ++index) {
    const std::int64_t c = index % args.channels;
    const std::int64_t ox = index / args.channels % args.out_w;
    const std::int64_t row = index / args.channels / args.out_w;
    std::int64_t acc = weights.bias[c];
    for (std::int64_t tap = 0; tap < args.kernel_h * args.kernel_w; ++tap) {
      const std::int64_t iy = row % args.out_h * args.stride_h + tap / args.kernel_w * args.dilation_h - args.pad_top;
      const std::int64_t ix = ox * args.stride_w + tap % args.kernel_w * args.dilation_w - args.pad_left;
      if (iy < 0 || iy >= args.in_h || ix < 0 || ix >= args.in_w) continue;
      const std::uint8_t x = args.x[((row / args.out_h * args.in_h + iy) * args.in_w + ix) * args.channels + c];
      acc += (x - args.x_zero_point) * weights.values[c * args.kernel_h * args.kernel_w + tap];
    }
    args.y[index] = static_cast<std::uint8_t>(
        format::requantize(static_cast<std::int32_t>(acc), weights.multiplier[c], args.y_zero_point, {args.qmin, 255}));
  }
}

}  // namespace pare::kernels
