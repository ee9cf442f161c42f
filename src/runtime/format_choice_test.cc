#include "pare/runtime/format_choice.h"

#include <gtest/gtest.h>

namespace pare::runtime {
namespace {

using kernels::WeightFormat;

constexpr LayerWork kManyRows{196, 256, 2304, 2304};
constexpr LayerWork kOneRow{1, 4096, 4096, 4096};

// A 3x3 convolution of c channels to n.
LayerWork conv(std::int64_t c, std::int64_t n) { return work_of(196, canonical_shape({n, c, 3, 3}, 3)); }

TEST(FormatChoice, DenseWeightsRunDense) {
  const FormatChoice choice = choose_format(kManyRows, WeightFormat::kDense, {}, Isa::kAvx512Vbmi, CpuVendor::kAmd);
  EXPECT_EQ(choice.format, WeightFormat::kDense);
  EXPECT_EQ(choice.note, "");
}

TEST(FormatChoice, PredictsTheTimeOfTheFormThatRuns) {
  const auto time = [](const LayerWork& work, WeightFormat stored, CpuVendor vendor) {
    return choose_format(work, stored, {64, 1, 4}, Isa::kAvx512Vbmi, vendor).time;
  };
  // 8 multiply-adds in the time of a byte, where there are many rows; with one row a byte a weight.
  EXPECT_DOUBLE_EQ(time(kManyRows, WeightFormat::kDense, CpuVendor::kAmd), 196.0 * 256 * 2304 / 8);
  EXPECT_DOUBLE_EQ(time(kOneRow, WeightFormat::kDense, CpuVendor::kAmd), 4096.0 * 4096);
  EXPECT_DOUBLE_EQ(time(kManyRows, WeightFormat::kTwoFour, CpuVendor::kAmd),
                   (0.70 + 4.0 / 2304) * 196 * 256 * 2304 / 8);
  EXPECT_DOUBLE_EQ(time(kOneRow, WeightFormat::kVnm, CpuVendor::kAmd), (0.25 + 0.25 / 64) * 4096 * 4096);
  // Stored 2:4, run dense.
  EXPECT_DOUBLE_EQ(time(kManyRows, WeightFormat::kTwoFour, CpuVendor::kIntel), 196.0 * 256 * 2304 / 8);
}

TEST(FormatChoice, TwoFourRunsAsStoredWhereShufflesAreFree) {
  const auto choice = choose_format(kManyRows, WeightFormat::kTwoFour, {}, Isa::kAvx512Vbmi, CpuVendor::kAmd);
  EXPECT_EQ(choice.format, WeightFormat::kTwoFour);
  EXPECT_GT(choice.speed_up, 1.4);
  EXPECT_EQ(choice.note, "");
}

TEST(FormatChoice, TwoFourRunsDenseWhereShufflesAreNotUnlessWeightsAreTheBottleneck) {
  const auto many = choose_format(kManyRows, WeightFormat::kTwoFour, {}, Isa::kAvx512Vbmi, CpuVendor::kIntel);
  EXPECT_EQ(many.format, WeightFormat::kDense);
  EXPECT_EQ(
      many.note,
      "stored 2:4, run dense: on this processor avx512vbmi gains nothing from 2:4 at 196 rows an image, n = 256, k = "
      "2304");
  const auto one = choose_format(kOneRow, WeightFormat::kTwoFour, {}, Isa::kAvx512Vbmi, CpuVendor::kIntel);
  EXPECT_EQ(one.format, WeightFormat::kTwoFour);
  EXPECT_NEAR(one.speed_up, 1.6, 0.01);
}

TEST(FormatChoice, VnmRunsAsStoredEverywhere) {
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
    for (const CpuVendor vendor : {CpuVendor::kAmd, CpuVendor::kIntel, CpuVendor::kOther}) {
      const auto choice = choose_format(kManyRows, WeightFormat::kVnm, {64, 1, 4}, isa, vendor);
      EXPECT_EQ(choice.format, WeightFormat::kVnm) << to_string(isa);
      EXPECT_GE(choice.speed_up, 2.4) << to_string(isa);
    }
  }
}

// Gathering for 16 outputs at a time costs a dense layer's time; where activations are permuted inside the product it
// costs nothing, and where weights are what a layer waits for it does not count.
TEST(FormatChoice, SmallVRunsDenseWhereGatheringCostsMoreThanZerosSave) {
  const auto choose = [](const LayerWork& work, const format::VnmPattern& vnm, Isa isa) {
    return choose_format(work, WeightFormat::kVnm, vnm, isa, CpuVendor::kAmd);
  };
  const FormatChoice small = choose(kManyRows, {16, 2, 4}, Isa::kAvx512Vnni);
  EXPECT_EQ(small.format, WeightFormat::kDense);
  EXPECT_EQ(
      small.note,
      "stored 16:2:4, run dense: on this processor avx512vnni gains nothing from 16:2:4 at 196 rows an image, n = 256, "
      "k = 2304");
  EXPECT_EQ(choose(kManyRows, {32, 2, 4}, Isa::kAvx512Vnni).format, WeightFormat::kVnm);
  EXPECT_EQ(choose(kManyRows, {16, 1, 4}, Isa::kAvx512Vnni).format, WeightFormat::kVnm);
  EXPECT_EQ(choose(kManyRows, {16, 2, 4}, Isa::kAvx512Vbmi).speed_up,
            choose(kManyRows, {64, 2, 4}, Isa::kAvx512Vbmi).speed_up);
  EXPECT_EQ(choose(kOneRow, {16, 2, 4}, Isa::kAvx512Vnni).format, WeightFormat::kVnm);
}

// Where the sparse kernels of 3x3 convolutions were measured to gain and to lose, on Zen 4 at 14x14 pixels.
TEST(FormatChoice, FewChannelsRunDenseWhereTheirKernelsLose) {
  const auto choose = [](const LayerWork& work, WeightFormat format, const format::VnmPattern& vnm, Isa isa) {
    return choose_format(work, format, vnm, isa, CpuVendor::kAmd).format;
  };
  const auto two_four = [&](const LayerWork& work, Isa isa) { return choose(work, WeightFormat::kTwoFour, {}, isa); };
  const auto vnm = [&](const LayerWork& work, const format::VnmPattern& pattern, Isa isa) {
    return choose(work, WeightFormat::kVnm, pattern, isa);
  };
  EXPECT_EQ(two_four(conv(8, 16), Isa::kAvx512Vbmi), WeightFormat::kDense);      // 1.13 of dense
  EXPECT_EQ(two_four(conv(8, 64), Isa::kAvx512Vbmi), WeightFormat::kTwoFour);    // 0.84
  EXPECT_EQ(two_four(conv(12, 64), Isa::kAvx512Vbmi), WeightFormat::kDense);     // 1.00: 40 of 36, and copies
  EXPECT_EQ(two_four(conv(12, 64), Isa::kAvx2), WeightFormat::kTwoFour);         // 0.83: no copies
  EXPECT_EQ(two_four(conv(4, 64), Isa::kAvx2), WeightFormat::kDense);            // 1.03: 16 of 12
  EXPECT_EQ(two_four(conv(128, 16), Isa::kAvx512Vbmi), WeightFormat::kTwoFour);  // 0.82

  constexpr format::VnmPattern kHalf{64, 2, 4};
  constexpr format::VnmPattern kQuarter{64, 1, 4};
  EXPECT_EQ(vnm(conv(12, 16), kHalf, Isa::kAvx512Vbmi), WeightFormat::kDense);   // 1.05
  EXPECT_EQ(vnm(conv(16, 16), kQuarter, Isa::kAvx512Vbmi), WeightFormat::kVnm);  // 0.78
  EXPECT_EQ(vnm(conv(16, 64), kHalf, Isa::kAvx512Vbmi), WeightFormat::kVnm);     // 0.68
  EXPECT_EQ(vnm(conv(128, 16), kHalf, Isa::kAvx512Vbmi), WeightFormat::kVnm);    // 0.77
  // Gathered 32 activations at a time, for 16 outputs as for 64.
  EXPECT_EQ(vnm(conv(8, 64), kHalf, Isa::kAvx512Vnni), WeightFormat::kDense);   // 1.03
  EXPECT_EQ(vnm(conv(32, 64), kHalf, Isa::kAvx512Vnni), WeightFormat::kVnm);    // 0.72
  EXPECT_EQ(vnm(conv(32, 16), kHalf, Isa::kAvx512Vnni), WeightFormat::kDense);  // 1.12
  EXPECT_EQ(vnm(conv(12, 64), kHalf, Isa::kAvx2), WeightFormat::kDense);        // 0.99
  EXPECT_EQ(vnm(conv(16, 64), kQuarter, Isa::kAvx2), WeightFormat::kVnm);       // 0.51
}

TEST(FormatChoice, BlocksRunAsStoredWhereFewAreKept) {
  const auto choose = [](const format::BlockPattern& pattern, double kept, Isa isa) {
    return choose_format(kManyRows, WeightFormat::kBlock, {}, isa, CpuVendor::kAmd, {pattern, kept});
  };
  EXPECT_GT(choose({1, 4}, 0.1, Isa::kAvx512Vbmi).speed_up, 3.0);
  EXPECT_GT(choose({4, 4}, 0.1, Isa::kAvx512Vnni).speed_up, choose({1, 4}, 0.1, Isa::kAvx512Vnni).speed_up);
  EXPECT_EQ(choose({1, 4}, 0.8, Isa::kAvx512Vbmi).format, WeightFormat::kDense);
  EXPECT_EQ(choose({4, 1}, 0.25, Isa::kAvx512Vbmi).format, WeightFormat::kDense);  // every step keeps something
  const auto one_row = [](double kept) {
    return choose_format(kOneRow, WeightFormat::kBlock, {}, Isa::kAvx512Vbmi, CpuVendor::kAmd, {{1, 4}, kept}).format;
  };
  EXPECT_EQ(one_row(0.1), WeightFormat::kBlock);
  EXPECT_EQ(one_row(0.5), WeightFormat::kDense);
  const FormatChoice avx2 = choose({1, 4}, 0.1, Isa::kAvx2);
  EXPECT_EQ(avx2.format, WeightFormat::kDense);
  EXPECT_EQ(avx2.note,
            "stored 1x4, run dense: on this processor avx2 gains nothing from 1x4 at 196 rows an image, n = 256, k = "
            "2304");
  EXPECT_EQ(choose({1, 4}, 0.1, Isa::kScalar).format, WeightFormat::kBlock);
}

TEST(FormatChoice, DenserMasksGainLess) {
  const auto speed_up = [](const format::VnmPattern& vnm) {
    return choose_format(kManyRows, WeightFormat::kVnm, vnm, Isa::kAvx512Vbmi, CpuVendor::kAmd).speed_up;
  };
  EXPECT_GT(speed_up({64, 1, 8}), speed_up({64, 1, 4}));
  EXPECT_GT(speed_up({64, 1, 4}), speed_up({64, 2, 4}));
  EXPECT_EQ(choose_format(kManyRows, WeightFormat::kVnm, {64, 4, 4}, Isa::kAvx512Vbmi, CpuVendor::kAmd).format,
            WeightFormat::kDense);
}

}  // namespace
}  // namespace pare::runtime
