// Which kernels a machine may run, by the instruction set they were compiled for.
#pragma once

#include <span>

#include "pare/base/cpu.h"

namespace pare::kernels {

// True if code for `needed` runs on a machine whose choice is `chosen`: x86 and ARM are two ladders over kScalar.
[[nodiscard]] constexpr bool runs_on(Isa needed, Isa chosen) {
  const auto is_arm = [](Isa isa) { return isa == Isa::kNeonDotprod || isa == Isa::kNeonI8mm; };
  if (needed == Isa::kScalar) return true;
  return is_arm(needed) == is_arm(chosen) && needed <= chosen;
}

// The strongest row of a kernel table (weakest first) that runs on `chosen` and that `fits`; null if there is none.
template <typename Kernel, typename Fits>
[[nodiscard]] const Kernel* strongest(std::span<const Kernel> table, Isa chosen, Fits fits) {
  const Kernel* best = nullptr;
  for (const Kernel& kernel : table) {
    if (runs_on(kernel.isa, chosen) && fits(kernel) && (best == nullptr || best->isa <= kernel.isa)) {
      best = &kernel;
    }
  }
  return best;
}

}  // namespace pare::kernels
