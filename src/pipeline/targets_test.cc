#include "pare/pipeline/targets.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "pare/base/error.h"

namespace pare::pipeline {
namespace {

LayerVerdict check_one(const std::string& target, const LayerPlan& layer) {
  const std::vector<LayerVerdict> verdicts = check_target(target, {layer});
  EXPECT_EQ(verdicts.size(), 1U);
  return verdicts.at(0);
}

LayerPlan gemm(const std::string& pattern, std::int64_t inputs = 0, std::int64_t outputs = 0) {
  return {.name = "fc1", .op = "Gemm", .pattern = pattern, .inputs = inputs, .outputs = outputs};
}

LayerPlan conv(const std::string& pattern, std::int64_t inputs = 0, std::int64_t outputs = 0) {
  return {.name = "conv2", .op = "Conv", .pattern = pattern, .inputs = inputs, .outputs = outputs};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Targets, AreTheSixThatThePromiseNames) {
  EXPECT_EQ(target_names(), (std::vector<std::string>{"x86-avx2", "x86-avx512-vnni", "arm-dotprod", "arm-i8mm",
                                                      "nvidia-ampere", "onnx-qdq"}));
}

TEST(Targets, UnknownNamesAreAnErrorWithTheNearest) {
  for (const auto& [wrong, nearest] :
       {std::pair{"x86-avx512-vnii", "x86-avx512-vnni"}, {"arm-dotprd", "arm-dotprod"}}) {
    try {
      static_cast<void>(check_target(wrong, {}));
      FAIL() << wrong << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument);
      EXPECT_TRUE(contains(error.what(), wrong)) << error.what();
      EXPECT_TRUE(contains(error.what(), nearest)) << error.what();
    }
  }
  EXPECT_THROW(static_cast<void>(check_target("", {})), Error);
}

TEST(Targets, EveryPatternOnEveryTargetHasAVerdictWithReasonAndSource) {
  for (const std::string& target : target_names()) {
    for (const char* pattern : {"", "dense", "2:4", "1:4", "2:8", "4:8", "3:4", "1:3", "4:4", "64:2:4", "16:1:8",
                                "2:4t", "2:4t in 0.5 of the blocks", "unstructured", "block 4x1", "block 2x4 keeping 6",
                                "2:4 in 0.5 of the blocks"}) {
      for (const char* op : {"Conv", "Gemm"}) {
        for (const int weight_bits : {4, 8, 32}) {
          for (const int activation_bits : {8, 16, 32}) {
            const LayerPlan plan{.name = "layer",
                                 .op = op,
                                 .pattern = pattern,
                                 .weight_bits = weight_bits,
                                 .activation_bits = activation_bits};
            const LayerVerdict verdict = check_one(target, plan);
            EXPECT_FALSE(verdict.reason.empty()) << target << " " << pattern;
            EXPECT_FALSE(verdict.source.empty()) << target << " " << pattern;
            EXPECT_EQ(verdict.layer.name, "layer");
          }
        }
      }
    }
  }
}

TEST(Targets, PatternsThatCannotBeReadAreAnErrorThatNamesTheLayer) {
  for (const char* wrong : {"2-4", "two:four", "2:", ":4", "5:4", "0:4", "1:2:3:4", "sparse", "2:4x", "-2:4"}) {
    try {
      static_cast<void>(check_target("onnx-qdq", {conv(wrong)}));
      FAIL() << wrong << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument) << wrong;
      EXPECT_EQ(error.where(), "conv2") << wrong;
    }
  }
}

TEST(Targets, VerdictsComeInTheOrderOfTheLayers) {
  const std::vector<LayerVerdict> verdicts =
      check_target("x86-avx512-vnni", {conv("2:4"), gemm("unstructured"), gemm("dense")});
  ASSERT_EQ(verdicts.size(), 3U);
  EXPECT_EQ(verdicts[0].layer.name, "conv2");
  EXPECT_EQ(verdicts[1].layer.pattern, "unstructured");
  EXPECT_EQ(verdicts[2].layer.pattern, "dense");
  EXPECT_TRUE(check_target("x86-avx2", {}).empty());
}

TEST(Targets, TwoFourIsFastOnlyWhereItWasMeasuredOrIsInHardware) {
  std::set<std::string> fast;
  for (const std::string& target : target_names()) {
    if (check_one(target, gemm("2:4")).support == Support::kFast) {
      fast.insert(target);
    }
  }
  EXPECT_EQ(fast, (std::set<std::string>{"x86-avx2", "x86-avx512-vnni", "nvidia-ampere"}));
  EXPECT_TRUE(contains(check_one("x86-avx512-vnni", gemm("2:4")).reason, "Intel"));
  EXPECT_TRUE(contains(check_one("x86-avx2", gemm("2:4")).reason, "own exact dense kernel"));
  EXPECT_TRUE(contains(check_one("arm-i8mm", gemm("2:4")).reason, "below 1.0"));
}

