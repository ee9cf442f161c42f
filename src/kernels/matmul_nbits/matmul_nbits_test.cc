#include "pare/kernels/matmul_nbits/matmul_nbits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/half.h"
#include "pare/kernels/quantize_rows/quantize_rows.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/ran.h"
#include "pare/kernels/testing/random_nbits.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;
using testing::runs_here;

struct Case {
  std::int64_t m, n, k, group;
};

// 1, tile +- 1 (6 rows, vectors of 16, panels of 32; blocks of 32, groups), odd, k no multiple of 4 or 8, empty, large.
std::vector<Case> shape_grid() {
  std::vector<Case> cases;
  for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 13}) {
    for (const std::int64_t n : {1, 15, 16, 17, 31, 32, 33}) {
      for (const std::int64_t k : {1, 2, 3, 5, 31, 32, 33, 65}) cases.push_back({m, n, k, 32});
    }
  }
  for (const Case& extra : std::vector<Case>{{0, 5, 8, 32},
                                             {5, 0, 8, 32},
                                             {3, 3, 0, 32},
                                             {0, 0, 0, 64},
                                             {1, 70, 64, 64},
                                             {3, 70, 96, 64},
                                             {2, 40, 127, 128},
                                             {7, 33, 129, 128},
                                             {1, 64, 512, 256},
                                             {5, 65, 300, 256},
                                             {16, 96, 256, 32},
                                             {133, 40, 96, 32},
                                             {265, 33, 70, 64},
                                             {1, 130, 4100, 32},
                                             {9, 64, 1024, 128}}) {
    cases.push_back(extra);
  }
  return cases;
}

struct Operands {
  testing::StoredNBits weights;
  std::vector<std::int8_t> a;  // [m][k]
  std::vector<float> a_scale;
  std::vector<float> bias;  // empty: none
  bool relu = false;
};

Operands random_operands(Rng& rng, NBitsForm form, const Case& shape) {
  Operands operands{testing::random_nbits(rng, form, shape.n, shape.k, shape.group), {}, {}, {}};
  for (std::int64_t i = 0; i < shape.m * shape.k; ++i) {
    operands.a.push_back(static_cast<std::int8_t>(static_cast<int>(rng.below(255)) - 127));
  }
  for (std::int64_t i = 0; i < shape.m; ++i) operands.a_scale.push_back(0.001F + rng.uniform());
  if (rng.below(2) == 0) {
    for (std::int64_t i = 0; i < shape.n; ++i) operands.bias.push_back(rng.normal());
  }
  operands.relu = rng.below(2) == 0;
  return operands;
}

