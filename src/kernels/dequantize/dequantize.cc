#include "pare/kernels/dequantize/dequantize.h"

#include "pare/base/error.h"
#include "pare/format/affine.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

void run_scalar(const DequantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const DequantizeArgs s = args;  // else the compiler must believe that a store to y changes it
  for (std::int64_t i = begin; i < end; ++i) s.y[i] = static_cast<float>(s.x[i] - s.zero_point) * s.scale;
}

}  // namespace

std::span<const DequantizeKernel> dequantize_kernels() {
  static constexpr DequantizeKernel kTable[] = {
    {"dequantize_u8_f32_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"dequantize_u8_f32_avx2", Isa::kAvx2, run_dequantize_avx2},
    {"dequantize_u8_f32_avx512vnni", Isa::kAvx512Vnni, run_dequantize_avx512},
#endif
  };
  return kTable;
}

const DequantizeKernel& find_dequantize_kernel(Isa isa) {
  const DequantizeKernel* found = strongest(dequantize_kernels(), isa, [](const DequantizeKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_dequantize(const DequantizeArgs& args, std::int64_t elems) {
  for (std::int64_t i = 0; i < elems; ++i) args.y[i] = format::dequantize(args.x[i], {args.scale, args.zero_point});
}

}  // namespace pare::kernels
