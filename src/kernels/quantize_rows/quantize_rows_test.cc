#include "pare/kernels/quantize_rows/quantize_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/ran.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

struct Quantized {
  std::vector<std::uint8_t> codes;
  std::vector<float> scale;
};

// `x`: [m][k]. Rows lie 3 elements, those of codes 5 bytes further apart than they are long.
Quantized quantized(const QuantizeRowsKernel* kernel, const std::vector<float>& x, std::int64_t m, std::int64_t k,
                    std::int64_t k_padded, std::uint8_t zero_point, std::uint8_t poison) {
  const std::int64_t x_stride = k + 3;
  const std::int64_t codes_stride = k_padded + 5;
  Guarded<float> reals((m - 1) * x_stride + k, poison);
  for (std::int64_t row = 0; row < m; ++row) {
    std::copy_n(x.data() + row * k, k, reals.data() + row * x_stride);
  }
  Guarded<std::uint8_t> codes((m - 1) * codes_stride + k_padded, poison);
  Guarded<float> scale(m, poison);
  const QuantizeRowsArgs args{reals.data(), x_stride, k,          codes.data(),
                              codes_stride, k_padded, zero_point, scale.data()};
  if (kernel == nullptr) {
    reference_quantize_rows(args, m);
  } else {
    kernel->run(args, m / 2, m);
    kernel->run(args, 0, m / 2);
  }
  EXPECT_TRUE(reals.guards_intact() && codes.guards_intact() && scale.guards_intact());
  Quantized result;
  for (std::int64_t row = 0; row < m; ++row) {
    const std::uint8_t* of_row = codes.data() + row * codes_stride;
    result.codes.insert(result.codes.end(), of_row, of_row + k_padded);
    if (row + 1 < m) {
      EXPECT_TRUE(
          std::all_of(of_row + k_padded, of_row + codes_stride, [&](std::uint8_t byte) { return byte == poison; }));
    }
  }
  result.scale.assign(scale.data(), scale.data() + m);
  return result;
}

TEST(QuantizeRows, EveryKernelEqualsTheReferenceTiesAndSpecialsIncluded) {
  const std::uint64_t seed = 71;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  const float inf = std::numeric_limits<float>::infinity();
  const float specials[] = {0.0F, -0.0F, std::nanf("5"), 1e-45F, 3.4e38F, -3.4e38F, inf, -inf};
  testing::Ran<QuantizeRowsKernel> ran(quantize_rows_kernels());
  for (const QuantizeRowsKernel& kernel : quantize_rows_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const std::int64_t m : {1, 2, 5}) {
      for (const std::int64_t k : {0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200, 1000}) {
        for (const std::int64_t k_padded : {k, (k + 31) / 32 * 32, k + 77}) {
          for (int kind = 0; kind < 4; ++kind) {
            SCOPED_TRACE(::testing::Message()
                         << kernel.name << " " << m << "x" << k << " padded " << k_padded << " kind " << kind);
            std::vector<float> x(static_cast<std::size_t>(m * k));
            for (float& real : x) {
              // Normal; ties, as 127 makes the scale 1; with zeros, NaN and tiny numbers; with huge and infinite ones.
              real = rng.normal() * 3.0F;
              if (kind == 1) real = static_cast<float>(static_cast<int>(rng.below(509)) - 254) * 0.5F;
              if (kind > 1 && rng.below(9) == 0) real = specials[rng.below(kind == 2 ? 4 : 8)];
            }
            if (kind == 1) {
              for (std::int64_t row = 0; k > 0 && row < m; ++row) x[static_cast<std::size_t>(row * k)] = -127.0F;
            }
            const std::uint8_t zero_point = rng.below(2) == 0 ? 0 : 128;
            const Quantized expected = quantized(nullptr, x, m, k, k_padded, zero_point, 0);
            for (const std::uint8_t poison : kPoisons) {
              const Quantized got = quantized(&kernel, x, m, k, k_padded, zero_point, poison);
              EXPECT_EQ(got.codes, expected.codes);
              EXPECT_EQ(got.scale, expected.scale);
            }
            ran.add(kernel);
          }
        }
      }
    }
  }
  ran.expect_kernels();
}

TEST(QuantizeRows, ReferenceOnASmallExample) {
  const std::vector<float> x = {1.0F, -2.54F, 0.0F, 0.51F};
  EXPECT_EQ(quantized(nullptr, x, 1, 4, 6, 0, 0).codes, (std::vector<std::uint8_t>{50, 256 - 127, 0, 26, 0, 0}));
  EXPECT_EQ(quantized(nullptr, x, 1, 4, 4, 128, 0).codes, (std::vector<std::uint8_t>{178, 1, 128, 154}));
  EXPECT_EQ(quantized(nullptr, x, 1, 4, 4, 0, 0).scale, (std::vector<float>{2.54F / 127.0F}));
  EXPECT_EQ(quantized(nullptr, {0.0F}, 1, 1, 1, 0, 0).scale, (std::vector<float>{1.1920929e-07F}));
}

}  // namespace
}  // namespace pare::kernels
