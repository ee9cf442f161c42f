#include "pare/kernels/quantize_rows/quantize_rows.h"

#include <cmath>
#include <cstring>

#include "pare/base/error.h"
#include "pare/format/affine.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

void run_scalar(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end) {
  for (std::int64_t m = m_begin; m < m_end; ++m) {
    const float* x = args.x + m * args.x_stride_elems;
    std::uint8_t* codes = args.codes + m * args.codes_stride_bytes;
    float largest = 0.0F;
    for (std::int64_t k = 0; k < args.k; ++k) {
      const float magnitude = x[k] < 0.0F ? 0.0F - x[k] : x[k];
      largest = magnitude > largest ? magnitude : largest;
    }
    const float scale = largest / 127.0F;
    args.scale[m] = scale > format::kMinScale ? scale : format::kMinScale;
    const float reciprocal = 1.0F / args.scale[m];
    for (std::int64_t k = 0; k < args.k; ++k) {
      const float scaled = x[k] * reciprocal;
      const float ordered = scaled == scaled ? scaled : 0.0F;
      const float above = ordered < -127.0F ? -127.0F : ordered;
      const float clamped = above > 127.0F ? 127.0F : above;
      codes[k] = static_cast<std::uint8_t>(round_small(clamped) + args.zero_point);
    }
    std::memset(codes + args.k, args.zero_point, static_cast<std::size_t>(args.k_padded - args.k));
  }
}

}  // namespace

std::span<const QuantizeRowsKernel> quantize_rows_kernels() {
  static constexpr QuantizeRowsKernel kTable[] = {
    {"quantize_rows_f32_s8_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"quantize_rows_f32_s8_avx2", Isa::kAvx2, run_quantize_rows_avx2},
    {"quantize_rows_f32_s8_avx512vnni", Isa::kAvx512Vnni, run_quantize_rows_avx512vnni},
#endif
  };
  return kTable;
}

const QuantizeRowsKernel& find_quantize_rows_kernel(Isa isa) {
  const QuantizeRowsKernel* found =
      strongest(quantize_rows_kernels(), isa, [](const QuantizeRowsKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_quantize_rows(const QuantizeRowsArgs& args, std::int64_t m) {
  for (std::int64_t row = 0; row < m; ++row) {
    const float* x = args.x + row * args.x_stride_elems;
    std::uint8_t* codes = args.codes + row * args.codes_stride_bytes;
    float largest = 0.0F;
    for (std::int64_t k = 0; k < args.k; ++k) largest = std::fmax(largest, std::fabs(x[k]));
    args.scale[row] = std::fmax(largest / 127.0F, format::kMinScale);
    for (std::int64_t k = 0; k < args.k_padded; ++k) {
      const std::int32_t code = k < args.k ? format::quantize(x[k], {args.scale[row], 0}, {-127, 127}) : 0;
      codes[k] = static_cast<std::uint8_t>(code + args.zero_point);
    }
  }
}

}  // namespace pare::kernels
