#include "pare/format/vnm.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "pare/base/rng.h"

namespace pare::format {
namespace {

using Codes = std::vector<std::int8_t>;
using Bytes = std::vector<std::uint8_t>;

// Two rows share a mask, the third is a block of its own; one run of six elements: a group of four and a tail of two.
const VnmLayout kSmall{{2, 2, 4}, 3, 1, 6};
const Codes kSmallDense = {0, 5, 0, 7,  9, 0,  //
                           0, 0, 0, -8, 0, 0,  //
                           1, 0, 0, 0,  0, -2};

TEST(Vnm, EncodesTheExampleOfTheFormat) {
  EXPECT_EQ(find_vnm_violation(kSmallDense, kSmall).block, -1);
  const VnmWeights weights = encode_vnm(kSmallDense, kSmall);
  EXPECT_EQ(weights.indices, (Bytes{1, 3, 0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(weights.values, (Codes{5, 7, 9, 0, 0, -8, 0, 0, 1, 0, 0, -2}));
}

TEST(Vnm, FindsTheBlockWhoseRowsNeedTooManyPositionsTogether) {
  Codes dense = kSmallDense;
  dense[6] = 3;  // row 1 alone keeps two positions, but rows 0 and 1 then need three
  const VnmViolation violation = find_vnm_violation(dense, kSmall);
  EXPECT_EQ(violation.block, 0);
  EXPECT_EQ(violation.group, 0);
  EXPECT_EQ(violation.violations, 1);
}

TEST(Vnm, RoundTripsRandomWeightsOfEveryShape) {
  Rng rng(20);
  for (const VnmPattern pattern : {VnmPattern{64, 2, 4}, {64, 1, 4}, {64, 1, 8}, {64, 2, 8}, {16, 1, 2}, {1, 3, 16}}) {
    for (const std::int64_t rows : {1, 15, 64, 65, 130}) {
      for (const std::int64_t elems : {1, 3, 4, 8, 17, 32}) {
        const VnmLayout layout{pattern, rows, 3, elems};
        VnmWeights weights{layout, Codes(static_cast<std::size_t>(rows * layout.row_kept())), {}};
        for (std::int64_t i = 0; i < layout.blocks() * layout.groups_per_row(); ++i) {
          for (std::int64_t position = 0, left = pattern.n; position < pattern.m && left > 0; ++position) {
            if (static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(pattern.m - position))) >= left)
              continue;
            weights.indices.push_back(static_cast<std::uint8_t>(position));
            --left;
          }
        }
        for (std::int8_t& value : weights.values) value = static_cast<std::int8_t>(rng.below(256));
        // Values past the end of a run are dropped here, and so the dense form is the reference.
        const Codes dense = decode_vnm(weights.values, weights.indices, layout);
        ASSERT_EQ(find_vnm_violation(dense, layout).violations, 0);
        const VnmWeights again = encode_vnm(dense, layout);
        EXPECT_EQ(decode_vnm(again.values, again.indices, layout), dense);
        EXPECT_EQ(explain_invalid_vnm(again.values, again.indices, layout), "");
      }
    }
  }
}

TEST(Vnm, PatternsHaveNames) {
  EXPECT_EQ(to_string(VnmPattern{64, 2, 4}), "64:2:4");
  EXPECT_EQ(parse_vnm("64:2:4"), (VnmPattern{64, 2, 4}));
  EXPECT_EQ(parse_vnm("1:16:16"), (VnmPattern{1, 16, 16}));
  for (const char* bad : {"", "2:4", "64:2:4:", "64:2:4 ", "064:2:4", "64:-2:4", "64:5:4", "0:2:4", "64:2:17",
                          "65537:2:4", "64::4", "x:2:4", "99999999999999999999:2:4"}) {
    EXPECT_EQ(parse_vnm(bad), std::nullopt) << bad;
  }
}

TEST(Vnm, ExplainsEachWayInWhichBytesAreNotCanonical) {
  const VnmWeights good = encode_vnm(kSmallDense, kSmall);
  ASSERT_EQ(explain_invalid_vnm(good.values, good.indices, kSmall), "");
  const auto explain = [&](auto change) {
    VnmWeights bad = good;
    change(bad);
    return explain_invalid_vnm(bad.values, bad.indices, bad.layout);
  };
  EXPECT_EQ(explain([](VnmWeights& w) { w.indices[1] = 4; }), "block 0 group 0: position 4 lies outside of the group");
  EXPECT_EQ(explain([](VnmWeights& w) { w.indices[1] = 1; }),
            "block 0 group 0: position 1 is not above the one before");
  EXPECT_EQ(explain([](VnmWeights& w) { w.indices[0] = 2; }), "");  // another matrix, stored well
  EXPECT_EQ(explain([](VnmWeights& w) { w.indices[3] = 2; }),
            "block 0 group 1: free positions are not filled up from below");
  EXPECT_EQ(explain([](VnmWeights& w) {
              w.indices[3] = 2;
              w.values[3] = 1;
            }),
            "block 0 group 1: row 0 has a value past the end of its run");
  EXPECT_EQ(explain([](VnmWeights& w) { w.values.pop_back(); }), "11 values, but 3 rows keep 4 each");
  EXPECT_EQ(explain([](VnmWeights& w) { w.indices.push_back(0); }), "9 indices, but 2 blocks have 4 each");
  EXPECT_EQ(explain([](VnmWeights& w) { w.layout.pattern.n = 5; }),
            "2:5:4 is no pattern: 1 <= N <= M <= 16 and 1 <= V <= 65536");
}

}  // namespace
}  // namespace pare::format
