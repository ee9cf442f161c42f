#include "pare/train/weight_pipeline.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "pare/base/testing.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using pare::testing::error_of;
using testing::GridQuantizer;
using testing::same_bits;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

torch::Tensor parameter(std::vector<float> values) { return torch::tensor(values).requires_grad_(true); }

// Gradient of sum(used * factors) with respect to the dense weight.
torch::Tensor gradient_of(const WeightPipeline& pipeline, const torch::Tensor& factors) {
  pipeline.dense().mutable_grad() = torch::Tensor();
  (pipeline.used() * factors).sum().backward();
  return pipeline.dense().grad();
}

TEST(WeightPipeline, WithoutMaskAndQuantizerTheDenseWeightItselfIsUsed) {
  const WeightPipeline pipeline("fc.weight", parameter({1.0F, -2.0F}));
  EXPECT_TRUE(pipeline.used().is_same(pipeline.dense()));
  EXPECT_EQ(pipeline.masked().data_ptr(), pipeline.dense().data_ptr());
  EXPECT_FALSE(pipeline.masked().requires_grad());
  EXPECT_FALSE(pipeline.mask().defined());
}

TEST(WeightPipeline, MaskedWeightsArePlusZeroWhateverLiesUnderneath) {
  WeightPipeline pipeline("fc.weight", parameter({-1.0F, kNan, kInf, -kInf, -0.0F, 3.0F, -4.0F, 5.0F}));
  pipeline.set_mask(torch::tensor({0.0F, 0.0F, 0.0F, 0.0F, 0.0F, 1.0F, 1.0F, 0.0F}));
  const torch::Tensor expected = torch::tensor({0.0F, 0.0F, 0.0F, 0.0F, 0.0F, 3.0F, -4.0F, 0.0F});
  EXPECT_TRUE(same_bits(pipeline.used(), expected));
  EXPECT_TRUE(same_bits(pipeline.masked(), expected));
}

TEST(WeightPipeline, StridedWeightsAreMaskedAsContiguousOnesAre) {
  const torch::Tensor values = torch::randn({6, 10});
  const torch::Tensor mask = (torch::randn({6, 10}) > 0).to(torch::kFloat32);
  WeightPipeline strided("fc.weight", values.t().contiguous().t().detach().requires_grad_(true));
  ASSERT_FALSE(strided.dense().is_contiguous());
  strided.set_mask(mask);
  EXPECT_TRUE(torch::equal(strided.used(), values * mask));
  strided.set_mask_gradient(MaskGradient::kMasked);
  EXPECT_TRUE(torch::equal(gradient_of(strided, torch::ones({6, 10})), mask));
}

TEST(WeightPipeline, LargeWeightsAreMaskedInEveryThread) {
  torch::manual_seed(1);
  const torch::Tensor values = torch::randn({257, 1031});
  const torch::Tensor mask = (torch::randn({257, 1031}) > 0).to(torch::kFloat32);
  WeightPipeline pipeline("fc.weight", values.clone().requires_grad_(true));
  pipeline.set_mask(mask);
  EXPECT_TRUE(torch::equal(pipeline.used(), values * mask));
}

TEST(WeightPipeline, StraightThroughGradientIgnoresTheMask) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, -2.0F, 3.0F, -4.0F}));
  pipeline.set_mask(torch::tensor({1.0F, 0.0F, 0.0F, 1.0F}));
  const torch::Tensor factors = torch::tensor({0.5F, 1.5F, -2.5F, 3.5F});
  EXPECT_TRUE(same_bits(gradient_of(pipeline, factors), factors));
}

TEST(WeightPipeline, MaskedGradientIsZeroWhereTheMaskIs) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, -2.0F, 3.0F, -4.0F}));
  pipeline.set_mask(torch::tensor({1.0F, 0.0F, 0.0F, 1.0F}));
  pipeline.set_mask_gradient(MaskGradient::kMasked);
  EXPECT_TRUE(same_bits(gradient_of(pipeline, torch::tensor({0.5F, kNan, -2.5F, 3.5F})),
                        torch::tensor({0.5F, 0.0F, 0.0F, 3.5F})));
}

