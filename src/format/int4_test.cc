#include "pare/format/int4.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pare/base/rng.h"
#include "pare/format/half.h"

namespace pare::format {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Codes = std::vector<std::int8_t>;
using Scales = std::vector<std::uint16_t>;

constexpr std::uint16_t kOne = 0x3C00;

std::string explain(const Int4Weights& weights) {
  return explain_invalid_int4(weights.codes, weights.indices, weights.scales, weights.layout);
}

// Random codes of all sixteen, whole groups of zeros among them; 2:4 keeps up to two of four.
Int4Codes random_codes(Rng& rng, const Int4Layout& layout) {
  Int4Codes weights;
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    for (std::int64_t first = 0; first < layout.k; first += layout.group) {
      const bool empty = rng.below(4) == 0;
      bool zeros = true;
      std::uint64_t kept = 0;
      for (std::int64_t k = first; k < std::min(first + layout.group, layout.k); ++k) {
        if (k % 4 == 0) kept = std::uint64_t{1} << rng.below(4) | std::uint64_t{1} << rng.below(4);
        const bool masked = layout.form == Int4Form::kTwoFour && (kept >> (k % 4) & 1) == 0;
        const auto code = static_cast<std::int8_t>(static_cast<int>(rng.below(16)) - 8);
        weights.codes.push_back(empty || masked ? std::int8_t{0} : code);
        zeros = zeros && weights.codes.back() == 0;
      }
      weights.scales.push_back(zeros ? std::uint16_t{0} : static_cast<std::uint16_t>(1 + rng.below(kLargestHalf)));
    }
  }
  return weights;
}

TEST(Half, EveryHalfRoundTripsAndEveryMidpointGoesToEven) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float real = float_from_half(half);
    if ((half & 0x7FFF) > 0x7C00) {
      EXPECT_TRUE(std::isnan(real));
      EXPECT_EQ(half_from_float(real) & 0x7E00, 0x7E00);
      continue;
    }
    ASSERT_EQ(half_from_float(real), half);
    if ((half & 0x7FFF) >= kLargestHalf) continue;
    const float next = float_from_half(static_cast<std::uint16_t>(half + 1));
    const float middle = (real + next) / 2.0F;  // exact in float32
    const auto even = static_cast<std::uint16_t>(half + (half & 1));
    ASSERT_EQ(half_from_float(middle), even);
    ASSERT_EQ(half_from_float(std::nextafterf(middle, real)), half);
    ASSERT_EQ(half_from_float(std::nextafterf(middle, next)), half + 1);
  }
}

