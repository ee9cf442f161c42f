#include "pare/format/real_functions.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pare::format {
namespace {

// The documented bounds, over steps that hit no pattern of the polynomials.
TEST(RealFunctions, ExpIsWithinItsBound) {
  EXPECT_EQ(exp_nonpositive(0.0F), 1.0F);
  for (int i = 0; i < 1000003; ++i) {
    const float x = -87.0F * static_cast<float>(i) / 1000003.0F;
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exp_nonpositive(x), exact, exact * 1.2e-7) << x;
  }
  EXPECT_EQ(exp_nonpositive(-1000.0F), exp_nonpositive(-87.0F));
  EXPECT_EQ(exp_nonpositive(-INFINITY), exp_nonpositive(-87.0F));
  EXPECT_GE(exp_nonpositive(-87.0F), 1.17549435e-38F);
}

TEST(RealFunctions, ErfIsWithinItsBoundAndNeverBeyondOne) {
  for (int i = -1000003; i <= 1000003; ++i) {
    const float x = 6.0F * static_cast<float>(i) / 1000003.0F;
    ASSERT_NEAR(erf(x), std::erf(static_cast<double>(x)), 5e-7) << x;
    ASSERT_LE(std::abs(erf(x)), 1.0F);
  }
}

TEST(RealFunctions, GeluIsXOrNothingFarFromZero) {
  EXPECT_EQ(gelu(0.0F), 0.0F);
  EXPECT_EQ(gelu(100.0F), 100.0F);
  EXPECT_EQ(gelu(-100.0F), 0.0F);
  EXPECT_NEAR(gelu(1.0F), 0.8413447, 3e-7);
  EXPECT_NEAR(gelu(-1.0F), -0.1586553, 3e-7);
}

TEST(RealFunctions, SumsAreFoldedInPairs) {
  float parts[kSumParts] = {};
  parts[0] = 1e8F;
  parts[8] = -1e8F;
  parts[1] = 1.0F;
  EXPECT_EQ(fold_parts(parts), 1.0F) << "0 and 8 come first";
}

}  // namespace
}  // namespace pare::format