TEST(WeightPipeline, SrSteAddsDecayOfTheMaskedWeights) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, -2.0F, 3.0F, -4.0F}));
  pipeline.set_mask(torch::tensor({1.0F, 0.0F, 0.0F, 1.0F}));
  pipeline.set_sr_ste_decay(0.25);
  const torch::Tensor factors = torch::tensor({0.5F, 1.5F, -2.5F, 3.5F});
  // Equation 8: g + decay * (1 - mask) * dense.
  EXPECT_TRUE(same_bits(gradient_of(pipeline, factors), torch::tensor({0.5F, 1.0F, -1.75F, 3.5F})));
  pipeline.set_mask_gradient(MaskGradient::kMasked);
  EXPECT_TRUE(same_bits(gradient_of(pipeline, factors), torch::tensor({0.5F, 0.0F, 0.0F, 3.5F})))
      << "what is held out does not decay either";
}

TEST(WeightPipeline, TheQuantizerSeesOnlyTheMaskedWeight) {
  WeightPipeline pipeline("fc.weight", parameter({0.30F, 100.0F, -0.55F, 0.9F}));
  const auto quantizer = std::make_shared<GridQuantizer>();
  pipeline.set_mask(torch::tensor({1.0F, 0.0F, 1.0F, 0.0F}));
  pipeline.set_fake_quantizer(quantizer);
  EXPECT_TRUE(same_bits(pipeline.used(), torch::tensor({0.25F, 0.0F, -0.5F, 0.0F})));
  EXPECT_TRUE(same_bits(pipeline.codes(), torch::tensor({2.0, 0.0, -4.0, 0.0}, torch::kFloat64)));
  EXPECT_EQ(quantizer->calls(), 1) << "codes() is no forward pass";
  pipeline.set_mask_gradient(MaskGradient::kMasked);
  EXPECT_TRUE(same_bits(gradient_of(pipeline, torch::ones({4})), torch::tensor({1.0F, 0.0F, 1.0F, 0.0F})));
}

TEST(WeightPipeline, SquashWritesTheMaskIntoTheWeightAndDropsIt) {
  const torch::Tensor dense = parameter({1.0F, kNan, 3.0F, -4.0F});
  WeightPipeline pipeline("fc.weight", dense);
  pipeline.set_mask(torch::tensor({1.0F, 0.0F, 0.0F, 1.0F}));
  pipeline.squash();
  EXPECT_TRUE(same_bits(dense, torch::tensor({1.0F, 0.0F, 0.0F, -4.0F})));
  EXPECT_FALSE(pipeline.mask().defined());
  EXPECT_TRUE(dense.requires_grad());
}

TEST(WeightPipeline, AMaskOfAnotherShapeOrWithOtherValuesIsRefused) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, 2.0F}));
  for (const torch::Tensor& mask : {torch::ones({3}), torch::ones({2, 1}), torch::Tensor(), torch::tensor({0.5F, 1.0F}),
                                    torch::tensor({kNan, 1.0F}), torch::tensor({-1.0F, 0.0F}), torch::tensor({2, 1})}) {
    const auto error = error_of([&] { pipeline.set_mask(mask); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->category(), ErrorCategory::kInvalidArgument);
    EXPECT_EQ(error->where(), "fc.weight");
    EXPECT_FALSE(pipeline.mask().defined());
  }
  pipeline.set_mask(torch::tensor({true, false}));
  EXPECT_TRUE(same_bits(pipeline.mask(), torch::tensor({1.0F, 0.0F})));
}

TEST(WeightPipeline, AMaskThatWasReadStaysAsItWasWhenAnotherIsSet) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, 2.0F}));
  torch::Tensor given = torch::tensor({1.0F, 0.0F});
  pipeline.set_mask(given);
  given.fill_(0.0F);
  const torch::Tensor before = pipeline.mask();
  pipeline.set_mask(torch::tensor({0.0F, 1.0F}));
  EXPECT_TRUE(same_bits(before, torch::tensor({1.0F, 0.0F})));
}

TEST(WeightPipeline, ImpossibleDecaysAreRefused) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F}));
  for (const double decay : {-1e-4, static_cast<double>(kNan), static_cast<double>(kInf)}) {
    const auto error = error_of([&] { pipeline.set_sr_ste_decay(decay); });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->category(), ErrorCategory::kInvalidArgument);
  }
}

TEST(WeightPipeline, TakingTheMaskOffForgetsItsGradientRule) {
  WeightPipeline pipeline("fc.weight", parameter({1.0F, 2.0F}));
  pipeline.set_mask(torch::tensor({1.0F, 0.0F}));
  pipeline.set_mask_gradient(MaskGradient::kMasked);
  pipeline.set_sr_ste_decay(0.5);
  pipeline.clear_mask();
  EXPECT_EQ(pipeline.mask_gradient(), MaskGradient::kStraightThrough);
  EXPECT_EQ(pipeline.sr_ste_decay(), 0.0);
}

}  // namespace
}  // namespace pare::train
