#include "pare/sparsity/mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/sparsity/testing/mask_reference.h"

namespace pare::sparsity {
namespace {

using Json = nlohmann::json;
using testing::random_weights;
using testing::reference_mask;

std::vector<float> mask_of(const std::vector<float>& weight, const MaskShape& shape, const MaskConfig& config) {
  std::vector<float> mask(weight.size(), -1.0F);
  weight_norm_mask(weight.data(), shape, config, mask.data());
  return mask;
}

std::vector<float> mask_of(const std::vector<float>& weight, std::int64_t rows, std::int64_t cols,
                           const MaskConfig& config) {
  return mask_of(weight, MaskShape{rows, cols}, config);
}

std::string bits(const std::vector<float>& mask) {
  std::string text;
  for (const float m : mask) {
    text += m == 1.0F ? '1' : m == 0.0F ? '0' : '?';
  }
  return text;
}

Json load_golden(const std::string& name) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  return Json::parse(file);
}

MaskConfig config_of(const Json& golden) {
  MaskConfig config;
  config.sparsity_level = golden.at("sparsity_level").get<double>();
  config.sparse_block_shape = golden.at("sparse_block_shape").get<std::array<std::int64_t, 2>>();
  config.zeros_per_block = golden.at("zeros_per_block").get<std::int64_t>();
  config.norm = golden.value("norm", 2);
  return config;
}

std::vector<float> weights_of(const Json& input) {
  std::vector<float> weights;
  for (const double w : input.at("data").get<std::vector<double>>()) {
    weights.push_back(static_cast<float>(w));
  }
  return weights;
}

// Magnitudes of kept weights, sorted: what two masks share that differ only in which of several equals went.
std::vector<float> kept_magnitudes(const std::vector<float>& weight, const std::string& mask_bits, std::size_t begin,
                                   std::size_t end) {
  std::vector<float> kept;
  for (std::size_t i = begin; i < end; ++i) {
    if (mask_bits[i] == '1') {
      kept.push_back(std::abs(weight[i]));
    }
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

// torch's selection on these golden cases leaves neither the first nor the last of equal magnitudes ([1, -1, 1, -1]
// with one zero loses the third), so no stated rule can give the same bits; what goes is the same up to the choice
// among equals.
const std::set<std::string> kSettingsWhereTorchPicksAmongEquals = {
    "unstructured_0.5", "unstructured_0.8", "unstructured_0.37", "1x4_z1_1.0", "1x4_z3_1.0", "1x4_z4_0.8"};

struct ReplayCounts {
  int exact = 0;
  int equal_up_to_ties = 0;
  int complete_blocks_only = 0;
};

void replay(const Json& golden, const Json& input, const std::vector<std::int64_t>& shape, ReplayCounts& counts) {
  const std::string setting = golden.at("setting");
  const MaskConfig config = config_of(golden);
  const std::vector<float> weight = weights_of(input);
  const std::int64_t rows = shape[0];
  const std::int64_t cols = shape[1];
  const std::string ours = bits(mask_of(weight, rows, cols, config));
  const auto golden_shape = golden.at("mask").at("shape").get<std::vector<std::int64_t>>();
  const std::string golden_bits = golden.at("mask").at("bits");
  const auto [block_rows, block_cols] = config.sparse_block_shape;

  if (golden_shape != shape) {
    // torch's padded masks, which it then fails to apply. Its padding is NaN and ranks last, so a tail loses real
    // weights and keeps padding; complete blocks must agree.
    for (std::int64_t r = 0; r < rows / block_rows * block_rows; ++r) {
      for (std::int64_t c = 0; c < cols / block_cols * block_cols; ++c) {
        ASSERT_EQ(ours[static_cast<std::size_t>(r * cols + c)],
                  golden_bits[static_cast<std::size_t>(r * golden_shape[1] + c)])
            << "row " << r << " column " << c;
      }
    }
    ++counts.complete_blocks_only;
    return;
  }
  if (golden.at("input") == "ties4x8" && kSettingsWhereTorchPicksAmongEquals.contains(setting)) {
    const auto elems = static_cast<std::size_t>(config.elems_per_block());
    const bool within_blocks = config.sparsity_level == 1.0;
    const std::size_t unit = within_blocks ? elems : weight.size();
    for (std::size_t begin = 0; begin < weight.size(); begin += unit) {
      ASSERT_EQ(kept_magnitudes(weight, ours, begin, begin + unit),
                kept_magnitudes(weight, golden_bits, begin, begin + unit));
    }
    ++counts.equal_up_to_ties;
    return;
  }
  ASSERT_EQ(ours, golden_bits);
  ++counts.exact;
}

TEST(WeightNormMask, GivesTorchsMasksForMatrices) {
  const Json golden = load_golden("weight_norm_masks.json");
  ReplayCounts counts;
  for (const Json& entry : golden.at("cases")) {
    const Json& input = golden.at("inputs").at(entry.at("input").get<std::string>());
    const auto shape = input.at("shape").get<std::vector<std::int64_t>>();
    if (shape.size() != 2 || !entry.contains("mask")) {
      continue;  // torch cannot mask convolutions, nor a part of the blocks of a ragged matrix
    }
    SCOPED_TRACE(entry.at("input").get<std::string>() + " " + entry.at("setting").get<std::string>());
    replay(entry, input, shape, counts);
  }
  EXPECT_EQ(counts.exact, 98);
  EXPECT_EQ(counts.complete_blocks_only, 13);
  EXPECT_EQ(counts.equal_up_to_ties, 6);
}

TEST(WeightNormMask, GivesTorchsMasksForConvolutionsSeenAsMatrices) {
  const Json inputs = load_golden("weight_norm_masks.json").at("inputs");
  const Json golden = load_golden("weight_norm_masks_conv_as_2d.json");
  ReplayCounts counts;
  for (const Json& entry : golden.at("cases")) {
    if (!entry.contains("mask")) {
      continue;  // a part of the blocks of a ragged matrix once more: torch raises
    }
    SCOPED_TRACE(entry.at("input").get<std::string>() + " " + entry.at("setting").get<std::string>());
    replay(entry, inputs.at(entry.at("input").get<std::string>()),
           entry.at("viewed_as").get<std::vector<std::int64_t>>(), counts);
  }
  EXPECT_EQ(counts.exact, 60);
  EXPECT_EQ(counts.complete_blocks_only, 3);
  EXPECT_EQ(counts.equal_up_to_ties, 0);
}

// [O, I, kh, kw] -> kh * kw taps [O, I]; a matrix as it is.
std::vector<float> taps_of(const std::vector<float>& weight, const std::vector<std::int64_t>& shape) {
  if (shape.size() == 2) {
    return weight;
  }
  const auto filters = static_cast<std::size_t>(shape[0] * shape[1]);
  const auto taps = static_cast<std::size_t>(shape[2] * shape[3]);
  std::vector<float> result;
  for (std::size_t tap = 0; tap < taps; ++tap) {
    for (std::size_t filter = 0; filter < filters; ++filter) {
      result.push_back(weight[filter * taps + tap]);
    }
  }
  return result;
}

// Where torch raises, in step() already: convolutions, and a part of the blocks of a ragged matrix. Here they are
// masked by the same rule as everything else. (Convolutions whose blocks all go or all stay torch can do, too.)
TEST(WeightNormMask, MasksWhatTorchRaisesOn) {
  const Json golden = load_golden("weight_norm_masks.json");
  int torch_raised = 0;
  int all_or_nothing = 0;
  for (const Json& entry : golden.at("cases")) {
    const Json& input = golden.at("inputs").at(entry.at("input").get<std::string>());
    const auto shape = input.at("shape").get<std::vector<std::int64_t>>();
    if (shape.size() == 2 && entry.contains("mask")) {
      continue;
    }
    SCOPED_TRACE(entry.at("input").get<std::string>() + " " + entry.at("setting").get<std::string>());
    const MaskConfig config = config_of(entry);
    const MaskShape taps{shape[0], shape[1], shape.size() == 2 ? 1 : shape[2] * shape[3]};
    const std::vector<float> weight = taps_of(weights_of(input), shape);
    const std::string ours = bits(mask_of(weight, taps, config));
    ASSERT_EQ(ours, bits(reference_mask(weight, taps, config)));
    if (entry.contains("mask")) {
      ASSERT_EQ(ours, entry.at("mask").at("bits").get<std::string>());
      ++all_or_nothing;
    } else {
      ASSERT_TRUE(entry.contains("error"));
      ++torch_raised;
    }
  }
  EXPECT_EQ(torch_raised, 59);
  EXPECT_EQ(all_or_nothing, 8);
}

TEST(WeightNormMask, EqualsTheReferenceForAllShapesAndConfigurations) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> shapes = {
      {1, 1}, {1, 3}, {3, 1}, {1, 4}, {2, 5}, {5, 7}, {8, 16}, {7, 30}, {16, 9}, {33, 31}, {4, 2}};
  const std::vector<std::array<std::int64_t, 2>> blocks = {{1, 1}, {1, 2}, {1, 4}, {1, 8}, {1, 5},  {4, 1},
                                                           {2, 2}, {8, 1}, {3, 2}, {4, 4}, {1, 16}, {40, 40}};
  std::uint64_t seed = 100;
  for (const auto& [rows, cols] : shapes) {
    for (const auto& block : blocks) {
      for (const double level : {0.0, 0.1, 0.37, 0.5, 0.8, 0.99, 1.0}) {
        for (const std::int64_t zeros :
             {std::int64_t{0}, std::int64_t{1}, block[0] * block[1] / 2, block[0] * block[1]}) {
          for (const int norm : {1, 2}) {
            const bool ties = ++seed % 2 == 0;
            SCOPED_TRACE(::testing::Message()
                         << rows << "x" << cols << " block " << block[0] << "x" << block[1] << " level " << level
                         << " zeros " << zeros << " norm " << norm << " seed " << seed);
            const MaskConfig config{level, block, zeros, norm};
            const std::vector<float> weight = random_weights(static_cast<std::size_t>(rows * cols), seed, ties);
            ASSERT_EQ(bits(mask_of(weight, rows, cols, config)), bits(reference_mask(weight, {rows, cols}, config)));
          }
        }
      }
    }
  }
}

TEST(WeightNormMask, OfVNMEqualsTheReferenceForAllShapes) {
  std::uint64_t seed = 9000;
  for (const MaskShape& shape : {MaskShape{64, 16, 1}, MaskShape{130, 12, 1}, MaskShape{10, 256, 1}, MaskShape{5, 7, 9},
                                 MaskShape{33, 8, 4}, MaskShape{1, 3, 2}}) {
    for (const char* pattern : {"64:2:4", "16:1:4", "32:2:8", "4:1:8", "2:3:5", "1:2:4"}) {
      for (const double level : {0.3, 0.5, 1.0}) {
        const bool ties = ++seed % 2 == 0;
        MaskConfig config = MaskConfig::from_pattern(pattern);
        config.sparsity_level = level;
        config.norm = ties ? 1 : 2;
        SCOPED_TRACE(::testing::Message() << shape.matrices << " of " << shape.rows << "x" << shape.cols << " "
                                          << pattern_name(config) << " seed " << seed);
        const std::vector<float> weight =
            random_weights(static_cast<std::size_t>(shape.matrices * shape.rows * shape.cols), seed, ties);
        ASSERT_EQ(bits(mask_of(weight, shape, config)), bits(reference_mask(weight, shape, config)));
      }
    }
  }
}

// What a kernel relies on: the rows of a block keep the same n of every m, and blocks do not reach into the next tap.
TEST(WeightNormMask, OfVNMIsShared) {
  const MaskShape shape{6, 8, 2};
  const std::vector<float> mask = mask_of(random_weights(96, 5, false), shape, MaskConfig::from_pattern("4:2:4"));
  for (std::size_t row = 0; row < 12; ++row) {
    const std::size_t in_tap = row % 6;
    const std::size_t first = row - in_tap + in_tap / 4 * 4;
    for (std::size_t col = 0; col < 8; ++col) {
      EXPECT_EQ(mask[row * 8 + col], mask[first * 8 + col]) << row << " " << col;
    }
    EXPECT_EQ(std::accumulate(mask.begin() + static_cast<std::ptrdiff_t>(row * 8),
                              mask.begin() + static_cast<std::ptrdiff_t>(row * 8 + 4), 0.0F),
              2.0F);
  }
}

TEST(WeightNormMask, KeepsTheFirstAmongEquals) {
  const std::vector<float> same = {1, -1, 1, -1};
  for (const auto& [pattern, expected] : {std::pair{"3:4", "1110"}, {"2:4", "1100"}, {"1:4", "1000"}}) {
    EXPECT_EQ(bits(mask_of(same, 1, 4, MaskConfig::from_pattern(pattern))), expected) << pattern;
  }
  EXPECT_EQ(bits(mask_of(same, 2, 2, {0.5, {1, 1}, 1, 2})), "1100");
  EXPECT_EQ(bits(mask_of(same, 2, 2, {0.5, {1, 2}, 2, 1})), "1100");
}

TEST(WeightNormMask, CountsPaddingAsTheFirstZerosOfATail) {
  const auto two_four = MaskConfig::from_pattern("2:4");
  EXPECT_EQ(bits(mask_of({1, 2, 3, 4, 5, 6}, 1, 6, two_four)), "001111");
  EXPECT_EQ(bits(mask_of({1, 2, 3, 4, 7, 6, 5}, 1, 7, two_four)), "0011110");
  EXPECT_EQ(bits(mask_of({9}, 1, 1, two_four)), "1");
}

TEST(WeightNormMask, RanksTinyAndHugeWeightsWhoseSquaresAreOutOfRange) {
  EXPECT_EQ(bits(mask_of({1e-30F, 3e-30F, 2e-30F, 1e-31F}, 1, 4, MaskConfig::from_pattern("2:4"))), "0110");
  EXPECT_EQ(bits(mask_of({3e30F, 1e30F, 4e30F, 2e30F}, 1, 4, {0.5, {1, 1}, 1, 2})), "1010");
}

TEST(WeightNormMask, RanksNanAboveEveryNumberAndStaysInBounds) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(bits(mask_of({nan, 1e38F, -nan, 2}, 1, 4, MaskConfig::from_pattern("2:4"))), "1010");
  EXPECT_EQ(bits(mask_of({nan, 1, 2, 3}, 2, 2, {0.5, {1, 2}, 2, 2})), "1100");
}

TEST(WeightNormMask, LeavesEmptyMatricesAlone) {
  weight_norm_mask(nullptr, {0, 4}, MaskConfig::from_pattern("2:4"), nullptr);
  weight_norm_mask(nullptr, {4, 0}, {0.5, {1, 1}, 1, 2}, nullptr);
}

TEST(WeightNormMask, TwoFourOfALargeMatrixEqualsTheReference) {
  const std::int64_t rows = 64;
  const std::int64_t cols = 3135;
  const auto config = MaskConfig::from_pattern("2:4");
  const std::vector<float> weight = random_weights(static_cast<std::size_t>(rows * cols), 7, false);
  EXPECT_EQ(mask_of(weight, rows, cols, config), reference_mask(weight, {rows, cols}, config));
}

TEST(MaskConfig, ReadsPatterns) {
  EXPECT_EQ(MaskConfig::from_pattern("2:4"), (MaskConfig{1.0, {1, 4}, 2, 2}));
  EXPECT_EQ(MaskConfig::from_pattern("1:16"), (MaskConfig{1.0, {1, 16}, 15, 2}));
  EXPECT_EQ(MaskConfig::from_pattern("64:2:4"), (MaskConfig{1.0, {64, 4}, 128, 2, BlockRule::kWholeColumns}));
  for (const char* wrong : {"", ":", "2", "2:", ":4", "4:4", "5:4", "0:4", "-1:4", "2:4:8:16", "0:2:4", "64:4:4",
                            "2 :4", "two:four", "+2:4", "2:99999999999999999999"}) {
    try {
      static_cast<void>(MaskConfig::from_pattern(wrong));
      FAIL() << "'" << wrong << "' was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument) << wrong;
    }
  }
}

TEST(MaskConfig, RefusesWhatCannotBe) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<MaskConfig> wrong = {{1.7, {1, 4}, 2, 2},
                                         {-0.1, {1, 4}, 2, 2},
                                         {nan, {1, 4}, 2, 2},
                                         {0.5, {0, 4}, 0, 2},
                                         {0.5, {1, -4}, 2, 2},
                                         {0.5, {1, 4}, 5, 2},
                                         {0.5, {1, 4}, -1, 2},
                                         {0.5, {1, 4}, 2, 3},
                                         {0.5, {std::int64_t{1} << 40, 4}, 2, 2},
                                         {1.0, {64, 4}, 100, 2, BlockRule::kWholeColumns}};
  for (const MaskConfig& config : wrong) {
    try {
      config.validate("fc1.weight");
      FAIL() << "level " << config.sparsity_level << " zeros " << config.zeros_per_block << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument);
      EXPECT_EQ(error.where(), "fc1.weight");
    }
  }
  for (const double level : {0.0, 0.5, 1.0}) {
    EXPECT_NO_THROW((MaskConfig{level, {8, 1}, 8, 1}.validate()));
  }
}

