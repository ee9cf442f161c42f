#include "pare/kernels/pool/global_average_pool.h"

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

TEST(GlobalAveragePool, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 71;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const GlobalAveragePoolKernel& kernel : global_average_pool_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t channels : {1, 3, 15, 16, 17, 63, 64, 65, 130}) {
      for (const std::int64_t pixels : {1, 2, 3, 16, 49, 257, 258, 784}) {
        for (const std::int64_t batch : {0, 1, 3}) {
          SCOPED_TRACE(::testing::Message() << kernel.name << " " << batch << "x" << pixels << "x" << channels);
          std::vector<std::uint8_t> x(static_cast<std::size_t>(batch * pixels * channels));
          // Full codes in every pixel are what overflows a sum that is too narrow.
          const bool full = rng.below(4) == 0;
          for (std::uint8_t& code : x) code = full ? 255 : static_cast<std::uint8_t>(rng.below(256));
          std::vector<std::uint8_t> expected(static_cast<std::size_t>(batch * channels));
          GlobalAveragePoolArgs args;
          args.pixels = pixels;
          args.channels = channels;
          args.x_scale = rng.below(2) == 0 ? 1.0F : 0.01F + rng.uniform();
          args.y_scale = args.x_scale / (rng.below(2) == 0 ? 8.0F : 1.0F + rng.uniform());
          if (rng.below(3) == 0) {  // many averages halfway between codes, but for rounding on the way
            args.x_scale = 0.1F;
            args.y_scale = 0.2F;
          }
          args.x_zero_point = static_cast<std::int32_t>(rng.below(256));
          args.y_zero_point = static_cast<std::int32_t>(rng.below(256));
          args.x = x.data();
          args.y = expected.data();
          reference_global_average_pool(args, batch);
          for (const std::uint8_t poison : kPoisons) {
            Guarded<std::uint8_t> x_guarded(static_cast<std::int64_t>(x.size()), poison);
            Guarded<std::uint8_t> y(static_cast<std::int64_t>(expected.size()), poison);
            x_guarded.assign(x);
            args.x = x_guarded.data();
            args.y = y.data();
            kernel.run(args, batch / 2, batch);
            kernel.run(args, 0, batch / 2);
            EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
            EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact());
          }
        }
      }
    }
  }
}

TEST(GlobalAveragePool, ReferenceAveragesEachChannel) {
  const std::vector<std::uint8_t> x = {1, 10, 3, 10, 5, 11};  // three pixels of two channels
  std::vector<std::uint8_t> y(2);
  GlobalAveragePoolArgs args;
  args.pixels = 3;
  args.channels = 2;
  args.x = x.data();
  args.y = y.data();
  reference_global_average_pool(args, 1);
  EXPECT_EQ(y, (std::vector<std::uint8_t>{3, 10}));
}

}  // namespace
}  // namespace pare::kernels
