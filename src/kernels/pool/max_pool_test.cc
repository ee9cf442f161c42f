#include "pare/kernels/pool/max_pool.h"

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

MaxPoolArgs pool(std::int64_t h, std::int64_t w, std::int64_t channels, std::int64_t kernel, std::int64_t stride,
                 std::int64_t dilation = 1, std::int64_t pad = 0) {
  MaxPoolArgs args{h,      w,        channels, 0,   0,   kernel,  kernel, stride,
                   stride, dilation, dilation, pad, pad, nullptr, nullptr};
  args.out_h = (h + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
  args.out_w = (w + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
  return args;
}

TEST(MaxPool, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 99;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  std::vector<MaxPoolArgs> shapes;
  for (const std::int64_t channels : {1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 130}) {
    shapes.push_back(pool(1, 1, channels, 1, 1));
    shapes.push_back(pool(4, 6, channels, 2, 2));
    shapes.push_back(pool(5, 7, channels, 2, 2));
    shapes.push_back(pool(7, 5, channels, 3, 2, 1, 1));
    shapes.push_back(pool(9, 9, channels, 3, 1, 2, 1));
  }
  shapes.push_back(pool(1, 1, 2, 3, 1, 1, 2));  // windows wholly in the padding
  for (const MaxPoolKernel& kernel : max_pool_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const MaxPoolArgs& shape : shapes) {
      for (const std::int64_t batch : {0, 1, 3}) {
        SCOPED_TRACE(::testing::Message()
                     << kernel.name << " " << shape.in_h << "x" << shape.in_w << "x" << shape.channels << " kernel "
                     << shape.kernel_h << " stride " << shape.stride_h << " batch " << batch);
        std::vector<std::uint8_t> x(static_cast<std::size_t>(batch * shape.in_h * shape.in_w * shape.channels));
        for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
        const std::int64_t rows = batch * shape.out_h;
        std::vector<std::uint8_t> expected(static_cast<std::size_t>(rows * shape.out_w * shape.channels));
        MaxPoolArgs args = shape;
        args.x = x.data();
        args.y = expected.data();
        reference_max_pool(args, rows);
        for (const std::uint8_t poison : kPoisons) {
          Guarded<std::uint8_t> x_guarded(static_cast<std::int64_t>(x.size()), poison);
          x_guarded.assign(x);
          Guarded<std::uint8_t> y(static_cast<std::int64_t>(expected.size()), poison);
          args.x = x_guarded.data();
          args.y = y.data();
          kernel.run(args, rows / 2, rows);
          kernel.run(args, 0, rows / 2);
          EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
          EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact());
        }
      }
    }
  }
}

TEST(MaxPool, ReferenceTakesTheMaximumOfEachWindow) {
  const std::vector<std::uint8_t> x = {1, 9, 2, 8, 3, 7, 4, 6};  // 2 x 4, one channel
  std::vector<std::uint8_t> y(2);
  MaxPoolArgs args = pool(2, 4, 1, 2, 2);
  args.x = x.data();
  args.y = y.data();
  reference_max_pool(args, 1);
  EXPECT_EQ(y, (std::vector<std::uint8_t>{9, 8}));
}

}  // namespace
}  // namespace pare::kernels
