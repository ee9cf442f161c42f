#include "pare/kernels/add/add.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/elementwise.h"
#include "pare/kernels/add/add_real.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

// What fake-quantized training computes, step by step: dequantize, add, Relu, quantize.
std::int32_t trained(std::int32_t a, format::AffineParams a_params, std::int32_t b, format::AffineParams b_params,
                     format::AffineParams y, bool relu) {
  float sum = format::dequantize(a, a_params) + format::dequantize(b, b_params);
  if (relu && sum < 0.0F) sum = 0.0F;
  return format::quantize(sum, y, format::kUint8Range);
}

std::uint32_t bits(float x) {
  std::uint32_t pattern = 0;
  std::memcpy(&pattern, &x, sizeof pattern);
  return pattern;
}

TEST(AddCodes, EqualsFakeQuantizedTrainingForEveryPairOfCodes) {
  const std::uint64_t seed = 61;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (int draw = 0; draw < 8; ++draw) {
    const auto params = [&](float width) {
      return format::AffineParams{width * (0.5F + rng.uniform()), static_cast<std::int32_t>(rng.below(256))};
    };
    format::AffineParams a = params(0.02F);
    format::AffineParams b = params(0.05F);
    format::AffineParams y = params(0.06F);
    if (draw < 4) {
      // Real sums lie halfway between codes here, so every rounding on the way decides.
      a.scale = 0.1F;
      b.scale = draw < 2 ? 0.3F : 0.7F;
      y.scale = 0.2F;
    }
    for (const bool relu : {false, true}) {
      const format::QuantRange range{relu ? y.zero_point : 0, 255};
      for (std::int32_t qa = 0; qa < 256; ++qa) {
        for (std::int32_t qb = 0; qb < 256; ++qb) {
          ASSERT_EQ(format::add_codes(qa, a, qb, b, y, range), trained(qa, a, qb, b, y, relu))
              << qa << " " << qb << " relu " << relu;
        }
      }
    }
  }
}

TEST(AddCodes, RoundsHalfToEven) {
  const format::AffineParams half{0.5F, 0};
  const format::AffineParams one{1.0F, 0};
  EXPECT_EQ(format::add_codes(1, half, 0, half, one, format::kUint8Range), 0);  // 0.5
  EXPECT_EQ(format::add_codes(2, half, 1, half, one, format::kUint8Range), 2);  // 1.5
  EXPECT_EQ(format::add_codes(4, half, 1, half, one, format::kUint8Range), 2);  // 2.5
  EXPECT_EQ(format::add_codes(255, one, 255, one, one, format::kUint8Range), 255);
}

// All pairs of codes are 65536 elements; odd counts and offsets follow.
TEST(Add, EveryKernelEqualsTheReferenceForEveryPairOfCodes) {
  const std::uint64_t seed = 62;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  std::vector<std::uint8_t> a(65536);
  std::vector<std::uint8_t> b(65536);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<std::uint8_t>(i % 256);
    b[i] = static_cast<std::uint8_t>(i / 256);
  }
  int rows = 0;
  for (const AddKernel& kernel : add_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    ++rows;
    for (int draw = 0; draw < 12; ++draw) {
      AddArgs args;
      args.a = a.data();
      args.b = b.data();
      // Halves make ties; widths far apart saturate on either side, by more than int32 holds.
      const bool ties = draw % 3 == 0;  // exactly
      args.a_scale = ties ? 0.5F : 0.01F + rng.uniform();
      args.b_scale = ties ? 1.0F : 0.01F + rng.uniform();
      args.y_scale = ties ? 1.0F : (draw == 4 ? 1.1920929e-07F : (draw == 5 ? 3e38F : 2.0F * rng.uniform() + 0.01F));
      if (draw == 4) args.a_scale = 6e35F;
      if (draw % 3 == 1 && draw != 4) {  // but for rounding on the way
        args.a_scale = 0.1F;
        args.b_scale = 0.3F;
        args.y_scale = 0.2F;
      }
      args.a_zero_point = static_cast<std::int32_t>(rng.below(256));
      args.b_zero_point = draw == 7 ? 0 : static_cast<std::int32_t>(rng.below(256));
      args.y_zero_point = draw == 8 ? 255 : static_cast<std::int32_t>(rng.below(256));
      args.qmin = draw % 2 == 1 ? args.y_zero_point : 0;
      std::vector<std::uint8_t> expected(a.size());
      std::vector<std::uint8_t> y(a.size());
      args.y = expected.data();
      reference_add(args, 65536);
      args.y = y.data();
      kernel.run(args, 0, 65536);
      EXPECT_EQ(y, expected) << kernel.name << " draw " << draw;
    }
  }
  EXPECT_GE(rows, 1);
}

