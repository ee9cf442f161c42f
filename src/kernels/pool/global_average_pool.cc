#include "pare/kernels/pool/global_average_pool.h"

#include "pare/base/error.h"
#include "pare/format/elementwise.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

void run_scalar(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kBlock = 64;  // channels whose sums stay on the stack
  const GlobalAveragePoolArgs s = args;
  const float step = format::average_scale(s.x_scale, s.pixels);
  const float reciprocal = 1.0F / s.y_scale;
  const auto lo = static_cast<float>(0 - s.y_zero_point);
  const auto hi = static_cast<float>(255 - s.y_zero_point);
  const auto offset = static_cast<std::int32_t>(s.pixels * s.x_zero_point);
  for (std::int64_t image = begin; image < end; ++image) {
    for (std::int64_t c = 0; c < s.channels; c += kBlock) {
      const std::int64_t block = s.channels - c < kBlock ? s.channels - c : kBlock;
      std::int32_t sums[kBlock] = {};
      const std::uint8_t* x = s.x + image * s.pixels * s.channels + c;
      for (std::int64_t p = 0; p < s.pixels; ++p) {
        for (std::int64_t j = 0; j < block; ++j) sums[j] += x[p * s.channels + j];
      }
      std::uint8_t* y = s.y + image * s.channels + c;
      for (std::int64_t j = 0; j < block; ++j) {
        const float scaled = static_cast<float>(sums[j] - offset) * step * reciprocal;
        const float above = scaled < lo ? lo : scaled;
        const float clamped = above > hi ? hi : above;
        y[j] = static_cast<std::uint8_t>(round_small(clamped) + s.y_zero_point);
      }
    }
  }
}

}  // namespace

std::span<const GlobalAveragePoolKernel> global_average_pool_kernels() {
  static constexpr GlobalAveragePoolKernel kTable[] = {
    {"avgpool_global_u8_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"avgpool_global_u8_avx2", Isa::kAvx2, run_global_average_pool_avx2},
    {"avgpool_global_u8_avx512vnni", Isa::kAvx512Vnni, run_global_average_pool_avx512},
#endif
  };
  return kTable;
}

const GlobalAveragePoolKernel& find_global_average_pool_kernel(Isa isa) {
  const GlobalAveragePoolKernel* found =
      strongest(global_average_pool_kernels(), isa, [](const GlobalAveragePoolKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_global_average_pool(const GlobalAveragePoolArgs& args, std::int64_t batch) {
  for (std::int64_t i = 0; i < batch * args.channels; ++i) {
    std::int64_t sum = 0;
    for (std::int64_t p = 0; p < args.pixels; ++p) {
      sum += args.x[(i / args.channels * args.pixels + p) * args.channels + i % args.channels] - args.x_zero_point;
    }
    args.y[i] = static_cast<std::uint8_t>(format::average_code(static_cast<std::int32_t>(sum), args.x_scale,
                                                               args.pixels, {args.y_scale, args.y_zero_point}));
  }
}

}  // namespace pare::kernels
