// Four output pixels at a time: what they read is widened to int16 on the stack, chunk by chunk, with zeros where a tap
// lies in the padding, and multiplied with weights that were widened when packed (dot/dot_s16.h).
#include "pare/kernels/dot/dot_s16.h"
#include "pare/kernels/qconv/qconv_args.h"

namespace pare::kernels {

namespace {

std::int64_t at_least(std::int64_t value, std::int64_t limit) { return value < limit ? limit : value; }
std::int64_t at_most(std::int64_t value, std::int64_t limit) { return value > limit ? limit : value; }

// Positions [k_begin, k_end) of what output pixel `pixel` reads, in the order ky, kx, i; then zeros up to the padding.
// NHWC makes all taps of a kernel line one run of memory where dilation_w = 1; otherwise a run is a single tap.
void gather_pixel(const QConvArgs& args, std::int64_t pixel, std::int64_t k_begin, std::int64_t k_end,
                  std::int16_t* out) {
  const QConvShape& s = args.shape;
  const std::int64_t image = pixel / (s.out_h * s.out_w);
  const std::int64_t top = pixel / s.out_w % s.out_h * s.stride_h - s.pad_top;
  const std::int64_t left = pixel % s.out_w * s.stride_w - s.pad_left;
  const std::int64_t run_taps = s.dilation_w == 1 ? s.kernel_w : 1;
  const std::int64_t runs_per_line = s.kernel_w / run_taps;
  const std::int64_t run_elems = run_taps * s.in_c;
  const auto zero_point = static_cast<std::int16_t>(args.x_zero_point);
  std::int64_t k = k_begin;
  while (k < k_end) {
    const std::int64_t run = k / run_elems;
    const std::int64_t iy = top + run / runs_per_line * s.dilation_h;
    const std::int64_t ix = left + run % runs_per_line * s.dilation_w;
    // Elements of this run that are wanted, and those among them that lie inside the image.
    const std::int64_t begin = k - run * run_elems;
    const std::int64_t end = at_most(run_elems, begin + (k_end - k));
    const bool inside = iy >= 0 && iy < s.in_h;
    const std::int64_t first = inside ? at_most(at_least(-ix * s.in_c, begin), end) : end;
    const std::int64_t last = inside ? at_least(at_most((s.in_w - ix) * s.in_c, end), first) : end;
    std::int16_t* to = out + (k - k_begin);
    for (std::int64_t i = begin; i < first; ++i) to[i - begin] = 0;
    if (first < last) {
      const std::uint8_t* x = args.x + ((image * s.in_h + iy) * s.in_w + ix) * s.in_c;
      for (std::int64_t i = first; i < last; ++i) to[i - begin] = static_cast<std::int16_t>(x[i] - zero_point);
    }
    for (std::int64_t i = last; i < end; ++i) to[i - begin] = 0;
    k += end - begin;
  }
  for (std::int64_t i = k_end - k_begin; i < dot_padded(k_end - k_begin); ++i) out[i] = 0;
}

}  // namespace

void qconv_run_s16(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* /*scratch*/) {
  alignas(64) std::int16_t a[kDotRows * kDotChunk];
  alignas(64) std::int32_t acc[kDotRows * kDotBlock];
  const QConvShape& s = args.shape;
  const std::int64_t k_elems = s.kernel_h * s.kernel_w * s.in_c;
  const std::int64_t w_stride = dot_padded(k_elems);
  const auto* packed = static_cast<const std::int16_t*>(args.packed);
  const std::int64_t out_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : sizeof(float);
  const std::int64_t pixel_end = row_end * s.out_w;
  for (std::int64_t pixel = row_begin * s.out_w; pixel < pixel_end; pixel += kDotRows) {
    bool gathered = false;
    for (std::int64_t o = 0; o < s.out_c; o += kDotBlock) {
      const std::int64_t channels = at_most(kDotBlock, s.out_c - o);
      for (std::int32_t& sum : acc) sum = 0;
      for (std::int64_t k = 0; k < k_elems; k += kDotChunk) {
        const std::int64_t k_end = at_most(k_elems, k + kDotChunk);
        if (!gathered) {
          for (std::int64_t r = 0; r < kDotRows; ++r) {
            gather_pixel(args, at_most(pixel + r, pixel_end - 1), k, k_end, a + r * kDotChunk);
          }
          gathered = k_elems <= kDotChunk;
        }
        dot_s16_block(a, kDotChunk, packed + o * w_stride + k, w_stride, dot_padded(k_end - k), channels, acc);
      }
      for (std::int64_t r = 0; r < kDotRows && pixel + r < pixel_end; ++r) {
        auto* out = static_cast<unsigned char*>(args.y) + ((pixel + r) * s.out_c + o) * out_bytes;
        store_epilogue(args.epilogue, acc + r * kDotBlock, pixel + r, o, channels, out);
      }
    }
  }
}

}  // namespace pare::kernels
