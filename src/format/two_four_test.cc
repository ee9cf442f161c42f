#include "pare/format/two_four.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace pare::format {
namespace {

using Codes = std::vector<std::int8_t>;

std::size_t index(std::int64_t value) { return static_cast<std::size_t>(value); }

// Non-zeros at no more than two places of each group, zeros among the kept ones included.
rc::Gen<Codes> dense_codes(const TwoFourLayout& layout) {
  return rc::gen::exec([layout] {
    Codes dense(index(layout.rows * layout.row_elems()));
    for (std::int64_t run = 0; run < layout.rows * layout.segments; ++run) {
      for (std::int64_t at = 0; at < layout.segment_elems; at += 4) {
        const std::int64_t elems = std::min<std::int64_t>(4, layout.segment_elems - at);
        for (int kept = 0; kept < 2; ++kept) {
          const auto place = *rc::gen::inRange<std::int64_t>(0, elems);
          dense[index(run * layout.segment_elems + at + place)] = *rc::gen::arbitrary<std::int8_t>();
        }
      }
    }
    return dense;
  });
}

rc::Gen<TwoFourLayout> layouts() {
  return rc::gen::construct<TwoFourLayout>(rc::gen::inRange<std::int64_t>(0, 5), rc::gen::inRange<std::int64_t>(0, 10),
                                           rc::gen::inRange<std::int64_t>(0, 20));
}

struct Pair {
  int first;
  int second;
};
constexpr Pair kPairs[] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};

// One group of one row: values {first, second} and a nibble.
std::string explain_one(std::int8_t first, std::int8_t second, int nibble, std::int64_t elems) {
  const Codes values = {first, second};
  const std::vector<std::uint8_t> indices = {static_cast<std::uint8_t>(nibble)};
  return explain_invalid_two_four(values, indices, {1, 1, elems});
}

TEST(TwoFour, EveryPairOfPositionsAndEveryCodeRoundTrips) {
  const TwoFourLayout layout{1, 1, 4};
  for (const auto& [first, second] : kPairs) {
    for (int a = -128; a <= 127; ++a) {
      for (int b = -128; b <= 127; ++b) {
        Codes dense(4);
        dense[index(first)] = static_cast<std::int8_t>(a);
        dense[index(second)] = static_cast<std::int8_t>(b);
        ASSERT_EQ(find_two_four_violation(dense, layout).violations, 0);
        const TwoFourWeights weights = encode_two_four(dense, layout);
        if (a != 0 && b != 0) {
          ASSERT_EQ(weights.indices, (std::vector<std::uint8_t>{static_cast<std::uint8_t>(first | second << 2)}));
          ASSERT_EQ(weights.values, (Codes{static_cast<std::int8_t>(a), static_cast<std::int8_t>(b)}));
        }
        ASSERT_EQ(explain_invalid_two_four(weights.values, weights.indices, layout), "");
        ASSERT_EQ(decode_two_four(weights.values, weights.indices, layout), dense);
      }
    }
  }
}

TEST(TwoFour, FreePlacesFillUpFromTheLowest) {
  const auto nibble = [](const Codes& dense) {
    return int{encode_two_four(dense, {1, 1, static_cast<std::int64_t>(dense.size())}).indices.at(0)};
  };
  EXPECT_EQ(nibble({0, 0, 0, 0}), 0 | 1 << 2);
  EXPECT_EQ(nibble({5, 0, 0, 0}), 0 | 1 << 2);
  EXPECT_EQ(nibble({0, 5, 0, 0}), 0 | 1 << 2);
  EXPECT_EQ(nibble({0, 0, 5, 0}), 0 | 2 << 2);
  EXPECT_EQ(nibble({0, 0, 0, 5}), 0 | 3 << 2);
  EXPECT_EQ(nibble({0, 0, 5}), 0 | 2 << 2);
  EXPECT_EQ(nibble({0, 5}), 0 | 1 << 2);
  EXPECT_EQ(nibble({5}), 0 | 1 << 2);
  EXPECT_EQ(nibble({0}), 0 | 1 << 2);
}

