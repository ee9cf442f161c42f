#include "pare/kernels/peak/peak.h"

#include <gtest/gtest.h>

#include "pare/kernels/testing/ran.h"

namespace pare::kernels {
namespace {

TEST(Peak, EveryKernelCountsAllItsMultiplyAdds) {
  for (const PeakKernel& kernel : peak_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t iterations : {0, 1, 2, 7, 1000}) {
      EXPECT_EQ(kernel.run(iterations), iterations * kernel.macs) << kernel.name;
    }
    EXPECT_EQ(find_peak_kernel(kernel.isa).name, kernel.name);
  }
}

TEST(Peak, SumsDoNotOverflow) {
  for (const PeakKernel& kernel : peak_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    EXPECT_EQ(kernel.run(kMostPeakIterations), kMostPeakIterations * kernel.macs) << kernel.name;
  }
}

}  // namespace
}  // namespace pare::kernels