// The bits of C, row by row, computed in pieces as a thread pool would cut it, between guards filled with `poison`.
// `kernel`: null for the reference.
std::vector<std::uint32_t> product(const MatMulNBitsKernel* kernel, const Case& shape, const Operands& operands,
                                   bool in_pieces, std::uint8_t poison) {
  const std::int64_t k_padded = nbits_k_padded(shape.k);
  const std::int64_t a_stride = k_padded + (in_pieces ? 5 : 0);
  const std::int64_t c_stride = shape.n + (in_pieces ? 3 : 0);
  const std::uint8_t zero_point = kernel == nullptr ? 0 : kernel->a_zero_point;
  Guarded<std::uint8_t> a(shape.m == 0 ? 0 : (shape.m - 1) * a_stride + k_padded, poison);
  for (std::int64_t m = 0; m < shape.m; ++m) {
    for (std::int64_t k = 0; k < k_padded; ++k) {
      const int code = k < shape.k ? operands.a[static_cast<std::size_t>(m * shape.k + k)] : 0;
      a.data()[m * a_stride + k] = static_cast<std::uint8_t>(code + zero_point);
    }
  }
  Guarded<float> a_scale(shape.m, poison);
  a_scale.assign(operands.a_scale);
  Guarded<float> bias(static_cast<std::int64_t>(operands.bias.size()), poison);
  bias.assign(operands.bias);
  Guarded<float> c(shape.m == 0 ? 0 : (shape.m - 1) * c_stride + shape.n, poison);
  MatMulNBitsArgs args;
  args.a = a.data();
  args.a_stride_bytes = a_stride;
  args.a_scale = a_scale.data();
  args.bias = operands.bias.empty() ? nullptr : bias.data();
  args.relu = operands.relu;
  args.c = c.data();
  args.c_stride_elems = c_stride;
  args.m = shape.m;
  args.n = shape.n;
  args.k = shape.k;
  if (kernel == nullptr) {
    reference_matmul_nbits(args, operands.weights.view(), operands.weights.form, zero_point);
  } else {
    Guarded<std::uint8_t> packed(static_cast<std::int64_t>(kernel->packed_bytes(operands.weights.view())), poison, 64);
    kernel->pack(operands.weights.view(), packed.data());
    args.packed = packed.data();
    Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel->scratch_bytes(args)), poison, 64);
    const std::int64_t m_cut = in_pieces ? shape.m / 3 : shape.m;
    const std::int64_t n_cut = in_pieces ? shape.n / 2 / kNBitsColumns * kNBitsColumns : shape.n;
    kernel->run(args, 0, m_cut, 0, n_cut, scratch.data());
    kernel->run(args, m_cut, shape.m, 0, n_cut, scratch.data());
    kernel->run(args, 0, m_cut, n_cut, shape.n, scratch.data());
    kernel->run(args, m_cut, shape.m, n_cut, shape.n, scratch.data());
    EXPECT_TRUE(packed.guards_intact() && scratch.guards_intact());
  }
  EXPECT_TRUE(a.guards_intact() && a_scale.guards_intact() && bias.guards_intact() && c.guards_intact());
  std::vector<std::uint32_t> bits;
  for (std::int64_t m = 0; m < shape.m; ++m) {
    const float* row = c.data() + m * c_stride;
    for (std::int64_t n = 0; n < shape.n; ++n) bits.push_back(std::bit_cast<std::uint32_t>(row[n]));
    if (m + 1 == shape.m) continue;
    const auto* between = reinterpret_cast<const std::uint8_t*>(row + shape.n);
    EXPECT_TRUE(std::all_of(between, between + (c_stride - shape.n) * 4, [&](std::uint8_t b) { return b == poison; }))
        << "wrote between rows of C";
  }
  return bits;
}

TEST(MatMulNBits, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 440;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  testing::Ran<MatMulNBitsKernel> ran(matmul_nbits_kernels());
  for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    for (const Case& shape : shape_grid()) {
      SCOPED_TRACE(::testing::Message() << kernel.name << " m " << shape.m << " n " << shape.n << " k " << shape.k
                                        << " group " << shape.group);
      const Operands operands = random_operands(rng, kernel.form, shape);
      const std::vector<std::uint32_t> expected = product(nullptr, shape, operands, false, 0);
      for (const std::uint8_t poison : kPoisons) {
        EXPECT_EQ(product(&kernel, shape, operands, false, poison), expected);
        EXPECT_EQ(product(&kernel, shape, operands, true, poison), expected);
      }
      ran.add(kernel);
    }
  }
  ran.expect_kernels();
}

TEST(MatMulNBits, EveryKernelEqualsTheReferenceOnRandomShapes) {
  const std::uint64_t seed = 441;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  constexpr std::int64_t kGroups[] = {32, 64, 128, 256};
  for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    for (int i = 0; i < 40; ++i) {
      const Case shape{static_cast<std::int64_t>(rng.below(30)), static_cast<std::int64_t>(rng.below(200)),
                       static_cast<std::int64_t>(rng.below(900)), kGroups[rng.below(4)]};
      SCOPED_TRACE(::testing::Message() << kernel.name << " m " << shape.m << " n " << shape.n << " k " << shape.k
                                        << " group " << shape.group);
      const Operands operands = random_operands(rng, kernel.form, shape);
      EXPECT_EQ(product(&kernel, shape, operands, true, 0xA5), product(nullptr, shape, operands, false, 0));
    }
  }
}

