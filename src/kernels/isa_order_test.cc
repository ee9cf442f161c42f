#include "pare/kernels/isa_order.h"

#include <gtest/gtest.h>

namespace pare::kernels {
namespace {

struct Row {
  Isa isa;
  int id;
};

int strongest_id(std::span<const Row> table, Isa chosen) {
  const Row* row = strongest(table, chosen, [](const Row& candidate) { return candidate.id != 99; });
  return row == nullptr ? -1 : row->id;
}

TEST(IsaOrder, TheTwoLaddersDoNotMix) {
  EXPECT_TRUE(runs_on(Isa::kScalar, Isa::kNeonI8mm));
  EXPECT_TRUE(runs_on(Isa::kAvx2, Isa::kAvx512Vnni));
  EXPECT_FALSE(runs_on(Isa::kAvx512Vnni, Isa::kAvx2));
  EXPECT_TRUE(runs_on(Isa::kAvx512Vnni, Isa::kAvx512Vbmi));
  EXPECT_FALSE(runs_on(Isa::kAvx512Vbmi, Isa::kAvx512Vnni));
  EXPECT_FALSE(runs_on(Isa::kAvx2, Isa::kNeonI8mm));
  EXPECT_FALSE(runs_on(Isa::kNeonDotprod, Isa::kAvx512Vnni));
  EXPECT_FALSE(runs_on(Isa::kAvx2, Isa::kScalar));
}

TEST(IsaOrder, StrongestTakesTheNearestWeakerRowThatFits) {
  const Row table[] = {{Isa::kScalar, 0}, {Isa::kAvx2, 1}, {Isa::kAvx512Vnni, 99}, {Isa::kNeonDotprod, 3}};
  EXPECT_EQ(strongest_id(table, Isa::kScalar), 0);
  EXPECT_EQ(strongest_id(table, Isa::kAvx2), 1);
  EXPECT_EQ(strongest_id(table, Isa::kAvx512Vnni), 1);
  EXPECT_EQ(strongest_id(table, Isa::kNeonI8mm), 3);
  EXPECT_EQ(strongest_id({}, Isa::kScalar), -1);
}

}  // namespace
}  // namespace pare::kernels
