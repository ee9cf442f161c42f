#include "pare/kernels/matmul_nbits/matmul_nbits.h"

#include "pare/base/error.h"
#include "pare/format/half.h"
#include "pare/format/int4.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

std::span<const MatMulNBitsKernel> matmul_nbits_kernels() {
  static constexpr MatMulNBitsKernel kTable[] = {
#define PARE_MATMUL_NBITS_KERNEL(name, isa, form, a_zero_point, scratch_bytes, run) \
  {#name,                                                                           \
   Isa::isa,                                                                        \
   NBitsForm::form,                                                                 \
   a_zero_point,                                                                    \
   packed_nbits_bytes<NBitsForm::form>,                                             \
   pack_nbits<NBitsForm::form>,                                                     \
   scratch_bytes,                                                                   \
   run},
#include "pare/kernels/matmul_nbits/matmul_nbits_kernels.inc"
#undef PARE_MATMUL_NBITS_KERNEL
  };
  return kTable;
}

const MatMulNBitsKernel& find_matmul_nbits_kernel(NBitsForm form, Isa isa) {
  const MatMulNBitsKernel* found =
      strongest(matmul_nbits_kernels(), isa, [form](const MatMulNBitsKernel& kernel) { return kernel.form == form; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_matmul_nbits(const MatMulNBitsArgs& args, const NBitsWeights& weights, NBitsForm form,
                            std::uint8_t a_zero_point) {
  const bool dense = form == NBitsForm::kDense;
  const format::Int4Layout layout{dense ? format::Int4Form::kDense : format::Int4Form::kTwoFour, weights.n, weights.k,
                                  weights.group};
  const auto bytes = [&](std::int64_t of_row) { return static_cast<std::size_t>(weights.n * of_row); };
  const std::vector<std::int8_t> codes = format::decode_int4(
      {weights.codes, bytes(layout.row_codes_bytes())}, {weights.indices, bytes(layout.row_indices_bytes())}, layout);
  for (std::int64_t m = 0; m < args.m; ++m) {
    for (std::int64_t n = 0; n < args.n; ++n) {
      float total = 0.0F;
      for (std::int64_t g = 0; g < layout.groups_per_row(); ++g) {
        std::int32_t sum = 0;
        for (std::int64_t k = g * weights.group; k < args.k && k < (g + 1) * weights.group; ++k) {
          const auto a = static_cast<std::int8_t>(args.a[m * args.a_stride_bytes + k] ^ a_zero_point);
          sum += a * codes[static_cast<std::size_t>(n * args.k + k)];
        }
        total += static_cast<float>(sum) * format::float_from_half(weights.scales[n * layout.groups_per_row() + g]);
      }
      const float real = total * args.a_scale[m];
      const float sum = args.bias == nullptr ? real : real + args.bias[n];
      args.c[m * args.c_stride_elems + n] = args.relu && sum < 0.0F ? 0.0F : sum;
    }
  }
}

}  // namespace pare::kernels
