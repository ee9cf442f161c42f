#include "pare/kernels/qconv/qconv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/ran.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

struct Case {
  std::int64_t batch;
  QConvShape shape;
};

std::int64_t out_extent(std::int64_t in, std::int64_t kernel, std::int64_t stride, std::int64_t dilation,
                        std::int64_t pads) {
  return (in + pads - dilation * (kernel - 1) - 1) / stride + 1;
}

QConvShape conv(std::int64_t h, std::int64_t w, std::int64_t in_c, std::int64_t out_c, std::int64_t kh, std::int64_t kw,
                std::int64_t stride = 1, std::int64_t dilation = 1, std::int64_t pad = 0) {
  QConvShape shape{h, w, in_c, 0, 0, out_c, kh, kw, stride, stride, dilation, dilation, pad, pad};
  shape.out_h = out_extent(h, kh, stride, dilation, 2 * pad);
  shape.out_w = out_extent(w, kw, stride, dilation, 2 * pad);
  return shape;
}

std::vector<Case> shape_grid() {
  std::vector<Case> cases;
  for (const std::int64_t in_c : {1, 2, 3, 4, 5, 8, 17}) {
    for (const std::int64_t out_c : {1, 2, 3, 65}) {
      cases.push_back({2, conv(5, 7, in_c, out_c, 3, 3, 1, 1, 1)});
      cases.push_back({1, conv(6, 5, in_c, out_c, 3, 2, 2, 1, 1)});
      cases.push_back({1, conv(7, 9, in_c, out_c, 3, 3, 1, 2, 2)});
      cases.push_back({3, conv(3, 3, in_c, out_c, 1, 1)});
    }
  }
  cases.push_back({1, conv(1, 1, 1, 1, 1, 1)});
  cases.push_back({1, conv(1, 1, 3, 5, 3, 3, 1, 1, 1)});     // nearly every tap in the padding
  cases.push_back({1, conv(2, 2, 3, 4, 5, 5, 1, 1, 3)});     // a pixel whose window misses whole lines
  cases.push_back({1, conv(4, 4, 2, 3, 2, 2, 3, 1, 0)});     // stride beyond the kernel
  cases.push_back({0, conv(4, 4, 2, 3, 2, 2)});              // empty batch
  cases.push_back({1, conv(4, 4, 2, 0, 2, 2)});              // no output channels
  cases.push_back({1, conv(5, 5, 256, 6, 3, 3, 1, 1, 1)});   // k = 2304: three chunks
  cases.push_back({1, conv(4, 4, 341, 70, 1, 3, 1, 1, 0)});  // k = 1023
  cases.push_back({1, conv(4, 3, 25, 3, 41, 1, 1, 1, 20)});  // k = 1025, kernel taller than the image
  cases.push_back({2, conv(14, 14, 32, 64, 3, 3, 1, 1, 1)});
  cases.push_back({1, conv(17, 19, 20, 80, 3, 3, 1, 1, 1)});  // two blocks of tiles, a tap that ends in a partial step
  cases.push_back({3, conv(7, 7, 64, 130, 3, 3, 1, 1, 1)});   // lines of padding above and below, three panels
  cases.push_back({2, conv(9, 8, 40, 96, 3, 3, 2, 1, 1)});
  cases.push_back({1, conv(8, 8, 33, 50, 5, 5, 1, 2, 4)});
  cases.push_back({2, conv(5, 6, 65, 65, 1, 1, 2, 1, 0)});
  // Padding below only, and a part of the output whose last tile has fewer pixels than its first, and the same taps:
  // the tile of one panel gathers for the first tile of the next.
  for (const std::int64_t in_c : {32, 48, 64, 128}) {
    QConvShape below = conv(4, 1, in_c, 130, 3, 1);
    below.out_h = 3;
    cases.push_back({4, below});
  }
  // Pixels whose windows reach beyond the image to the left or right have tiles of their own: many images a block,
  // parts of an image a block, two kinds of column on either side, other kinds with a stride, images narrower than the
  // kernel.
  cases.push_back({16, conv(4, 4, 32, 70, 3, 3, 1, 1, 1)});
  cases.push_back({5, conv(8, 8, 64, 64, 5, 5, 1, 1, 2)});
  cases.push_back({1, conv(60, 9, 48, 64, 3, 3, 1, 1, 1)});
  cases.push_back({3, conv(15, 14, 16, 66, 3, 5, 2, 1, 2)});
  cases.push_back({25, conv(2, 2, 64, 64, 5, 5, 1, 1, 2)});
  QConvShape uneven = conv(8, 8, 3, 4, 3, 3, 1, 1, 1);  // strides, dilations and pads that differ by axis
  uneven.stride_w = 2;
  uneven.dilation_h = 3;
  uneven.pad_top = 2;
  uneven.pad_left = 0;
  uneven.out_h = out_extent(8, 3, 1, 3, 3);
  uneven.out_w = out_extent(8, 3, 2, 1, 1);
  cases.push_back({2, uneven});
  return cases;
}