// Each of the 255 activation codes meets each of the 16 weight codes at every place of a block, alone: all other
// weights are 0. One row of A holds one code, one column one weight.
TEST(MatMulNBits, EveryKernelIsExactForAllPairsOfCodesAtEveryPlace) {
  constexpr std::int64_t kPlaces = 32;
  for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    const Case shape{255, 16 * kPlaces, kPlaces, 32};
    Operands operands;
    std::vector<std::int8_t> codes(static_cast<std::size_t>(shape.n * shape.k));
    std::vector<std::uint16_t> scales;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      codes[static_cast<std::size_t>(n * shape.k + n / 16)] = static_cast<std::int8_t>(n % 16 - 8);
      scales.push_back(n % 16 == 8 ? std::uint16_t{0} : std::uint16_t{0x3C00});
    }
    operands.weights = testing::stored_nbits(kernel.form, {codes, scales}, shape.n, shape.k, shape.group);
    for (int code = -127; code <= 127; ++code)
      operands.a.insert(operands.a.end(), kPlaces, static_cast<std::int8_t>(code));
    operands.a_scale.assign(255, 1.0F);
    const std::vector<std::uint32_t> bits = product(&kernel, shape, operands, false, 0xA5);
    for (std::int64_t m = 0; m < shape.m; ++m) {
      for (std::int64_t n = 0; n < shape.n; ++n) {
        const float got = std::bit_cast<float>(bits[static_cast<std::size_t>(m * shape.n + n)]);
        ASSERT_EQ(got, static_cast<float>((m - 127) * (n % 16 - 8))) << "a " << m - 127 << " column " << n;
      }
    }
  }
}

// Codes at the ends of their ranges only: what 16-bit sums would saturate at.
TEST(MatMulNBits, EveryKernelIsExactForExtremeCodes) {
  for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    for (const int weight : {-8, 7}) {
      for (const int activation : {-127, 127}) {
        SCOPED_TRACE(::testing::Message() << kernel.name << " " << weight << " " << activation);
        const Case shape{7, 40, 512, 256};
        std::vector<std::int8_t> codes(static_cast<std::size_t>(shape.n * shape.k), static_cast<std::int8_t>(weight));
        if (kernel.form == NBitsForm::kTwoFour) {
          for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = i % 4 < 2 ? codes[i] : std::int8_t{0};
        }
        Operands operands;
        operands.weights = testing::stored_nbits(
            kernel.form, {codes, std::vector<std::uint16_t>(static_cast<std::size_t>(2 * shape.n), 0x3C00)}, shape.n,
            shape.k, shape.group);
        operands.a.assign(static_cast<std::size_t>(shape.m * shape.k), static_cast<std::int8_t>(activation));
        operands.a_scale.assign(static_cast<std::size_t>(shape.m), 1.0F);
        const int kept = kernel.form == NBitsForm::kTwoFour ? 256 : 512;
        for (const std::uint32_t bits : product(&kernel, shape, operands, false, 0)) {
          ASSERT_EQ(std::bit_cast<float>(bits), static_cast<float>(kept * weight * activation));
        }
      }
    }
  }
}

// Hand-computed, so that reference and kernels cannot share a mistake.
TEST(MatMulNBits, ReferenceGivesTheFormulaOnASmallExample) {
  std::vector<std::int8_t> codes(33);
  codes[0] = 3;
  codes[2] = -8;
  codes[32] = 7;
  Operands operands;
  operands.weights = testing::stored_nbits(NBitsForm::kDense, {codes, {0x3800, 0x4000}}, 1, 33, 32);  // 0.5, 2
  operands.a.assign(33, 0);
  operands.a[0] = 10;
  operands.a[1] = 99;
  operands.a[2] = -1;
  operands.a[32] = 5;
  operands.a_scale = {0.25F};
  operands.bias = {1.0F};
  // (30 + 8) * 0.5 + 35 * 2 = 89; 89 / 4 + 1
  EXPECT_EQ(product(nullptr, {1, 1, 33, 32}, operands, false, 0),
            (std::vector<std::uint32_t>{std::bit_cast<std::uint32_t>(23.25F)}));
  operands.relu = true;
  EXPECT_EQ(product(nullptr, {1, 1, 33, 32}, operands, false, 0),
            (std::vector<std::uint32_t>{std::bit_cast<std::uint32_t>(23.25F)}));
  operands.bias = {-22.5F};
  EXPECT_EQ(product(nullptr, {1, 1, 33, 32}, operands, false, 0), (std::vector<std::uint32_t>{0}));
}