TEST(MaskConfig, SaysWhichPackedFormItsMasksHave) {
  EXPECT_EQ(MaskConfig::from_pattern("2:4").vnm(), (format::VnmPattern{1, 2, 4}));
  EXPECT_EQ(MaskConfig::from_pattern("32:1:8").vnm(), (format::VnmPattern{32, 1, 8}));
  for (const MaskConfig& config :
       {MaskConfig{0.5, {1, 4}, 2, 2}, MaskConfig{1.0, {1, 4}, 4, 2}, MaskConfig{1.0, {2, 4}, 4, 2},
        MaskConfig{1.0, {1, 4}, 0, 2}, MaskConfig{0.9, {64, 4}, 128, 2, BlockRule::kWholeColumns}}) {
    EXPECT_EQ(config.vnm(), std::nullopt) << pattern_name(config);
  }
}

TEST(MaskConfig, NamesItsPattern) {
  EXPECT_EQ(pattern_name(MaskConfig::from_pattern("64:2:4")), "64:2:4");
  EXPECT_EQ(pattern_name({0.5, {64, 4}, 128, 2, BlockRule::kWholeColumns}), "64:2:4 in 0.5 of the blocks");
  EXPECT_EQ(pattern_name({1.0, {1, 4}, 2, 2}), "2:4");
  EXPECT_EQ(pattern_name({0.5, {1, 4}, 2, 2}), "2:4 in 0.5 of the blocks");
  EXPECT_EQ(pattern_name({0.5, {1, 4}, 4, 2}), "block 1x4");
  EXPECT_EQ(pattern_name({0.5, {4, 1}, 4, 2}), "block 4x1");
  EXPECT_EQ(pattern_name({1.0, {2, 4}, 2, 2}), "block 2x4 keeping 6");
  EXPECT_EQ(pattern_name({0.5, {1, 1}, 1, 2}), "unstructured");
}

}  // namespace
}  // namespace pare::sparsity
