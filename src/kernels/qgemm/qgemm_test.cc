#include "pare/kernels/qgemm/qgemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/ran.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;
using testing::runs_here;

struct Case {
  std::int64_t m, n, k;
};

// 1, tile +- 1 (4 or 6 rows; 2 columns, vectors of 16, panels of 64; chunks of 1024, blocks of 32), odd, k no multiple
// of 4 or 8, empty, large.
std::vector<Case> shape_grid() {
  std::vector<Case> cases;
  for (const std::int64_t m : {1, 3, 4, 5}) {
    for (const std::int64_t n : {1, 2, 3, 7, 63, 64, 65}) {
      for (const std::int64_t k : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 30, 31}) cases.push_back({m, n, k});
    }
  }
  for (const Case& extra : std::vector<Case>{
           {0, 5, 8},      {5, 0, 8},      {3, 3, 0},      {0, 0, 0},     {2, 3, 1023},  {2, 3, 1024}, {2, 3, 1025},
           {5, 130, 2049}, {33, 129, 257}, {1, 256, 3136}, {9, 10, 8192}, {6, 64, 32},   {7, 128, 33}, {12, 192, 63},
           {13, 80, 65},   {11, 113, 128}, {133, 100, 67}, {265, 65, 40}, {1, 200, 320}, {2, 320, 129}}) {
    cases.push_back(extra);
  }
  return cases;
}

// C of the reference, rows of A and of C without gaps.
std::vector<std::uint8_t> run_reference(const std::vector<std::uint8_t>& a, const testing::StoredWeights& weights,
                                        QGemmArgs args) {
  const std::size_t elem_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4;
  std::vector<std::uint8_t> c(static_cast<std::size_t>(args.m * args.n) * elem_bytes);
  args.a = a.data();
  args.a_stride_bytes = args.k;
  args.c = c.data();
  args.c_stride_elems = args.n;
  reference_qgemm(args, weights.reference_view(), weights.reference_format());
  return c;
}

// C of a kernel, computed in pieces as a thread pool would cut it, between guards filled with `poison`.
std::vector<std::uint8_t> run_kernel(const QGemmKernel& kernel, const Case& shape,
                                     const testing::StoredWeights& weights, const std::vector<std::uint8_t>& a_rows,
                                     std::int64_t a_stride, std::int64_t c_stride, QGemmArgs args, bool in_pieces,
                                     std::uint8_t poison) {
  const std::int64_t elem_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4;
  Guarded<std::uint8_t> a(shape.m == 0 ? 0 : (shape.m - 1) * a_stride + shape.k, poison);
  for (std::int64_t row = 0; row < shape.m; ++row) {
    std::copy_n(a_rows.data() + row * shape.k, shape.k, a.data() + row * a_stride);
  }
  // The stored weights are exact in size, so that reading past them is seen under the address sanitizer.
  Guarded<std::uint8_t> packed(static_cast<std::int64_t>(kernel.packed_bytes(weights.view())), poison, 64);
  kernel.pack(weights.view(), packed.data());
  Guarded<std::uint8_t> c((shape.m == 0 ? 0 : (shape.m - 1) * c_stride + shape.n) * elem_bytes, poison, 4);
  Guarded<std::int32_t> bias(shape.n, poison);
  Guarded<float> multiplier(shape.n, poison);
  std::copy_n(args.epilogue.bias, shape.n, bias.data());
  std::copy_n(args.epilogue.multiplier, shape.n, multiplier.data());
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  const bool scales_rows = args.epilogue.row_scale != nullptr;
  Guarded<float> row_scale(scales_rows ? shape.m : 0, poison);
  Guarded<float> real_bias(scales_rows ? shape.n : 0, poison);
  if (scales_rows) {
    std::copy_n(args.epilogue.row_scale, shape.m, row_scale.data());
    std::copy_n(args.epilogue.real_bias, shape.n, real_bias.data());
    args.epilogue.row_scale = row_scale.data();
    args.epilogue.real_bias = real_bias.data();
  }
  args.a = a.data();
  args.a_stride_bytes = a_stride;
  args.packed = packed.data();
  args.c = c.data();
  args.c_stride_elems = c_stride;
  const std::int64_t m_cut = in_pieces ? shape.m / 3 : shape.m;
  const std::int64_t n_cut = in_pieces ? shape.n / 2 / kernel.n_tile * kernel.n_tile : shape.n;
  Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel.scratch_bytes(args)), poison, 64);
  kernel.run(args, 0, m_cut, 0, n_cut, scratch.data());
  kernel.run(args, m_cut, shape.m, 0, n_cut, scratch.data());
  kernel.run(args, 0, m_cut, n_cut, shape.n, scratch.data());
  kernel.run(args, m_cut, shape.m, n_cut, shape.n, scratch.data());
  EXPECT_TRUE(a.guards_intact() && scratch.guards_intact() && packed.guards_intact() && c.guards_intact() &&
              bias.guards_intact() && multiplier.guards_intact() && row_scale.guards_intact() &&
              real_bias.guards_intact());
  std::vector<std::uint8_t> result;
  for (std::int64_t row = 0; row < shape.m; ++row) {
    const std::uint8_t* begin = c.data() + row * c_stride * elem_bytes;
    result.insert(result.end(), begin, begin + shape.n * elem_bytes);
    if (row + 1 < shape.m) {
      EXPECT_TRUE(std::all_of(begin + shape.n * elem_bytes, begin + c_stride * elem_bytes, [poison](std::uint8_t byte) {
        return byte == poison;
      })) << "wrote between rows of C";
    }
  }
  return result;
}

