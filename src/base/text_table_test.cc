#include "pare/base/text_table.h"

#include <gtest/gtest.h>

namespace pare {
namespace {

TEST(TextTable, PadsColumnsToTheWidestCellAndLeavesOutEmptyOnes) {
  TextTable table({{"name"}, {"n", TextTable::Align::kRight}, {"empty"}, {"last"}});
  table.add_row({"a", "1", "", "x"});
  table.add_row({"größer", "1000", "", ""});
  EXPECT_EQ(table.text(),
            "name       n  last\n"
            "a          1  x\n"
            "größer  1000\n");
}

}  // namespace
}  // namespace pare
