#include "pare/kernels/gelu/gelu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

// All of the curve and what lies beyond it.
std::vector<float> numbers(std::uint64_t seed, std::int64_t count) {
  Rng rng(seed);
  std::vector<float> x;
  for (std::int64_t i = 0; i < count; ++i) {
    const float wide = i % 3 == 0 ? 20.0F : 4.0F;
    x.push_back(i % 50 == 49 ? 1e30F : i % 50 == 48 ? -1e30F : wide * (2.0F * rng.uniform() - 1.0F));
  }
  if (count > 5) x[5] = std::numeric_limits<float>::quiet_NaN();
  return x;
}

TEST(Gelu, EveryKernelEqualsTheReferenceAndKeepsToItsElements) {
  for (const GeluKernel& kernel : gelu_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t elems : {0, 1, 5, 15, 16, 17, 31, 32, 33, 100, 5000}) {
      const std::vector<float> x = numbers(66, elems);
      std::vector<float> expected(x.size());
      std::vector<std::uint8_t> expected_codes(x.size());
      GeluArgs args;
      args.x = x.data();
      args.y.real = expected.data();
      reference_gelu(args, 0, elems);
      args.y = {nullptr, expected_codes.data(), 0.03F, 6};
      reference_gelu(args, 0, elems);
      for (const std::uint8_t poison : kPoisons) {
        Guarded<float> x_guarded(elems, poison);
        Guarded<float> y(elems, poison);
        Guarded<std::uint8_t> codes(elems, poison);
        x_guarded.assign(x);
        args.x = x_guarded.data();
        args.y = {y.data(), nullptr, 1.0F, 0};
        kernel.run(args, elems / 3, elems);
        kernel.run(args, 0, elems / 3);
        for (std::int64_t i = 0; i < elems; ++i) {
          const auto at = static_cast<std::size_t>(i);
          if (!std::isnan(x[at])) {
            ASSERT_EQ(y.data()[i], expected[at]) << kernel.name << " " << x[at];
          }
        }
        args.y = {nullptr, codes.data(), 0.03F, 6};
        kernel.run(args, elems / 3, elems);
        kernel.run(args, 0, elems / 3);
        EXPECT_EQ(std::vector<std::uint8_t>(codes.items().begin(), codes.items().end()), expected_codes)
            << kernel.name << " " << elems;
        EXPECT_TRUE(x_guarded.guards_intact() && y.guards_intact() && codes.guards_intact()) << kernel.name;
      }
    }
  }
}

}  // namespace
}  // namespace pare::kernels
