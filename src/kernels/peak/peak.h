// sum += 1 * 1, as often a second as the instruction set's dot products can: what a product of codes cannot exceed.
//
// The operands stay in registers (scalar code: in the first-level cache), and enough sums are kept that none waits for
// another. A share of this rate says how much a kernel loses to memory, shuffles and epilogues; kernels that skip zeros
// exceed it, as they are charged for them.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"

namespace pare::kernels {

struct PeakKernel {
  const char* name;  // peak_<isa>
  Isa isa;
  std::int64_t macs;  // multiply-adds an iteration
  // Returns iterations * macs, from the sums. Precondition: 0 <= iterations <= kMostPeakIterations.
  std::int64_t (*run)(std::int64_t iterations);
};

// Up to here no 32-bit sum overflows.
inline constexpr std::int64_t kMostPeakIterations = 1 << 20;

[[nodiscard]] std::span<const PeakKernel> peak_kernels();
[[nodiscard]] const PeakKernel& find_peak_kernel(Isa isa);

}  // namespace pare::kernels
