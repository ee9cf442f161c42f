#include "pare/base/strings.h"

#include <gtest/gtest.h>

namespace pare {
namespace {

using Names = std::vector<std::string>;

TEST(Strings, StrCatTakesAnythingThatStreams) {
  EXPECT_EQ(str_cat("row ", 3, ": ", 0.5, ' ', std::string("x")), "row 3: 0.5 x");
}

TEST(Strings, JoinPutsSeparatorsOnlyBetween) {
  EXPECT_EQ(join(Names{}, ", "), "");
  EXPECT_EQ(join(Names{"a"}, ", "), "a");
  EXPECT_EQ(join(Names{"a", "", "c"}, ", "), "a, , c");
}

TEST(Glob, MatchesLiterallyWithoutWildcards) {
  EXPECT_TRUE(glob_match("conv1.weight", "conv1.weight"));
  EXPECT_FALSE(glob_match("conv1.weight", "conv1xweight"));
  EXPECT_FALSE(glob_match("conv1", "conv1.weight"));
  EXPECT_FALSE(glob_match("conv1.weight", "conv1"));
  EXPECT_FALSE(glob_match("[a]", "a"));
  EXPECT_TRUE(glob_match("[a]", "[a]"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(Glob, StarTakesAnyRunDotsIncluded) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "layer1.0.conv1.weight"));
  EXPECT_TRUE(glob_match("*.weight", "layer1.0.conv1.weight"));
  EXPECT_TRUE(glob_match("layer*.conv?.*", "layer1.0.conv1.weight"));
  EXPECT_TRUE(glob_match("a**b", "ab"));
  EXPECT_TRUE(glob_match("*ab", "aab"));
  EXPECT_TRUE(glob_match("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(glob_match("*.weight", "conv1.bias"));
  EXPECT_FALSE(glob_match("*.weight", "conv1.weights"));
}

TEST(Glob, QuestionMarkTakesExactlyOneCharacter) {
  EXPECT_TRUE(glob_match("fc?", "fc1"));
  EXPECT_FALSE(glob_match("fc?", "fc"));
  EXPECT_FALSE(glob_match("fc?", "fc12"));
}

TEST(Glob, ManyStarsStayQuick) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "a*";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(20'000, 'a')));
}

TEST(NearestNames, NearestComesFirstAndOrderBreaksTies) {
  const Names known = {"conv2.weight", "conv1.weight", "fc1.weight", "conv1.bias"};
  EXPECT_EQ(nearest_names("conv1.wieght", known), (Names{"conv1.weight", "conv2.weight", "fc1.weight"}));
  EXPECT_EQ(nearest_names("conv3.weight", known, 2), (Names{"conv2.weight", "conv1.weight"}));
}

TEST(NearestNames, SwappedNeighboursAreOneEdit) {
  // One swap away: within the allowance although the lone replacement reads as two edits.
  EXPECT_EQ(nearest_names("lr", Names{"rl", "xyz"}), Names{"rl"});
  EXPECT_EQ(nearest_names("ab", Names{"cb", "ba"}), (Names{"cb", "ba"}));
}

TEST(NearestNames, FarNamesAreLeftOut) {
  EXPECT_EQ(nearest_names("optimizer", Names{"epochs", "kind"}), Names{});
  EXPECT_EQ(nearest_names("ab", Names{"xy"}), Names{});
  EXPECT_EQ(nearest_names("momentum", Names{"momxxxxm"}), Names{"momxxxxm"});  // 4 edits of 8 letters
  EXPECT_EQ(nearest_names("momentum", Names{"moxxxxxm"}), Names{});            // 5 edits
  EXPECT_EQ(nearest_names("", Names{"a", "abcd"}), Names{});
  EXPECT_EQ(nearest_names("x", Names{}), Names{});
}

TEST(DidYouMean, ReadsAsASentence) {
  EXPECT_EQ(did_you_mean("epoch", Names{"epochs", "kind"}), "did you mean 'epochs'?");
  EXPECT_EQ(did_you_mean("fc3", Names{"fc1", "fc2"}), "did you mean 'fc1' or 'fc2'?");
  EXPECT_EQ(did_you_mean("fc9", Names{"fc1", "fc2", "fc3", "fc4"}), "did you mean 'fc1', 'fc2' or 'fc3'?");
}

TEST(DidYouMean, ListsWhatIsKnownWhereNothingIsNear) {
  EXPECT_EQ(did_you_mean("zzzzzz", Names{"epochs", "kind"}), "known: epochs, kind");
  EXPECT_EQ(did_you_mean("zzzzzz", Names{}), "");
  Names many;
  for (int i = 0; i < 13; ++i) many.push_back(str_cat("name", i));
  EXPECT_EQ(did_you_mean("zzzzzzzzz", many).find("name12"), std::string::npos);
  EXPECT_NE(did_you_mean("zzzzzzzzz", many).find("name11, …"), std::string::npos);
  many.pop_back();
  EXPECT_EQ(did_you_mean("zzzzzzzzz", many).find("…"), std::string::npos);
}

TEST(EscapeHtml, LeavesNothingThatAParserTakesForMarkup) {
  EXPECT_EQ(escape_html("a <b> & \"c\" 'd'\n"), "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; ");
  EXPECT_EQ(escape_html("caf\xc3\xa9"), "caf\xc3\xa9");
}

}  // namespace
}  // namespace pare