std::string describe(const QConvKernel& kernel, const Case& test) {
  const QConvShape& s = test.shape;
  std::ostringstream out;
  out << kernel.name << " batch " << test.batch << " " << s.in_h << "x" << s.in_w << "x" << s.in_c << " -> " << s.out_h
      << "x" << s.out_w << "x" << s.out_c << ", kernel " << s.kernel_h << "x" << s.kernel_w << ", stride " << s.stride_h
      << "x" << s.stride_w << ", dilation " << s.dilation_h << "x" << s.dilation_w << ", pad " << s.pad_top << ","
      << s.pad_left;
  return out.str();
}

TEST(QConv, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 815;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  testing::Ran<QConvKernel> ran(qconv_kernels());
  for (const QConvKernel& kernel : qconv_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    std::size_t pattern = 0;
    for (const Case& test : shape_grid()) {
      SCOPED_TRACE(describe(kernel, test));
      const QConvShape& s = test.shape;
      const std::int64_t taps = s.kernel_h * s.kernel_w;
      const testing::StoredWeights weights = testing::random_weights(rng, kernel.format, s.out_c, taps, s.in_c,
                                                                     testing::vnm_pattern(kernel.isa, pattern++));
      const CanonicalWeights view = weights.view(s.dilation_w == 1 ? s.kernel_w : 1);
      if (!testing::packs(kernel, view)) continue;
      const testing::RandomEpilogue random = testing::random_epilogue(rng, s.out_c, taps * s.in_c);
      std::vector<std::uint8_t> x(static_cast<std::size_t>(test.batch * s.in_h * s.in_w * s.in_c));
      for (std::uint8_t& code : x) code = static_cast<std::uint8_t>(rng.below(256));
      const std::int64_t rows = test.batch * s.out_h;
      const std::int64_t elem_bytes = random.epilogue.output == Epilogue::Output::kU8 ? 1 : 4;
      const std::int64_t y_bytes = rows * s.out_w * s.out_c * elem_bytes;

      QConvArgs args;
      args.shape = s;
      args.x_zero_point = static_cast<std::int32_t>(rng.below(256));
      args.epilogue = random.epilogue;
      std::vector<std::uint8_t> expected(static_cast<std::size_t>(y_bytes));
      QConvArgs reference = args;
      reference.x = x.data();
      reference.y = expected.data();
      reference_qconv(reference, weights.reference_view(), weights.reference_format(), rows);

      for (const std::uint8_t poison : kPoisons) {
        Guarded<std::uint8_t> x_guarded(static_cast<std::int64_t>(x.size()), poison);
        x_guarded.assign(x);
        Guarded<std::uint8_t> packed(static_cast<std::int64_t>(kernel.packed_bytes(view)), poison, 64);
        kernel.pack(view, packed.data());
        Guarded<std::int32_t> bias(s.out_c, poison);
        bias.assign(random.bias);
        Guarded<float> multiplier(s.out_c, poison);
        multiplier.assign(random.multiplier);
        Guarded<std::uint8_t> y(y_bytes, poison, 4);
        args.x = x_guarded.data();
        args.packed = packed.data();
        args.y = y.data();
        args.epilogue.bias = bias.data();
        args.epilogue.multiplier = multiplier.data();
        const std::int64_t cut = rows / 3;
        Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel.scratch_bytes(args)), poison, 64);
        kernel.run(args, cut, rows, scratch.data());
        kernel.run(args, 0, cut, scratch.data());
        EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected);
        EXPECT_TRUE(x_guarded.guards_intact() && scratch.guards_intact() && packed.guards_intact() &&
                    y.guards_intact() && bias.guards_intact() && multiplier.guards_intact());
      }
      ran.add(kernel);
    }
  }
  ran.expect_all();
}

// Hand-computed: padding counts as real 0, so a border tap adds nothing whatever the zero point is.
TEST(QConv, ReferenceTreatsPaddingAsRealZero) {
  const std::vector<std::uint8_t> x = {12, 7};
  const std::vector<std::int8_t> w = {1, 10, 100};
  const std::vector<std::int32_t> bias = {1};
  const std::vector<float> multiplier = {1.0F};
  std::vector<float> y(2);
  QConvArgs args;
  args.shape = {1, 2, 1, 1, 2, 1, 1, 3, 1, 1, 1, 1, 0, 1};
  args.x = x.data();
  args.x_zero_point = 10;
  args.y = y.data();
  args.epilogue.output = Epilogue::Output::kF32;
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  reference_qconv(args, {w.data(), nullptr, 1, 3, 1}, WeightFormat::kDense, 1);
  EXPECT_EQ(y, (std::vector<float>{1 + 2 * 10 - 3 * 100, 1 + 2 * 1 - 3 * 10}));
}

TEST(QConv, TableHasAKernelForEveryFormatAndIsa) {
  for (const WeightFormat format :
       {WeightFormat::kDense, WeightFormat::kTwoFour, WeightFormat::kVnm, WeightFormat::kBlock}) {
    for (const Isa isa :
         {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
      EXPECT_EQ(find_qconv_kernel(format, isa).format, format);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
