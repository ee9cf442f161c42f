#include "pare/kernels/peak/peak.h"

#include "pare/base/error.h"
#include "pare/kernels/dot/dot_s16.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/peak/peak_kernels.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kScalarElems = 256;

std::int64_t run_scalar(std::int64_t iterations) {
  alignas(64) std::int16_t a[kDotRows * kScalarElems];
  alignas(64) std::int16_t w[kDotColumns * kScalarElems];
  for (std::int16_t& code : a) code = 1;
  for (std::int16_t& code : w) code = 1;
  std::int32_t acc[kDotRows * kDotColumns] = {};
  for (std::int64_t i = 0; i < iterations; ++i) {
    dot_s16_4x2(a, kScalarElems, w, kScalarElems, kScalarElems, acc, kDotColumns);
  }
  std::int64_t sum = 0;
  for (const std::int32_t each : acc) sum += each;
  return sum;
}

}  // namespace

std::span<const PeakKernel> peak_kernels() {
  static constexpr PeakKernel kTable[] = {
    {"peak_scalar", Isa::kScalar, kDotRows * kDotColumns * kScalarElems, run_scalar},
#if defined(__x86_64__)
    {"peak_avx2", Isa::kAvx2, kPeakSums * 32, run_peak_avx2},
    {"peak_avx512vnni", Isa::kAvx512Vnni, kPeakSums * 64, run_peak_avx512vnni},
#elif defined(__aarch64__)
    {"peak_neon_dotprod", Isa::kNeonDotprod, kPeakSums * 16, run_peak_neon_dotprod},
    {"peak_neon_i8mm", Isa::kNeonI8mm, kPeakSums * 32, run_peak_neon_i8mm},
#endif
  };
  return kTable;
}

const PeakKernel& find_peak_kernel(Isa isa) {
  const PeakKernel* found = strongest(peak_kernels(), isa, [](const PeakKernel& /*kernel*/) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

}  // namespace pare::kernels