TEST(TwoFour, LowNibbleIsTheEarlierGroupAndTheLastIsPadded) {
  const Codes dense = {0, 0, 7, 8, 9, 0, 0, 10, 0, 11, 12, 0};
  const TwoFourWeights weights = encode_two_four(dense, {1, 1, 12});
  EXPECT_EQ(weights.values, (Codes{7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(weights.indices, (std::vector<std::uint8_t>{(2 | 3 << 2) | (0 | 3 << 2) << 4, 1 | 2 << 2}));
}

TEST(TwoFour, EachRowStartsOnAByte) {
  const Codes dense = {1, 2, 0, 0, 0, 0, 3, 4};
  const TwoFourWeights weights = encode_two_four(dense, {2, 1, 4});
  EXPECT_EQ(weights.indices, (std::vector<std::uint8_t>{0 | 1 << 2, 2 | 3 << 2}));
}

TEST(TwoFour, SegmentsOfAConvolutionHaveTheirOwnTails) {
  // O = 1, kh * kw = 2, I = 5: the tail of the first run must not borrow from the second.
  const TwoFourLayout layout{1, 2, 5};
  const Codes dense = {0, 1, 2, 0, 3, 4, 0, 0, 5, 6};
  EXPECT_EQ(find_two_four_violation(dense, layout).violations, 0);
  const TwoFourWeights weights = encode_two_four(dense, layout);
  EXPECT_EQ(weights.values, (Codes{1, 2, 3, 0, 4, 5, 6, 0}));
  EXPECT_EQ(decode_two_four(weights.values, weights.indices, layout), dense);
  // Fine as two runs; as one run its middle group {3, 4, 5, 0} would break the pattern.
  const Codes across = {0, 0, 1, 2, 3, 4, 5, 0, 0, 0};
  EXPECT_EQ(find_two_four_violation(across, layout).violations, 0);
  EXPECT_EQ(find_two_four_violation(across, {1, 1, 10}).violations, 1);
}

TEST(TwoFour, StorageIsFiveEighthsOfAByteAWeight) {
  // Multiples of 8 per row, where neither tail nor padding costs anything: the layers of convnet and mlp.
  for (const TwoFourLayout layout :
       {TwoFourLayout{64, 9, 32}, TwoFourLayout{256, 1, 3136}, TwoFourLayout{10, 1, 256}, TwoFourLayout{512, 1, 784}}) {
    const TwoFourWeights weights = encode_two_four(Codes(index(layout.rows * layout.row_elems())), layout);
    EXPECT_EQ(weights.values.size() + weights.indices.size(), index(layout.rows * layout.row_elems() * 5 / 8));
  }
  EXPECT_EQ((TwoFourLayout{1, 1, 4}.row_indices_bytes()), 1);
  EXPECT_EQ((TwoFourLayout{1, 1, 12}.row_indices_bytes()), 2);
  EXPECT_EQ((TwoFourLayout{1, 9, 1}.row_values_bytes()), 18);
}

RC_GTEST_PROP(TwoFourProperty, DecodeUndoesEncode, ()) {
  const auto layout = *layouts();
  const auto dense = *dense_codes(layout);
  RC_ASSERT(find_two_four_violation(dense, layout).violations == 0);
  const TwoFourWeights weights = encode_two_four(dense, layout);
  RC_ASSERT(weights.layout == layout);
  RC_ASSERT(explain_invalid_two_four(weights.values, weights.indices, layout).empty());
  RC_ASSERT(decode_two_four(weights.values, weights.indices, layout) == dense);
}

RC_GTEST_PROP(TwoFourProperty, AlteredBytesAreInvalidOrMeanOtherWeights, ()) {
  auto layout = *layouts();
  layout.rows += 1;
  layout.segments += 1;
  layout.segment_elems += 1;
  const auto dense = *dense_codes(layout);
  TwoFourWeights weights = encode_two_four(dense, layout);
  const std::size_t bits = 8 * (weights.values.size() + weights.indices.size());
  const auto bit = *rc::gen::inRange<std::size_t>(0, bits);
  if (bit / 8 < weights.values.size()) {
    auto& value = weights.values[bit / 8];
    value = static_cast<std::int8_t>(value ^ (1 << (bit % 8)));
  } else {
    auto& byte = weights.indices[bit / 8 - weights.values.size()];
    byte = static_cast<std::uint8_t>(byte ^ (1 << (bit % 8)));
  }
  // Canonical: no two valid encodings of the same weights.
  if (explain_invalid_two_four(weights.values, weights.indices, layout).empty()) {
    RC_ASSERT(decode_two_four(weights.values, weights.indices, layout) != dense);
  }
}

RC_GTEST_PROP(TwoFourProperty, ArbitraryBytesEitherExplainOrReencodeToThemselves, ()) {
  const auto layout = *layouts();
  const auto values = *rc::gen::container<Codes>(index(layout.rows * layout.row_values_bytes()),
                                                 rc::gen::element<std::int8_t>(0, 0, 1, -128));
  const auto indices = *rc::gen::container<std::vector<std::uint8_t>>(
      index(layout.rows * layout.row_indices_bytes()), rc::gen::element<std::uint8_t>(0x04, 0x44, 0x48, 0xEE, 0x00));
  if (explain_invalid_two_four(values, indices, layout).empty()) {
    const TwoFourWeights again = encode_two_four(decode_two_four(values, indices, layout), layout);
    RC_ASSERT(again.values == values);
    RC_ASSERT(again.indices == indices);
  }
}

TEST(TwoFour, ViolationsAreCountedAndTheFirstIsNamed) {
  Codes dense(3 * 12);
  const TwoFourLayout layout{3, 1, 12};
  EXPECT_EQ(find_two_four_violation(dense, layout).row, -1);
  EXPECT_EQ(find_two_four_violation(dense, layout).group, -1);
  for (const int at : {12 + 4, 12 + 5, 12 + 7, 24, 25, 26, 27}) dense[index(at)] = 1;
  const PatternViolation found = find_two_four_violation(dense, layout);
  EXPECT_EQ(found.row, 1);
  EXPECT_EQ(found.group, 1);
  EXPECT_EQ(found.violations, 2);
}

TEST(TwoFour, ViolationInATailOfThree) {
  EXPECT_EQ(find_two_four_violation(Codes{0, 0, 0, 0, 1, 1, 1}, {1, 1, 7}).group, 1);
  EXPECT_EQ(find_two_four_violation(Codes{0, 0, 0, 0, 1, 1}, {1, 1, 6}).violations, 0);
}

TEST(TwoFour, EveryNibbleIsJudged) {
  for (int nibble = 0; nibble < 16; ++nibble) {
    const int first = nibble & 3;
    const int second = nibble >> 2;
    EXPECT_EQ(explain_one(1, 1, nibble, 4).empty(), first < second) << nibble;
    // A zero value may stand only where the lowest free position is.
    EXPECT_EQ(explain_one(0, 0, nibble, 4).empty(), first == 0 && second == 1) << nibble;
    EXPECT_EQ(explain_one(0, 1, nibble, 4).empty(), first == 0 && second > 0) << nibble;
    EXPECT_EQ(explain_one(1, 0, nibble, 4).empty(), first == 0 && second == 1) << nibble;
    EXPECT_EQ(explain_one(1, 1, nibble, 3).empty(), first < second && second < 3) << nibble;
    EXPECT_EQ(explain_one(1, 1, nibble, 2).empty(), first == 0 && second == 1) << nibble;
    EXPECT_EQ(explain_one(1, 0, nibble, 1).empty(), first == 0 && second == 1) << nibble;
    EXPECT_FALSE(explain_one(1, 1, nibble, 1).empty()) << nibble;
  }
}

TEST(TwoFour, ExplanationsNameTheGroup) {
  const TwoFourLayout layout{2, 1, 8};
  TwoFourWeights weights = encode_two_four(Codes(16, 0), layout);
  weights.indices[1] = 0x14;
  EXPECT_EQ(explain_invalid_two_four(weights.values, weights.indices, layout),
            "row 1 group 1: positions 1, 0 are not ascending");
  const auto with_padding = encode_two_four(Codes(4, 0), {1, 1, 4});
  EXPECT_EQ(explain_invalid_two_four(with_padding.values, std::vector<std::uint8_t>{0x44}, {1, 1, 4}),
            "row 0: the padding after the last group is not 0");
}

TEST(TwoFour, SizesThatDoNotFitAreExplained) {
  const TwoFourLayout layout{2, 1, 8};
  const TwoFourWeights weights = encode_two_four(Codes(16, 0), layout);
  const std::span<const std::int8_t> values = weights.values;
  const std::span<const std::uint8_t> indices = weights.indices;
  EXPECT_NE(explain_invalid_two_four(values.first(7), indices, layout), "");
  EXPECT_NE(explain_invalid_two_four(values, indices.first(1), layout), "");
  EXPECT_NE(explain_invalid_two_four({}, {}, layout), "");
  EXPECT_NE(explain_invalid_two_four(values, indices, {-2, 1, 8}), "");
  EXPECT_NE(explain_invalid_two_four(values, indices, {-2, -1, 8}), "");
}

TEST(TwoFour, EmptyLayoutsAreFine) {
  for (const TwoFourLayout layout : {TwoFourLayout{0, 1, 8}, TwoFourLayout{3, 0, 8}, TwoFourLayout{3, 1, 0}}) {
    const TwoFourWeights weights = encode_two_four({}, layout);
    EXPECT_TRUE(weights.values.empty());
    EXPECT_TRUE(weights.indices.empty());
    EXPECT_EQ(explain_invalid_two_four({}, {}, layout), "");
    EXPECT_TRUE(decode_two_four({}, {}, layout).empty());
    EXPECT_EQ(find_two_four_violation({}, layout).violations, 0);
  }
}

TEST(TwoFourDeathTest, BrokenPatternIsNeverEncoded) {
  EXPECT_DEATH(static_cast<void>(encode_two_four(Codes{1, 1, 1, 0}, {1, 1, 4})), "two_four.cc");
}

}  // namespace
}  // namespace pare::format
