#include "pare/cli/pare_run_table.h"

#include <gtest/gtest.h>

namespace pare::cli {
namespace {

TEST(Table, PadsColumnsToTheWidestCellAndLeavesOutEmptyOnes) {
  Table table({{"name"}, {"n", Table::Align::kRight}, {"empty"}, {"last"}});
  table.add_row({"a", "1", "", "x"});
  table.add_row({"größer", "1000", "", ""});
  EXPECT_EQ(table.text(),
            "name       n  last\n"
            "a          1  x\n"
            "größer  1000\n");
}

TEST(Table, FormatsNumbers) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(fixed(2.0 / 3.0, 2), "0.67");
  EXPECT_EQ(duration(1.5e-5), "15.0 us");
  EXPECT_EQ(duration(0.0123), "12.30 ms");
  EXPECT_EQ(duration(61.0), "61.00 s");
}

}  // namespace
}  // namespace pare::cli
