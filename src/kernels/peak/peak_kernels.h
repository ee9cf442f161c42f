// Implementations of peak.h, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

inline constexpr int kPeakSums = 12;  // latency times throughput is 10 at most

std::int64_t run_peak_avx2(std::int64_t iterations);
std::int64_t run_peak_avx512vnni(std::int64_t iterations);
std::int64_t run_peak_neon_dotprod(std::int64_t iterations);
std::int64_t run_peak_neon_i8mm(std::int64_t iterations);

}  // namespace pare::kernels