TEST(Add, EveryKernelKeepsToItsElements) {
  const std::uint64_t seed = 63;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const AddKernel& kernel : add_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t elems : {0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200}) {
      std::vector<std::uint8_t> a(static_cast<std::size_t>(elems));
      std::vector<std::uint8_t> b(a.size());
      for (std::uint8_t& code : a) code = static_cast<std::uint8_t>(rng.below(256));
      for (std::uint8_t& code : b) code = static_cast<std::uint8_t>(rng.below(256));
      std::vector<std::uint8_t> expected(a.size());
      AddArgs args{a.data(), b.data(), expected.data(), 0.03F, 0.02F, 0.04F, 20, 200, 90, 0};
      reference_add(args, elems);
      for (const std::uint8_t poison : kPoisons) {
        Guarded<std::uint8_t> a_guarded(elems, poison);
        Guarded<std::uint8_t> b_guarded(elems, poison);
        Guarded<std::uint8_t> y(elems, poison);
        a_guarded.assign(a);
        b_guarded.assign(b);
        args.a = a_guarded.data();
        args.b = b_guarded.data();
        args.y = y.data();
        kernel.run(args, elems / 3, elems);
        kernel.run(args, 0, elems / 3);
        EXPECT_EQ(std::vector<std::uint8_t>(y.items().begin(), y.items().end()), expected)
            << kernel.name << " " << elems;
        EXPECT_TRUE(a_guarded.guards_intact() && b_guarded.guards_intact() && y.guards_intact()) << kernel.name;
      }
    }
  }
}

TEST(AddReal, EveryKernelAddsAndKeepsToItsElements) {
  const std::uint64_t seed = 65;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const AddRealKernel& kernel : add_real_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t elems : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 100}) {
      std::vector<float> a(static_cast<std::size_t>(elems));
      std::vector<float> b(a.size());
      std::vector<float> expected(a.size());
      for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = rng.uniform() - 0.5F;
        b[i] = 1e-3F * (rng.uniform() - 0.5F);
        expected[i] = a[i] + b[i];
      }
      for (const std::uint8_t poison : kPoisons) {
        Guarded<float> a_guarded(elems, poison);
        Guarded<float> b_guarded(elems, poison);
        Guarded<float> y(elems, poison);
        a_guarded.assign(a);
        b_guarded.assign(b);
        kernel.run(a_guarded.data(), b_guarded.data(), y.data(), elems);
        EXPECT_EQ(std::vector<float>(y.items().begin(), y.items().end()), expected) << kernel.name << " " << elems;
        EXPECT_TRUE(a_guarded.guards_intact() && b_guarded.guards_intact() && y.guards_intact()) << kernel.name;
      }
    }
  }
}

TEST(AverageCode, IsTheExactSumTimesOneFactor) {
  EXPECT_EQ(bits(format::average_real(3, 0.1F, 3)), bits(3.0F * (0.1F / 3.0F)));
  EXPECT_NE(bits(format::average_real(3, 0.1F, 3)), bits(3.0F * 0.1F / 3.0F)) << "another order rounds otherwise";
  EXPECT_EQ(format::average_code(5, 1.0F, 2, {1.0F, 10}), 12);   // 2.5 to even
  EXPECT_EQ(format::average_code(7, 1.0F, 2, {1.0F, 10}), 14);   // 3.5 to even
  EXPECT_EQ(format::average_code(-30, 1.0F, 2, {1.0F, 10}), 0);  // saturates
  EXPECT_EQ(format::average_code(255 * (1 << 23), 1.0F, format::kMaxAveragedPixels, {1.0F, 0}), 255);
}

}  // namespace
}  // namespace pare::kernels