TEST(QGemm, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 4711;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  testing::Ran<QGemmKernel> ran(qgemm_kernels());
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    std::size_t pattern = 0;
    for (const Case& shape : shape_grid()) {
      SCOPED_TRACE(std::string(kernel.name) + " m " + std::to_string(shape.m) + " n " + std::to_string(shape.n) +
                   " k " + std::to_string(shape.k));
      const testing::StoredWeights weights =
          testing::random_weights(rng, kernel.format, shape.n, 1, shape.k, testing::vnm_pattern(kernel.isa, pattern++));
      const testing::RandomEpilogue random = testing::random_epilogue(rng, shape.n, shape.k);
      std::vector<std::uint8_t> a(static_cast<std::size_t>(shape.m * shape.k));
      for (std::uint8_t& code : a) code = static_cast<std::uint8_t>(rng.below(256));
      QGemmArgs args;
      args.a_zero_point = static_cast<std::int32_t>(rng.below(256));
      args.m = shape.m;
      args.n = shape.n;
      args.k = shape.k;
      args.epilogue = random.epilogue;
      std::vector<float> row_scale(static_cast<std::size_t>(shape.m));
      std::vector<float> real_bias(static_cast<std::size_t>(shape.n));
      for (float& scale : row_scale) scale = rng.uniform();
      for (float& bias : real_bias) bias = 10.0F * rng.normal();
      if (args.epilogue.output == Epilogue::Output::kF32 && rng.below(2) == 0) {
        args.epilogue.row_scale = row_scale.data();
        args.epilogue.real_bias = real_bias.data();
      }

      const std::vector<std::uint8_t> expected = run_reference(a, weights, args);

      for (const std::uint8_t poison : kPoisons) {
        EXPECT_EQ(run_kernel(kernel, shape, weights, a, shape.k, shape.n, args, false, poison), expected);
        EXPECT_EQ(run_kernel(kernel, shape, weights, a, shape.k + 5, shape.n + 3, args, true, poison), expected);
      }
      ran.add(kernel);
    }
  }
  ran.expect_all();
}

