#include "pare/kernels/dequantize/dequantize.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

TEST(Dequantize, EveryKernelEqualsTheReferenceAndKeepsToItsElements) {
  const std::uint64_t seed = 64;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const DequantizeKernel& kernel : dequantize_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t elems : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 256, 1000}) {
      std::vector<std::uint8_t> x(static_cast<std::size_t>(elems));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(255 - i % 256);
      std::vector<float> expected(x.size());
      DequantizeArgs args{x.data(), expected.data(), 0.01F + rng.uniform(), static_cast<std::int32_t>(rng.below(256))};
      reference_dequantize(args, elems);
      for (const std::uint8_t poison : kPoisons) {
        Guarded<std::uint8_t> x_guarded(elems, poison);
        Guarded<float> y(elems, poison);
        x_guarded.assign(x);
        args.x = x_guarded.data();
        args.y = y.data();
        kernel.run(args, elems / 3, elems);
        kernel.run(args, 0, elems / 3);
        EXPECT_EQ(std::vector<float>(y.items().begin(), y.items().end()), expected) << kernel.name << " " << elems;
        EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact()) << kernel.name << " " << elems;
      }
    }
  }
}

}  // namespace
}  // namespace pare::kernels
