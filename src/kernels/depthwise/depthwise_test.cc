#include "pare/kernels/depthwise/depthwise.h"

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

struct Window {
  std::int64_t kernel_h, kernel_w, stride, dilation, pad_top, pad_left, pad_bottom, pad_right;
};
constexpr Window kWindows[] = {{3, 3, 1, 1, 1, 1, 1, 1}, {3, 3, 2, 1, 1, 1, 1, 1}, {3, 3, 1, 1, 0, 2, 2, 0},
                               {3, 3, 1, 2, 2, 2, 2, 2}, {1, 1, 1, 1, 0, 0, 0, 0}, {5, 5, 1, 1, 2, 2, 2, 2},
                               {5, 3, 2, 1, 2, 1, 2, 1}, {2, 7, 1, 1, 1, 3, 0, 3}, {9, 1, 1, 1, 4, 0, 4, 0}};

DepthwiseArgs args_of(const Window& window, std::int64_t h, std::int64_t w, std::int64_t channels) {
  DepthwiseArgs args;
  args.in_h = h;
  args.in_w = w;
  args.channels = channels;
  args.kernel_h = window.kernel_h;
  args.kernel_w = window.kernel_w;
  args.stride_h = args.stride_w = window.stride;
  args.dilation_h = args.dilation_w = window.dilation;
  args.pad_top = window.pad_top;
  args.pad_left = window.pad_left;
  args.out_h =
      (h + window.pad_top + window.pad_bottom - window.dilation * (window.kernel_h - 1) - 1) / window.stride + 1;
  args.out_w =
      (w + window.pad_left + window.pad_right - window.dilation * (window.kernel_w - 1) - 1) / window.stride + 1;
  return args;
}

TEST(Depthwise, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 81;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const DepthwiseKernel& kernel : depthwise_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t channels : {1, 3, 16, 63, 64, 65, 130}) {
      for (const Window& window : kWindows) {
        for (const std::int64_t width : {5, 6, 7, 8}) {
          DepthwiseArgs args = args_of(window, 6, width, channels);
          const std::int64_t batch = channels == 64 ? 2 : 1;
          const std::int64_t taps = args.kernel_h * args.kernel_w;
          SCOPED_TRACE(::testing::Message()
                       << kernel.name << " 6x" << width << "x" << channels << " kernel " << args.kernel_h << "x"
                       << args.kernel_w << " stride " << args.stride_h << " dilation " << args.dilation_h);
          std::vector<std::uint8_t> x(static_cast<std::size_t>(batch * 6 * width * channels));
          std::vector<std::int8_t> values(static_cast<std::size_t>(channels * taps));
          std::vector<std::int32_t> bias(static_cast<std::size_t>(channels));
          std::vector<float> multiplier(bias.size());
          for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
          for (std::int8_t& code : values) code = static_cast<std::int8_t>(rng.below(256));
          for (std::int32_t& b : bias) b = static_cast<std::int32_t>(rng.below(20001)) - 10000;
          for (float& m : multiplier) m = 0.004F * (0.5F + rng.uniform());
          args.x_zero_point = static_cast<std::int32_t>(rng.below(256));
          args.y_zero_point = static_cast<std::int32_t>(rng.below(256));
          args.qmin = rng.below(2) == 0 ? 0 : args.y_zero_point;
          const DepthwiseWeights weights{channels,    args.kernel_h,     args.kernel_w,    values.data(),
                                         bias.data(), multiplier.data(), args.x_zero_point};
          const std::int64_t rows = batch * args.out_h;
          std::vector<std::uint8_t> expected(static_cast<std::size_t>(rows * args.out_w * channels));
          args.x = x.data();
          args.y = expected.data();
          reference_depthwise(args, weights, rows);
          for (const std::uint8_t poison : kPoisons) {
            Guarded<std::uint8_t> x_guarded(static_cast<std::int64_t>(x.size()), poison);
            Guarded<std::uint8_t> y(static_cast<std::int64_t>(expected.size()), poison);
            Guarded<std::int8_t> packed(static_cast<std::int64_t>(kernel.packed_bytes(weights)), poison, 64);
            x_guarded.assign(x);
            kernel.pack(weights, packed.data());
            args.x = x_guarded.data();
            args.y = y.data();
            args.packed = packed.data();
            kernel.run(args, rows / 2, rows);
            kernel.run(args, 0, rows / 2);
            EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
            EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact() && packed.guards_intact());
          }
        }
      }
    }
  }
}

TEST(Depthwise, ReferenceKeepsChannelsApart) {
  const std::vector<std::uint8_t> x = {1, 10, 2, 20, 3, 30};  // 1 x 3, two channels
  const std::vector<std::int8_t> values = {1, 0, 1, 0, 2, 0};
  const std::vector<std::int32_t> bias = {5, 0};
  const std::vector<float> multiplier = {1.0F, 1.0F};
  std::vector<std::uint8_t> y(6);
  DepthwiseArgs args = args_of({1, 3, 1, 1, 0, 1, 0, 1}, 1, 3, 2);
  args.x = x.data();
  args.y = y.data();
  reference_depthwise(args, {2, 1, 3, values.data(), bias.data(), multiplier.data(), 0}, 1);
  EXPECT_EQ(y, (std::vector<std::uint8_t>{7, 20, 9, 40, 7, 60}));
}

}  // namespace
}  // namespace pare::kernels