// Codes at the ends of their ranges only, next to each other in every order: what an instruction that adds products in
// 16 bits would saturate at.
TEST(QGemm, EveryKernelIsExactForExtremeCodes) {
  constexpr std::int8_t kWeights[] = {-128, -127, 127, -128, 1};
  constexpr std::uint8_t kActivations[] = {0, 255, 255, 0, 128, 127, 1};
  const std::uint64_t seed = 99;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  constexpr std::int64_t m = 13, n = 150, k = 200;
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    // From one weight and one activation code to five and seven.
    for (std::size_t codes = 1; codes <= std::size(kActivations); ++codes) {
      SCOPED_TRACE(std::string(kernel.name) + " codes " + std::to_string(codes));
      testing::StoredWeights weights = testing::random_weights(rng, kernel.format, n, 1, k);
      for (std::int8_t& code : weights.dense) {
        if (code != 0) code = kWeights[rng.below(std::min(codes, std::size(kWeights)))];
      }
      if (kernel.format == WeightFormat::kTwoFour) weights.two_four = format::encode_two_four(weights.dense, {n, 1, k});
      if (kernel.format == WeightFormat::kVnm) weights.vnm = format::encode_vnm(weights.dense, {{64, 2, 4}, n, 1, k});
      if (kernel.format == WeightFormat::kBlock) {
        weights.block = format::encode_block(weights.dense, {{1, 4}, n, 1, k});
      }
      std::vector<std::uint8_t> a(static_cast<std::size_t>(m * k));
      for (std::uint8_t& code : a) code = kActivations[rng.below(codes)];
      const std::vector<std::int32_t> bias(n, 0);
      const std::vector<float> multiplier(n, 1.0F);
      QGemmArgs args;
      args.a_zero_point = 3;
      args.m = m;
      args.n = n;
      args.k = k;
      args.epilogue.output = Epilogue::Output::kF32;
      args.epilogue.bias = bias.data();
      args.epilogue.multiplier = multiplier.data();
      const std::vector<std::uint8_t> expected = run_reference(a, weights, args);
      EXPECT_EQ(run_kernel(kernel, {m, n, k}, weights, a, k, n, args, false, 0xA5), expected);
    }
  }
}

// float32 results of more than 4 MiB, which kernels may write past the caches, in rows of whole lines and of others.
TEST(QGemm, EveryKernelIsExactForLargeFloatResults) {
  constexpr std::int64_t m = 1030, n = 1104, k = 4;
  const std::uint64_t seed = 5;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa) || kernel.isa == Isa::kScalar) continue;
    SCOPED_TRACE(kernel.name);
    const testing::StoredWeights weights = testing::random_weights(rng, kernel.format, n, 1, k);
    std::vector<std::uint8_t> a(m * k);
    for (std::uint8_t& code : a) code = static_cast<std::uint8_t>(rng.below(256));
    const std::vector<std::int32_t> bias(n, -5);
    const std::vector<float> multiplier(n, 0.37F);
    QGemmArgs args;
    args.a_zero_point = 9;
    args.m = m;
    args.n = n;
    args.k = k;
    args.epilogue.output = Epilogue::Output::kF32;
    args.epilogue.bias = bias.data();
    args.epilogue.multiplier = multiplier.data();
    const std::vector<std::uint8_t> expected = run_reference(a, weights, args);
    for (const std::int64_t stride : {n, n + 1}) {
      EXPECT_TRUE(run_kernel(kernel, {m, n, k}, weights, a, k, stride, args, true, 0xA5) == expected) << stride;
    }
  }
}

