#include "pare/cli/pare_run_numbers.h"

#include <gtest/gtest.h>

namespace pare::cli {
namespace {

TEST(PareRunNumbers, AreTextsForPeople) {
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
