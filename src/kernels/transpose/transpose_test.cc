#include "pare/kernels/transpose/transpose.h"

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

TEST(Transpose, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 51;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const TransposeKernel& kernel : transpose_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t batch : {0, 1, 3}) {
      for (const std::int64_t channels : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
        for (const std::int64_t pixels : {1, 3, 15, 16, 17, 49, 64}) {
          const std::int64_t bytes = batch * channels * pixels;
          std::vector<std::uint8_t> x(static_cast<std::size_t>(bytes));
          for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
          std::vector<std::uint8_t> expected(x.size());
          reference_transpose({channels, pixels, x.data(), expected.data()}, batch);
          for (const std::uint8_t poison : kPoisons) {
            Guarded<std::uint8_t> x_guarded(bytes, poison);
            x_guarded.assign(x);
            Guarded<std::uint8_t> y(bytes, poison);
            const TransposeArgs args{channels, pixels, x_guarded.data(), y.data()};
            kernel.run(args, batch / 2, batch);
            kernel.run(args, 0, batch / 2);
            EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected)
                << kernel.name << " " << batch << "x" << pixels << "x" << channels;
            EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact());
          }
        }
      }
    }
  }
}

TEST(Transpose, ReferenceMovesChannelsOutwards) {
  const std::vector<std::uint8_t> x = {1, 2, 3, 4, 5, 6};  // three pixels of two channels
  std::vector<std::uint8_t> y(6);
  reference_transpose({2, 3, x.data(), y.data()}, 1);
  EXPECT_EQ(y, (std::vector<std::uint8_t>{1, 3, 5, 2, 4, 6}));
}

}  // namespace
}  // namespace pare::kernels