// Hand-computed, so that reference and kernels cannot share a mistake.
TEST(QGemm, ReferenceGivesTheFormulaOnASmallExample) {
  const std::vector<std::uint8_t> a = {3, 5, 10};
  const std::vector<std::int8_t> w = {2, -1, 4, 0, 127, -127};
  const std::vector<std::int32_t> bias = {10, -6};
  const std::vector<float> multiplier = {0.5F, 0.125F};
  std::vector<std::uint8_t> c(2);
  QGemmArgs args;
  args.a = a.data();
  args.a_stride_bytes = 3;
  args.a_zero_point = 4;
  args.c = c.data();
  args.c_stride_elems = 2;
  args.m = 1;
  args.n = 2;
  args.k = 3;
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  args.epilogue.zero_point = 100;
  reference_qgemm(args, {w.data(), nullptr, 2, 1, 3}, WeightFormat::kDense);
  // acc 0: 10 + (-1)(2) + (1)(-1) + (6)(4) = 31, 15.5 rounds to 16; acc 1: -6 + 127 - 762 = -641, -80.125 to -80.
  EXPECT_EQ(c, (std::vector<std::uint8_t>{116, 20}));
}

TEST(QGemm, ReferenceScalesRowsAndAddsTheRealBiasLast) {
  const std::vector<std::uint8_t> a = {130, 126};  // 2 and -2
  const std::vector<std::int8_t> w = {3, 5};
  const std::vector<std::int32_t> bias = {0, 0};
  const std::vector<float> multiplier = {0.5F, 0.25F};
  const std::vector<float> row_scale = {10.0F, 4.0F};
  const std::vector<float> real_bias = {1.0F, -1.0F};
  std::vector<float> c(4);
  QGemmArgs args;
  args.a = a.data();
  args.a_stride_bytes = 1;
  args.a_zero_point = 128;
  args.c = c.data();
  args.c_stride_elems = 2;
  args.m = 2;
  args.n = 2;
  args.k = 1;
  args.epilogue.output = Epilogue::Output::kF32;
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  args.epilogue.row_scale = row_scale.data();
  args.epilogue.real_bias = real_bias.data();
  args.epilogue.relu = true;
  reference_qgemm(args, {w.data(), nullptr, 2, 1, 1}, WeightFormat::kDense);
  EXPECT_EQ(c, (std::vector<float>{31.0F, 24.0F, 0.0F, 0.0F}));
}

// Every activation code meets every weight code in both orders of magnitude: 256 x 256 products, one output a pair.
TEST(QGemm, EveryKernelIsExactForAllPairsOfCodes) {
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    testing::StoredWeights weights{256, 1, 1, kernel.format, std::vector<std::int8_t>(256), {}};
    for (int code = 0; code < 256; ++code)
      weights.dense[static_cast<std::size_t>(code)] = static_cast<std::int8_t>(code - 128);
    if (kernel.format == WeightFormat::kTwoFour) weights.two_four = format::encode_two_four(weights.dense, {256, 1, 1});
    if (kernel.format == WeightFormat::kVnm) weights.vnm = format::encode_vnm(weights.dense, {{64, 1, 4}, 256, 1, 1});
    if (kernel.format == WeightFormat::kBlock) weights.block = format::encode_block(weights.dense, {{1, 4}, 256, 1, 1});
    std::vector<std::uint8_t> a(256);
    for (int code = 0; code < 256; ++code) a[static_cast<std::size_t>(code)] = static_cast<std::uint8_t>(code);
    const std::vector<std::int32_t> bias(256, 0);
    const std::vector<float> multiplier(256, 1.0F);
    for (const std::int32_t zero_point : {0, 1, 128, 255}) {
      QGemmArgs args;
      args.a_zero_point = zero_point;
      args.m = 256;
      args.n = 256;
      args.k = 1;
      args.epilogue.output = Epilogue::Output::kF32;
      args.epilogue.bias = bias.data();
      args.epilogue.multiplier = multiplier.data();
      const std::vector<std::uint8_t> bytes = run_kernel(kernel, {256, 256, 1}, weights, a, 1, 256, args, false, 0xA5);
      const auto* c = reinterpret_cast<const float*>(bytes.data());
      for (int x = 0; x < 256; ++x) {
        for (int w = 0; w < 256; ++w) {
          ASSERT_EQ(c[x * 256 + w], static_cast<float>((x - zero_point) * (w - 128))) << "x " << x << " w " << w - 128;
        }
      }
    }
  }
}

