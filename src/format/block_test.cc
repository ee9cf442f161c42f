#include "pare/format/block.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "pare/base/rng.h"

namespace pare::format {
namespace {

using Codes = std::vector<std::int8_t>;
using Bytes = std::vector<std::uint8_t>;

// Three rows in block rows of two, one run of six elements in blocks of four: blocks hang over both edges.
const BlockLayout kSmall{{2, 4}, 3, 1, 6};
const Codes kSmallDense = {0, 5, 0, 0, 0, 0,  //
                           7, 0, 0, 0, 0, 0,  //
                           0, 0, 0, 0, 0, -2};
const Bytes kSmallIndices = {0b01, 0b10};
const Codes kSmallValues = {0, 5, 0, 0, 7, 0, 0, 0, 0, -2, 0, 0, 0, 0, 0, 0};

TEST(Block, EncodesTheExampleOfTheFormat) {
  const BlockWeights weights = encode_block(kSmallDense, kSmall);
  EXPECT_EQ(weights.indices, kSmallIndices);
  EXPECT_EQ(weights.values, kSmallValues);
  EXPECT_EQ(decode_block(weights.values, weights.indices, kSmall), kSmallDense);
}

TEST(Block, RoundTripsRandomWeightsOfEveryShape) {
  Rng rng(21);
  for (const BlockPattern pattern : {BlockPattern{1, 4}, {4, 1}, {4, 4}, {8, 1}, {16, 16}, {64, 4}, {3, 5}}) {
    for (const BlockLayout& layout : {BlockLayout{pattern, 1, 1, 1},
                                      {pattern, 130, 1, 70},
                                      {pattern, 65, 9, 3},
                                      {pattern, 33, 4, 64},
                                      {pattern, 0, 1, 4},
                                      {pattern, 4, 1, 0}}) {
      Codes dense(static_cast<std::size_t>(layout.rows * layout.row_elems()));
      for (std::int8_t& code : dense) code = rng.below(20) == 0 ? static_cast<std::int8_t>(rng.below(256)) : 0;
      const BlockWeights weights = encode_block(dense, layout);
      EXPECT_EQ(explain_invalid_block(weights.values, weights.indices, layout), "");
      EXPECT_EQ(decode_block(weights.values, weights.indices, layout), dense);
    }
  }
}

TEST(Block, NonZerosAndOneBitABlockIsAllThatIsStored) {
  const BlockLayout layout{{1, 4}, 64, 9, 64};
  Codes dense(static_cast<std::size_t>(64 * 9 * 64));
  for (std::size_t i = 0; i < dense.size(); i += 40) {
    for (std::size_t j = 0; j < 4 && i + j < dense.size(); ++j) dense[i + j] = 1;
  }
  const BlockWeights weights = encode_block(dense, layout);
  EXPECT_EQ(weights.values.size(), (dense.size() + 39) / 40 * 4);
  EXPECT_EQ(weights.indices.size(), dense.size() / 32);
}

TEST(Block, RefusesWhatIsNotCanonical) {
  const auto explain = [](Codes values, Bytes indices) { return explain_invalid_block(values, indices, kSmall); };
  EXPECT_EQ(explain(kSmallValues, kSmallIndices), "");
  EXPECT_EQ(explain(kSmallValues, {1}), "1 bytes of bits, but 2 block rows have 1 each");
  EXPECT_EQ(explain({1, 2}, kSmallIndices), "2 values, but 2 blocks have 8 each");
  EXPECT_EQ(explain(kSmallValues, {0b101, 0}), "block row 0 has a bit past its last block");
  Codes over_columns = kSmallValues;
  over_columns[8 + 2] = 1;
  EXPECT_EQ(explain(over_columns, kSmallIndices), "block 1 of block row 1 has a value past the edge");
  Codes over_rows = kSmallValues;
  over_rows[8 + 4] = 1;
  EXPECT_EQ(explain(over_rows, kSmallIndices), "block 1 of block row 1 has a value past the edge");
  Codes empty = kSmallValues;
  empty[8 + 1] = 0;
  EXPECT_EQ(explain(empty, kSmallIndices), "block 1 of block row 1 is all zero and stored");
  EXPECT_NE(explain_invalid_block({}, {}, {{1, 1}, 0, 1, 4}), "");
}

TEST(Block, PatternsHaveOneName) {
  EXPECT_EQ(to_string({1, 4}), "1x4");
  EXPECT_EQ(parse_block("16x256"), (BlockPattern{16, 256}));
  for (const char* text : {"", "1", "1x", "x4", "01x4", "1x4 ", "1X4", "0x4", "1x257", "1x1", "-1x4", "2:4", "1x4x4"}) {
    EXPECT_FALSE(parse_block(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace pare::format
