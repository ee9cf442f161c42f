#include "pare/kernels/quantize/quantize.h"

#include "pare/base/error.h"
#include "pare/format/affine.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/quantize/planes.h"

namespace pare::kernels {

namespace {

void run_table_scalar(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  for_each_plane(args, begin, end, [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t last) {
    const std::uint8_t* x = args.raw + (image * args.channels + c) * args.pixels;
    const std::uint8_t* table = args.table + c * 256;
    std::uint8_t* y = args.y + image * args.pixels * args.channels + c;
    for (std::int64_t p = first; p < last; ++p) y[p * args.channels] = table[x[p]];
  });
}

void run_affine_scalar(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const float reciprocal = 1.0F / args.scale;
  const std::int32_t zero_point = args.zero_point;
  const auto lo = static_cast<float>(0 - zero_point);
  const auto hi = static_cast<float>(255 - zero_point);
  for_each_plane(args, begin, end, [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t last) {
    const float* x = args.real + (image * args.channels + c) * args.pixels;
    std::uint8_t* y = args.y + image * args.pixels * args.channels + c;
    for (std::int64_t p = first; p < last; ++p) {
      const float scaled = x[p] * reciprocal;
      const float number = scaled == scaled ? scaled : 0.0F;
      const float above = number < lo ? lo : number;
      const float clamped = above > hi ? hi : above;
      y[p * args.channels] = static_cast<std::uint8_t>(round_small(clamped) + zero_point);
    }
  });
}

const QuantizeKernel& find(std::span<const QuantizeKernel> table, Isa isa) {
  const QuantizeKernel* found = strongest(table, isa, [](const QuantizeKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

}  // namespace

std::span<const QuantizeKernel> quantize_table_kernels() {
  static constexpr QuantizeKernel kTable[] = {
    {"quantize_u8_table_scalar", Isa::kScalar, run_table_scalar},
#if defined(__x86_64__)
    {"quantize_u8_table_avx512vbmi", Isa::kAvx512Vbmi, run_quantize_table_avx512vbmi},
#endif
  };
  return kTable;
}

std::span<const QuantizeKernel> quantize_affine_kernels() {
  static constexpr QuantizeKernel kTable[] = {
    {"quantize_f32_u8_scalar", Isa::kScalar, run_affine_scalar},
#if defined(__x86_64__)
    {"quantize_f32_u8_avx2", Isa::kAvx2, run_quantize_affine_avx2},
    {"quantize_f32_u8_avx512vnni", Isa::kAvx512Vnni, run_quantize_affine_avx512},
#endif
  };
  return kTable;
}

const QuantizeKernel& find_quantize_table_kernel(Isa isa) { return find(quantize_table_kernels(), isa); }
const QuantizeKernel& find_quantize_affine_kernel(Isa isa) { return find(quantize_affine_kernels(), isa); }

void reference_quantize_table(const QuantizeArgs& args, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t c = 0; c < args.channels; ++c) {
      const std::uint8_t x = args.raw[(i / args.pixels * args.channels + c) * args.pixels + i % args.pixels];
      args.y[i * args.channels + c] = args.table[c * 256 + x];
    }
  }
}

void reference_quantize_affine(const QuantizeArgs& args, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t c = 0; c < args.channels; ++c) {
      const float x = args.real[(i / args.pixels * args.channels + c) * args.pixels + i % args.pixels];
      const std::int32_t code = format::quantize(x, {args.scale, args.zero_point}, format::kUint8Range);
      args.y[i * args.channels + c] = static_cast<std::uint8_t>(code);
    }
  }
}

}  // namespace pare::kernels