// The largest accumulator that the precondition allows, of either sign.
TEST(QGemm, EveryKernelIsExactAtTheEdgeOfInt32) {
  constexpr std::int64_t kElems = 32768;
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa) || kernel.format != WeightFormat::kDense) continue;
    for (const int sign : {1, -1}) {
      testing::StoredWeights weights{
          1, 1, kElems, kernel.format, std::vector<std::int8_t>(kElems, static_cast<std::int8_t>(127 * sign)), {}};
      const std::vector<std::uint8_t> a(kElems, 255);
      const std::int64_t sum = std::int64_t{255} * 127 * kElems;
      const std::vector<std::int32_t> bias = {static_cast<std::int32_t>(sign * (INT32_MAX - sum))};
      const std::vector<float> multiplier = {1.0F};
      QGemmArgs args;
      args.m = 1;
      args.n = 1;
      args.k = kElems;
      args.epilogue.output = Epilogue::Output::kF32;
      args.epilogue.bias = bias.data();
      args.epilogue.multiplier = multiplier.data();
      const std::vector<std::uint8_t> bytes = run_kernel(kernel, {1, 1, kElems}, weights, a, kElems, 1, args, false, 0);
      EXPECT_EQ(*reinterpret_cast<const float*>(bytes.data()), static_cast<float>(sign * std::int64_t{INT32_MAX}));
    }
  }
}

// Codes from accumulators near the ends of int32: in columns 0 to 63 no multiplier makes them exceed it, in 64 to 127
// some do, after that all.
TEST(QGemm, EveryKernelClampsWhatExceedsInt32) {
  constexpr std::int64_t m = 7, n = 150, k = 8;
  constexpr std::int32_t kLargeBias = INT32_MAX - 255 * 128 * k;
  constexpr float kMultipliers[] = {0.99999994F, 1e-9F, 1.0F, 1.5F, -2.0F, 3e30F};
  const std::uint64_t seed = 17;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const QGemmKernel& kernel : qgemm_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    SCOPED_TRACE(kernel.name);
    const testing::StoredWeights weights = testing::random_weights(rng, kernel.format, n, 1, k);
    std::vector<std::int32_t> bias;
    std::vector<float> multiplier;
    for (std::int64_t j = 0; j < n; ++j) {
      bias.push_back(kLargeBias * (static_cast<std::int32_t>(rng.below(3)) - 1));
      multiplier.push_back(kMultipliers[j < 64 ? rng.below(2) : (j < 128 ? rng.below(6) : 2 + rng.below(4))]);
    }
    const std::vector<std::uint8_t> a(m * k, 255);
    QGemmArgs args;
    args.m = m;
    args.n = n;
    args.k = k;
    args.epilogue.bias = bias.data();
    args.epilogue.multiplier = multiplier.data();
    args.epilogue.zero_point = 100;
    args.epilogue.qmin = 3;
    args.epilogue.qmax = 250;
    const std::vector<std::uint8_t> expected = run_reference(a, weights, args);
    EXPECT_EQ(run_kernel(kernel, {m, n, k}, weights, a, k, n, args, false, 0xA5), expected);
  }
}

TEST(QGemm, TableHasAKernelForEveryFormatAndIsa) {
  for (const WeightFormat format :
       {WeightFormat::kDense, WeightFormat::kTwoFour, WeightFormat::kVnm, WeightFormat::kBlock}) {
    for (const Isa isa :
         {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
      const QGemmKernel& kernel = find_qgemm_kernel(format, isa);
      EXPECT_EQ(kernel.format, format);
      EXPECT_TRUE(kernel.isa == Isa::kScalar || isa != Isa::kScalar);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
