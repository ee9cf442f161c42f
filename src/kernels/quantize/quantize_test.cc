#include "pare/kernels/quantize/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

struct Shape {
  std::int64_t batch, channels, pixels;
};
constexpr Shape kShapes[] = {{0, 1, 4},  {1, 1, 1},  {1, 1, 784}, {3, 1, 7},   {2, 3, 15},  {2, 4, 16},
                             {5, 17, 9}, {3, 1, 65}, {2, 3, 200}, {2, 2, 130}, {1, 3, 1024}};

TEST(QuantizeTable, EveryKernelEqualsTheReference) {
  const std::uint64_t seed = 31;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const QuantizeKernel& kernel : quantize_table_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(::testing::Message() << kernel.name << " " << shape.batch << "x" << shape.channels << "x"
                                        << shape.pixels);
      const std::int64_t count = shape.batch * shape.pixels;
      std::vector<std::uint8_t> x(static_cast<std::size_t>(count * shape.channels));
      std::vector<std::uint8_t> table(static_cast<std::size_t>(shape.channels * 256));
      for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
      for (std::uint8_t& code : table) code = static_cast<std::uint8_t>(rng.below(256));
      std::vector<std::uint8_t> expected(x.size());
      QuantizeArgs args;
      args.channels = shape.channels;
      args.pixels = shape.pixels;
      args.raw = x.data();
      args.table = table.data();
      args.y = expected.data();
      reference_quantize_table(args, count);
      for (const std::uint8_t poison : kPoisons) {
        Guarded<std::uint8_t> x_guarded(static_cast<std::int64_t>(x.size()), poison);
        x_guarded.assign(x);
        Guarded<std::uint8_t> y(static_cast<std::int64_t>(x.size()), poison);
        args.raw = x_guarded.data();
        args.y = y.data();
        const std::int64_t cut = count / 3;  // within an image
        kernel.run(args, cut, count);
        kernel.run(args, 0, cut);
        EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
        EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact());
      }
    }
  }
}

TEST(QuantizeAffine, EveryKernelEqualsTheReferenceTiesAndSpecialsIncluded) {
  const std::uint64_t seed = 32;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  const float inf = std::numeric_limits<float>::infinity();
  const float specials[] = {0.0F, -0.0F, inf, -inf, std::nanf("5"), 3.4e38F, -3.4e38F, 1e-45F};
  for (const QuantizeKernel& kernel : quantize_affine_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const Shape& shape : kShapes) {
      for (const float scale : {0.5F, 0.0123F, 1.1920929e-07F, 3.0F}) {
        for (const std::int32_t zero_point : {0, 77, 255}) {
          SCOPED_TRACE(::testing::Message() << kernel.name << " " << shape.batch << "x" << shape.channels << "x"
                                            << shape.pixels << " scale " << scale << " zero point " << zero_point);
          const std::int64_t count = shape.batch * shape.pixels;
          std::vector<float> x(static_cast<std::size_t>(count * shape.channels));
          for (float& real : x) {
            const std::uint64_t kind = rng.below(4);
            const auto halves = static_cast<float>(static_cast<int>(rng.below(1200)) - 600);
            real = kind == 0 ? specials[rng.below(8)]
                             : (kind == 1 ? halves * 0.5F * scale : rng.normal() * 100.0F * scale);
          }
          std::vector<std::uint8_t> expected(x.size());
          QuantizeArgs args;
          args.channels = shape.channels;
          args.pixels = shape.pixels;
          args.scale = scale;
          args.zero_point = zero_point;
          args.real = x.data();
          args.y = expected.data();
          reference_quantize_affine(args, count);
          for (const std::uint8_t poison : kPoisons) {
            Guarded<float> x_guarded(static_cast<std::int64_t>(x.size()), poison);
            x_guarded.assign(x);
            Guarded<std::uint8_t> y(static_cast<std::int64_t>(x.size()), poison);
            args.real = x_guarded.data();
            args.y = y.data();
            kernel.run(args, count / 3, count);
            kernel.run(args, 0, count / 3);
            EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
            EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact());
          }
        }
      }
    }
  }
}

TEST(QuantizeTable, ReferencePutsChannelsInnermost) {
  const std::vector<std::uint8_t> x = {1, 2, 3, 4};  // two channels of two pixels
  std::vector<std::uint8_t> table(512);
  for (int i = 0; i < 512; ++i)
    table[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i < 256 ? i : 10 * (i - 256));
  std::vector<std::uint8_t> y(4);
  QuantizeArgs args;
  args.channels = 2;
  args.pixels = 2;
  args.raw = x.data();
  args.table = table.data();
  args.y = y.data();
  reference_quantize_table(args, 2);
  EXPECT_EQ(y, (std::vector<std::uint8_t>{1, 30, 2, 40}));
}

}  // namespace
}  // namespace pare::kernels
