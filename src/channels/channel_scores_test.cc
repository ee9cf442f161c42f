#include "pare/channels/channel_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pare::channels {
namespace {

using Json = nlohmann::json;
using Channels = std::vector<std::int64_t>;

Json load_golden(const std::string& name) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  return Json::parse(file);
}

std::string bits(const Channels& kept, std::size_t channels) {
  std::string text(channels, '0');
  for (const std::int64_t channel : kept) text[static_cast<std::size_t>(channel)] = '1';
  return text;
}

TEST(ChannelScores, MatchTorchsStructuredPruners) {
  const Json inputs = load_golden("weight_norm_masks.json").at("inputs");
  const Json golden = load_golden("structured_pruner_masks.json");
  std::map<std::string, int> seen;
  for (const Json& item : golden.at("cases")) {
    const std::string pruner = item.at("pruner");
    SCOPED_TRACE(pruner + " " + item.at("input").get<std::string>() + " " + item.at("sparsity_level").dump());
    const Json& input = inputs.at(item.at("input").get<std::string>());
    const auto weight = input.at("data").get<std::vector<float>>();
    const auto rows = input.at("shape").at(0).get<std::int64_t>();
    const bool fpgm = pruner != "Saliency";
    const RowNorm norm = pruner == "FPGM_l2" ? RowNorm::kL2 : RowNorm::kL1;
    const std::vector<double> scores = fpgm ? fpgm_scores(weight, rows, norm) : saliency_scores(weight, rows, norm);
    const auto expected = item.at(fpgm ? "row_distance_sum" : "row_l1").get<std::vector<double>>();
    ASSERT_EQ(scores.size(), expected.size());
    for (std::size_t r = 0; r < scores.size(); ++r) {
      // torch adds rows of at most 90 numbers, then at most 16 distances, in float32: 106 roundings of 2^-24 each.
      EXPECT_NEAR(scores[r], expected[r], 106 * 6e-8 * expected[r]) << r;
    }
    const double level = item.at("sparsity_level").get<double>();
    const CountRounding rounding = fpgm ? CountRounding::kHalfToEven : CountRounding::kTruncate;
    EXPECT_EQ(bits(kept_channels(scores, pruned_count(rows, level, rounding)), scores.size()),
              item.at("row_mask").get<std::string>());
    ++seen[pruner];
  }
  EXPECT_EQ(seen, (std::map<std::string, int>{{"FPGM_l1", 36}, {"FPGM_l2", 36}, {"Saliency", 36}}));
}

TEST(ChannelScores, OfTinyMatricesByHand) {
  const std::vector<float> weight{3, -4, 0, 0, 1, 1};
  EXPECT_EQ(saliency_scores(weight, 3, RowNorm::kL1), (std::vector<double>{7, 0, 2}));
  EXPECT_EQ(saliency_scores(weight, 3, RowNorm::kL2), (std::vector<double>{5, 0, std::sqrt(2.0)}));
  // Distances: 0-1 is 7, 0-2 is 2 + 5 = 7, 1-2 is 2.
  EXPECT_EQ(fpgm_scores(weight, 3, RowNorm::kL1), (std::vector<double>{14, 9, 9}));
  EXPECT_EQ(batch_norm_scale_scores(std::vector<float>{-2, 0.5, 0}), (std::vector<double>{2, 0.5, 0}));
  // Signs count: what the rows add to the loss may cancel within a row.
  const std::vector<float> gradient{1, 1, 5, 5, 2, -2};
  EXPECT_EQ(taylor_scores(weight, gradient, 3), (std::vector<double>{1, 0, 0}));
}

TEST(ChannelScores, CountsRoundAsTorchsDo) {
  EXPECT_EQ(pruned_count(10, 0.25, CountRounding::kHalfToEven), 2);
  EXPECT_EQ(pruned_count(10, 0.35, CountRounding::kHalfToEven), 4);
  EXPECT_EQ(pruned_count(10, 0.37, CountRounding::kHalfToEven), 4);
  EXPECT_EQ(pruned_count(10, 0.37, CountRounding::kTruncate), 3);
  EXPECT_EQ(pruned_count(10, 1.0, CountRounding::kTruncate), 10);
  EXPECT_EQ(pruned_count(10, 0.0, CountRounding::kHalfToEven), 0);
}

TEST(ChannelScores, WidthsRoundUpToWhatKernelsLike) {
  EXPECT_EQ(rounded_width(45, 16, 64), 48);
  EXPECT_EQ(rounded_width(48, 16, 64), 48);
  EXPECT_EQ(rounded_width(45, 64, 64), 64);
  EXPECT_EQ(rounded_width(45, 16, 46), 46);
  EXPECT_EQ(rounded_width(0, 8, 64), 8);
  EXPECT_EQ(rounded_width(0, 1, 64), 1);
  EXPECT_EQ(rounded_width(3, 8, 5), 5);
}

TEST(ChannelScores, AmongEqualsTheFirstStay) {
  EXPECT_EQ(kept_channels(std::vector<double>{1, 2, 1, 1}, 2), (Channels{0, 1}));
  EXPECT_EQ(kept_channels(std::vector<double>{1, 2, 1, 1}, 0), (Channels{0, 1, 2, 3}));
  EXPECT_EQ(kept_channels(std::vector<double>{1, 2, 1, 1}, 4), Channels{});
}

}  // namespace
}  // namespace pare::channels