TEST(Half, KnownValues) {
  EXPECT_EQ(float_from_half(0x3C00), 1.0F);
  EXPECT_EQ(float_from_half(0x0001), 0x1p-24F);
  EXPECT_EQ(float_from_half(0x03FF), 1023.0F * 0x1p-24F);
  EXPECT_EQ(float_from_half(kLargestHalf), 65504.0F);
  EXPECT_EQ(float_from_half(0xFC00), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(half_from_float(65519.9F), kLargestHalf);
  EXPECT_EQ(half_from_float(65520.0F), 0x7C00);
  EXPECT_EQ(half_from_float(1e-9F), 0x0000);
  EXPECT_EQ(half_from_float(-0.0F), 0x8000);
}

TEST(Int4, DenseExampleOfTheFormat) {
  const Int4Layout layout{Int4Form::kDense, 2, 3, 32};
  const Int4Weights weights = encode_int4({{1, -2, 7, -8, 0, 3}, {kOne, kOne}}, layout);
  EXPECT_EQ(weights.codes, (Bytes{0xE1, 0x07, 0x08, 0x03}));
  EXPECT_TRUE(weights.indices.empty());
  EXPECT_EQ(explain(weights), "");
  EXPECT_EQ(decode_int4(weights.codes, weights.indices, layout), (Codes{1, -2, 7, -8, 0, 3}));
}

TEST(Int4, TwoFourExampleOfTheFormat) {
  const Int4Layout layout{Int4Form::kTwoFour, 1, 6, 32};
  const Int4Weights weights = encode_int4({{0, 5, 0, -8, 0, 3}, {kOne}}, layout);
  EXPECT_EQ(weights.codes, (Bytes{0x85, 0x30}));
  EXPECT_EQ(weights.indices, (Bytes{0b0100'1101}));  // 1 and 3, then 0 and 1
  EXPECT_EQ(explain(weights), "");
  EXPECT_EQ(decode_int4(weights.codes, weights.indices, layout), (Codes{0, 5, 0, -8, 0, 3}));
}

TEST(Int4, BytesAWeightAreWhatTheHeaderSays) {
  const auto bytes = [](Int4Form form) {
    const Int4Layout layout{form, 16, 1024, 32};
    const Int4Weights weights = encode_int4({Codes(16 * 1024), Scales(16 * 32)}, layout);
    return static_cast<double>(weights.codes.size() + weights.indices.size() + 2 * weights.scales.size()) /
           (16.0 * 1024.0);
  };
  EXPECT_EQ(bytes(Int4Form::kDense), 0.5625);
  EXPECT_EQ(bytes(Int4Form::kTwoFour), 0.4375);
}

RC_GTEST_PROP(Int4, RoundTripsAndIsCanonical, ()) {
  const auto form = *rc::gen::element(Int4Form::kDense, Int4Form::kTwoFour);
  const auto group = *rc::gen::element<std::int64_t>(32, 64, 128, 256);
  const Int4Layout layout{form, *rc::gen::inRange<std::int64_t>(0, 4), *rc::gen::inRange<std::int64_t>(0, 300), group};
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  const Int4Codes weights = random_codes(rng, layout);
  const Int4Weights encoded = encode_int4(weights, layout);
  RC_ASSERT(explain(encoded) == "");
  RC_ASSERT(encoded.scales == weights.scales);
  const Codes decoded = decode_int4(encoded.codes, encoded.indices, layout);
  RC_ASSERT(decoded == weights.codes);
  const Int4Weights again = encode_int4({decoded, encoded.scales}, layout);
  RC_ASSERT(again.codes == encoded.codes && again.indices == encoded.indices);
}

RC_GTEST_PROP(Int4, QuantizedWeightsAreWithinHalfAStepAndZerosStayZero, ()) {
  const auto group = *rc::gen::element<std::int64_t>(32, 64, 128, 256);
  const Int4Layout layout{Int4Form::kDense, *rc::gen::inRange<std::int64_t>(0, 3),
                          *rc::gen::inRange<std::int64_t>(0, 300), group};
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  std::vector<float> weights(static_cast<std::size_t>(layout.rows * layout.k));
  for (float& weight : weights) weight = rng.below(3) == 0 ? 0.0F : 0.05F * rng.normal();
  const Int4Codes quantized = quantize_int4(weights, layout);
  RC_ASSERT(explain(encode_int4(quantized, layout)) == "");
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / layout.k;
    const auto in_row = static_cast<std::int64_t>(i) % layout.k;
    const float scale =
        float_from_half(quantized.scales[static_cast<std::size_t>(row * layout.groups_per_row() + in_row / group)]);
    const float back = static_cast<float>(quantized.codes[i]) * scale;
    // Half a step; the scale itself is rounded, by at most 2^-11 of 7 steps, and float32 adds less than 2^-20 of them.
    RC_ASSERT(std::fabs(back - weights[i]) <= scale * (0.5F + 7.0F * 0x1p-11F + 7.0F * 0x1p-20F));
    RC_ASSERT(weights[i] != 0.0F || quantized.codes[i] == 0);
    RC_ASSERT(std::abs(quantized.codes[i]) <= 7);
  }
}

TEST(Int4, LargestWeightOfEitherSignIsRepresented) {
  for (const float sign : {1.0F, -1.0F}) {
    const Int4Codes quantized = quantize_int4(std::vector<float>{sign * 3.5F, 0.5F}, {Int4Form::kDense, 1, 2, 32});
    EXPECT_EQ(quantized.codes, (Codes{static_cast<std::int8_t>(7 * sign), 1}));
    EXPECT_EQ(quantized.scales, (Scales{0x3800}));
  }
}

TEST(Int4, TorchAosScaleClipsTheLargestWeightWhereItIsPositive) {
  const Int4Codes quantized = quantize_int4(std::vector<float>{7.5F, -7.5F, 7.25F, 0.0F}, {Int4Form::kDense, 1, 4, 32},
                                            Int4Scale::kAmaxOver7p5);
  EXPECT_EQ(quantized.codes, (Codes{7, -8, 7, 0}));
  EXPECT_EQ(quantized.scales, (Scales{0x3C00}));  // 1
  EXPECT_EQ(int4_range(Int4Scale::kAmaxOver7p5), kInt4Range);
  EXPECT_EQ(int4_range(Int4Scale::kAmaxOver7), kInt4WeightRange);
}

TEST(Int4, ScalesAtTheEndsOfFloat16) {
  const Int4Layout layout{Int4Form::kDense, 1, 1, 32};
  const Int4Codes huge = quantize_int4(std::vector<float>{1e30F}, layout);
  EXPECT_EQ(huge.codes, (Codes{7}));
  EXPECT_EQ(huge.scales, (Scales{kLargestHalf}));
  const Int4Codes tiny = quantize_int4(std::vector<float>{1e-8F}, layout);
  EXPECT_EQ(tiny.codes, (Codes{0}));
  EXPECT_EQ(tiny.scales, (Scales{0}));
  EXPECT_EQ(explain(encode_int4(tiny, layout)), "");
}

TEST(Int4, WhatIsNotCanonicalIsExplained) {
  const Int4Layout layout{Int4Form::kDense, 2, 33, 32};
  Codes codes(66);
  codes[0] = 5;
  const Int4Weights valid = encode_int4({codes, {kOne, 0, 0, 0}}, layout);
  ASSERT_EQ(explain(valid), "");
  const auto with_scale = [&](std::size_t at, std::uint16_t scale) {
    Int4Weights weights = valid;
    weights.scales[at] = scale;
    return explain(weights);
  };
  EXPECT_EQ(with_scale(0, 0x7C00), "row 0 group 0: the scale is negative or not finite");
  EXPECT_EQ(with_scale(0, 0x7E01), "row 0 group 0: the scale is negative or not finite");
  EXPECT_EQ(with_scale(3, 0x8000), "row 1 group 1: the scale is negative or not finite");
  EXPECT_EQ(with_scale(0, 0), "row 0 group 0: the scale is 0, but not all codes are");
  EXPECT_EQ(with_scale(1, kOne), "row 0 group 1: all codes are 0, but the scale is not");
  Int4Weights padded = valid;
  padded.codes[16] = 0x10;
  EXPECT_EQ(explain(padded), "row 0: the padding after the last code is not 0");
  Int4Weights shorter = valid;
  shorter.codes.pop_back();
  EXPECT_NE(explain(shorter), "");
  Int4Weights other = valid;
  other.layout.group = 48;
  EXPECT_EQ(explain(other), "groups of 48, where 32, 64, 128 or 256 belong");
  other.layout = {Int4Form::kDense, -2, 33, 32};
  EXPECT_EQ(explain(other), "the layout has a negative extent");
}

TEST(Int4, TwoFourThatIsNotCanonicalIsExplained) {
  const Int4Layout layout{Int4Form::kTwoFour, 1, 8, 32};
  const Int4Weights valid = encode_int4({{0, 5, 0, -8, 0, 3, 0, 0}, {kOne}}, layout);
  ASSERT_EQ(explain(valid), "");
  Int4Weights swapped = valid;
  swapped.indices[0] = 0b0100'0111;  // 3, then 1
  EXPECT_EQ(explain(swapped), "row 0 group 0: positions 3, 1 are not ascending");
  Int4Weights moved = valid;
  moved.codes[1] = 0x03;  // position 0 of group 1: a 0 there leaves the position to fill up with
  moved.indices[0] = 0b1101'1101;
  EXPECT_NE(explain(moved), "");
}

TEST(Int4DeathTest, CodesOutOfRangeAreNeverEncoded) {
  EXPECT_DEATH(static_cast<void>(encode_int4({{8}, {kOne}}, {Int4Form::kDense, 1, 1, 32})), "int4.cc");
}

}  // namespace
}  // namespace pare::format