// A sum of -0 or NaN stays what it is, as where other products are limited (epilogue.h).
TEST(MatMulNBits, ReluKeepsNegativeZeroAndNaN) {
  const Rng seed(443);
  for (const MatMulNBitsKernel& kernel : matmul_nbits_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    Rng rng = seed;
    const Case shape{2, 33, 40, 32};
    Operands operands = random_operands(rng, kernel.form, shape);
    operands.relu = true;
    operands.a_scale = {-0.0F, std::nanf("")};  // no scale of a row, but products of either sign of 0, and NaN
    operands.bias.assign(33, -0.0F);
    EXPECT_EQ(product(&kernel, shape, operands, false, 0xA5), product(nullptr, shape, operands, false, 0));
  }
}

// Quantization and product together against real arithmetic. With s the scale of a row of A, an activation is off by at
// most s / 2 (and rounding of the scaled value), so a result by sum |w| * s / 2; float32 adds at most 2^-20 of
// sum |w| * max |a| for the few hundred roundings.
TEST(MatMulNBits, QuantizedProductIsNearTheRealOne) {
  const std::uint64_t seed = 442;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  const Case shape{5, 50, 300, 64};
  for (const NBitsForm form : {NBitsForm::kDense, NBitsForm::kTwoFour}) {
    Operands operands = random_operands(rng, form, shape);
    std::vector<float> x(static_cast<std::size_t>(shape.m * shape.k));
    for (float& real : x) real = rng.normal();
    std::vector<std::uint8_t> a(x.size());
    QuantizeRowsArgs quantize{x.data(), shape.k, shape.k, a.data(), shape.k, shape.k, 0, operands.a_scale.data()};
    reference_quantize_rows(quantize, shape.m);
    std::memcpy(operands.a.data(), a.data(), a.size());
    operands.bias.clear();
    operands.relu = false;
    const std::vector<std::uint32_t> bits = product(nullptr, shape, operands, false, 0);
    const testing::StoredNBits& w = operands.weights;
    for (std::int64_t m = 0; m < shape.m; ++m) {
      for (std::int64_t n = 0; n < shape.n; ++n) {
        double expected = 0.0;
        double magnitude = 0.0;
        for (std::int64_t k = 0; k < shape.k; ++k) {
          const double scale = format::float_from_half(
              w.stored.scales[static_cast<std::size_t>(n * w.stored.layout.groups_per_row() + k / shape.group)]);
          const double weight = scale * w.codes[static_cast<std::size_t>(n * shape.k + k)];
          expected += weight * x[static_cast<std::size_t>(m * shape.k + k)];
          magnitude += std::fabs(weight);
        }
        const double got = std::bit_cast<float>(bits[static_cast<std::size_t>(m * shape.n + n)]);
        const double s = operands.a_scale[static_cast<std::size_t>(m)];
        ASSERT_NEAR(got, expected, magnitude * s * (0.5 + 127.0 * 0x1p-20));
      }
    }
  }
}

TEST(MatMulNBits, TableHasAKernelForEveryFormAndIsa) {
  for (const NBitsForm form : {NBitsForm::kDense, NBitsForm::kTwoFour}) {
    for (const Isa isa :
         {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
      EXPECT_EQ(find_matmul_nbits_kernel(form, isa).form, form);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
