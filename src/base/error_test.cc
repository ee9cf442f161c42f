#include "pare/base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace pare {
namespace {

TEST(Error, SaysWhereThenWhatThenRemedy) {
  const Error error(ErrorCategory::kNotFound, "no such layer", "recipe.toml:7", "did you mean 'fc1'?");
  EXPECT_STREQ(error.what(), "recipe.toml:7: no such layer; did you mean 'fc1'?");
  EXPECT_EQ(error.category(), ErrorCategory::kNotFound);
  EXPECT_EQ(error.problem(), "no such layer");
  EXPECT_EQ(error.where(), "recipe.toml:7");
  EXPECT_EQ(error.remedy(), "did you mean 'fc1'?");
}

TEST(Error, LeavesEmptyPartsOut) {
  EXPECT_STREQ(Error(ErrorCategory::kIo, "disk full").what(), "disk full");
  EXPECT_STREQ(Error(ErrorCategory::kIo, "disk full", "a.txt").what(), "a.txt: disk full");
  EXPECT_STREQ(Error(ErrorCategory::kIo, "disk full", "", "free some space").what(), "disk full; free some space");
}

TEST(Error, EachCategoryHasItsOwnName) {
  std::set<std::string_view> names;
  constexpr int kCategories = static_cast<int>(ErrorCategory::kVerification) + 1;
  for (int i = 0; i < kCategories; ++i) names.insert(to_string(static_cast<ErrorCategory>(i)));
  EXPECT_EQ(names.size(), std::size_t{kCategories});
  EXPECT_FALSE(names.contains(""));
}

TEST(CheckDeathTest, AbortsWithFileAndCondition) {
  const int two = 2;
  PARE_CHECK(two == 2);
  EXPECT_DEATH(PARE_CHECK(two == 3), "error_test.cc.*two == 3");
}

}  // namespace
}  // namespace pare