TEST(Targets, UnstructuredZerosAreFastNowhere) {
  for (const std::string& target : target_names()) {
    for (const char* pattern : {"unstructured", "block 2x4 keeping 6", "2:4 in 0.5 of the blocks"}) {
      EXPECT_EQ(check_one(target, conv(pattern)).support, Support::kRuns) << target << " " << pattern;
    }
  }
}

TEST(Targets, BlocksAreFastOnlyWhereTheirKernelsAre) {
  for (const std::string& target : target_names()) {
    const Support expected = target == "x86-avx512-vnni" ? Support::kFast : Support::kRuns;
    EXPECT_EQ(check_one(target, gemm("block 4x1")).support, expected) << target;
  }
}

TEST(Targets, DenseInt8IsFastWhereTheMachineHasInstructionsForIt) {
  EXPECT_EQ(check_one("x86-avx2", gemm("dense")).support, Support::kRuns);
  for (const char* target : {"x86-avx512-vnni", "arm-dotprod", "arm-i8mm", "nvidia-ampere"}) {
    EXPECT_EQ(check_one(target, gemm("dense")).support, Support::kFast) << target;
  }
}

TEST(Targets, GenericOnnxExploitsNoZeros) {
  for (const char* pattern : {"2:4", "1:4", "4:8", "64:2:4", "unstructured", "block 4x1"}) {
    EXPECT_EQ(check_one("onnx-qdq", gemm(pattern)).support, Support::kRuns) << pattern;
  }
}

TEST(Targets, PatternsThatAreStricterThanTwoFourCountAsTwoFour) {
  for (const char* pattern : {"1:4", "2:8", "1:16", "2:4t"}) {
    EXPECT_EQ(check_one("x86-avx512-vnni", gemm(pattern)).support, Support::kFast) << pattern;
  }
  for (const char* pattern : {"4:8", "3:4", "1:3", "2:6"}) {
    EXPECT_EQ(check_one("x86-avx512-vnni", gemm(pattern)).support, Support::kRuns) << pattern;
  }
}

TEST(Targets, AFirstConvolutionWithOneChannelStaysDense) {
  for (const std::string& target : target_names()) {
    const LayerVerdict verdict = check_one(target, conv("2:4", 1, 32));
    EXPECT_EQ(verdict.support, Support::kRuns) << target;
    EXPECT_TRUE(contains(verdict.reason, "groups of 4 run along the input channels and it has 1")) << verdict.reason;
  }
  EXPECT_EQ(check_one("x86-avx512-vnni", conv("2:4", 4, 32)).support, Support::kFast);
  EXPECT_EQ(check_one("x86-avx512-vnni", conv("dense", 1, 32)).support, Support::kFast);
}

TEST(Targets, NvidiaNeedsExtentsThatItsKernelsTake) {
  EXPECT_EQ(check_one("nvidia-ampere", gemm("2:4", 3136, 256)).support, Support::kFast);
  EXPECT_EQ(check_one("nvidia-ampere", gemm("2:4", 3140, 256)).support, Support::kRuns);
  EXPECT_EQ(check_one("nvidia-ampere", gemm("2:4", 256, 10)).support, Support::kRuns);
  EXPECT_EQ(check_one("nvidia-ampere", conv("2:4", 512, 512)).support, Support::kFast);
  EXPECT_EQ(check_one("nvidia-ampere", conv("2:4", 32, 64)).support, Support::kRuns);
  EXPECT_EQ(check_one("nvidia-ampere", conv("2:4", 32, 512)).support, Support::kRuns);
  EXPECT_EQ(check_one("nvidia-ampere", conv("2:4", 512, 64)).support, Support::kRuns);
  EXPECT_EQ(check_one("nvidia-ampere", gemm("dense", 30, 10)).support, Support::kFast);
}

TEST(Targets, OtherPrecisionsAreUnsupportedWherePareCannotMakeOrRunThem) {
  for (const std::string& target : target_names()) {
    LayerPlan plan = gemm("2:4");
    plan.weight_bits = 4;
    const bool cpu = contains(target, "x86") || contains(target, "arm");
    const LayerVerdict verdict = check_one(target, plan);
    EXPECT_EQ(verdict.support, cpu ? Support::kRuns : Support::kUnsupported) << target;
    EXPECT_TRUE(contains(verdict.reason, cpu ? "int4 weights" : "4-bit weights")) << verdict.reason;
    plan.op = "Conv";
    EXPECT_EQ(check_one(target, plan).support, Support::kUnsupported) << target;
    plan.weight_bits = 8;
    plan.activation_bits = 16;
    EXPECT_EQ(check_one(target, plan).support, Support::kUnsupported) << target;
  }
  LayerPlan plain = gemm("dense");
  plain.weight_bits = 32;
  plain.activation_bits = 32;
  EXPECT_EQ(check_one("onnx-qdq", plain).support, Support::kRuns);
  EXPECT_EQ(check_one("x86-avx2", plain).support, Support::kUnsupported);
}

TEST(Targets, SupportHasNames) {
  EXPECT_EQ(to_string(Support::kFast), "fast");
  EXPECT_EQ(to_string(Support::kRuns), "runs");
  EXPECT_EQ(to_string(Support::kUnsupported), "unsupported");
}

}  // namespace
}  // namespace pare::pipeline
