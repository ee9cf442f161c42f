#include "pare/kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels {
namespace {

using testing::Guarded;
using testing::kPoisons;

struct Extents {
  std::int64_t batch, length, heads, head_elems;
};
constexpr Extents kGrid[] = {{1, 1, 1, 1},    {1, 2, 1, 3},    {2, 7, 3, 5},    {1, 16, 2, 16}, {1, 17, 1, 63},
                             {1, 48, 2, 64},  {1, 49, 1, 65},  {2, 63, 2, 20},  {1, 64, 1, 16}, {1, 128, 2, 64},
                             {1, 130, 2, 64}, {1, 68, 1, 128}, {1, 200, 1, 100}};

std::vector<std::uint8_t> codes(Rng& rng, std::int64_t count) {
  std::vector<std::uint8_t> all(static_cast<std::size_t>(count));
  for (std::uint8_t& code : all)
    code = static_cast<std::uint8_t>(rng.below(8) == 0 ? rng.below(2) * 255 : rng.below(256));
  return all;
}

TEST(Attention, EveryKernelEqualsTheReferenceOverTheShapeGrid) {
  const std::uint64_t seed = 69;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (!testing::runs_here(kernel.isa)) continue;
    for (const Extents& e : kGrid) {
      const std::int64_t elems = e.batch * e.length * e.heads * e.head_elems;
      const std::vector<std::uint8_t> q = codes(rng, elems);
      const std::vector<std::uint8_t> k = codes(rng, elems);
      const std::vector<std::uint8_t> v = codes(rng, elems);
      AttentionArgs args;
      args.q = q.data();
      args.k = k.data();
      args.v = v.data();
      args.length = e.length;
      args.heads = e.heads;
      args.head_elems = e.head_elems;
      args.q_zero_point = static_cast<std::int32_t>(rng.below(256));
      args.v_zero_point = static_cast<std::int32_t>(rng.below(256));
      // From nearly flat to one key taking all.
      args.score_scale = (0.1F + 20.0F * rng.uniform() * rng.uniform()) / (5300.0F * std::sqrt(float(e.head_elems)));
      args.v_scale = 0.02F;
      std::vector<float> row(static_cast<std::size_t>(e.length));
      std::vector<float> expected(q.size());
      std::vector<std::uint8_t> expected_codes(q.size());
      args.y.real = expected.data();
      reference_attention(args, 0, e.batch * e.heads, row.data());
      args.y = {nullptr, expected_codes.data(), 0.015F, 130};
      reference_attention(args, 0, e.batch * e.heads, row.data());
      for (const std::uint8_t poison : kPoisons) {
        Guarded<std::uint8_t> q_guarded(elems, poison);
        Guarded<std::uint8_t> k_guarded(elems, poison);
        Guarded<std::uint8_t> v_guarded(elems, poison);
        Guarded<float> y(elems, poison);
        Guarded<std::uint8_t> y_codes(elems, poison);
        Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel.scratch_bytes(args)), poison, 64);
        q_guarded.assign(q);
        k_guarded.assign(k);
        v_guarded.assign(v);
        args.q = q_guarded.data();
        args.k = k_guarded.data();
        args.v = v_guarded.data();
        args.y = {y.data(), nullptr, 1.0F, 0};
        kernel.run(args, 1, e.batch * e.heads, scratch.data());
        kernel.run(args, 0, 1, scratch.data());
        EXPECT_EQ(std::vector<float>(y.items().begin(), y.items().end()), expected)
            << kernel.name << " " << e.length << " x " << e.head_elems;
        args.y = {nullptr, y_codes.data(), 0.015F, 130};
        kernel.run(args, 0, e.batch * e.heads, scratch.data());
        EXPECT_EQ(std::vector<std::uint8_t>(y_codes.items().begin(), y_codes.items().end()), expected_codes)
            << kernel.name << " " << e.length << " x " << e.head_elems;
        EXPECT_TRUE(q_guarded.guards_intact() && k_guarded.guards_intact() && v_guarded.guards_intact() &&
                    y.guards_intact() && y_codes.guards_intact() && scratch.guards_intact())
            << kernel.name;
      }
    }
  }
}

// Against doubles on the real numbers that the codes stand for. A weight is off by half a step of 255 of the largest,
// so the weighted mean by at most length * 0.5 / 255 / sum of e^(z - max) of the values' spread.
TEST(Attention, ReferenceIsAttentionOfTheRealNumbersWhateverTheZeroPoints) {
  Rng rng(70);
  constexpr std::int64_t kLength = 24;
  constexpr std::int64_t kElems = 8;
  constexpr float kScale = 0.02F;
  const std::vector<std::uint8_t> q = codes(rng, kLength * kElems);
  const std::vector<std::uint8_t> k = codes(rng, kLength * kElems);
  const std::vector<std::uint8_t> v = codes(rng, kLength * kElems);
  const std::int32_t q_zero = 100;
  const std::int32_t k_zero = 37;
  const std::int32_t v_zero = 201;
  std::vector<float> y(q.size());
  AttentionArgs args;
  args.q = q.data();
  args.k = k.data();
  args.v = v.data();
  args.length = kLength;
  args.head_elems = kElems;
  args.q_zero_point = q_zero;
  args.v_zero_point = v_zero;
  args.score_scale = kScale * kScale / std::sqrt(static_cast<float>(kElems));
  args.v_scale = kScale;
  args.y.real = y.data();
  std::vector<float> row(kLength);
  reference_attention(args, 0, 1, row.data());
  const auto real = [](const std::vector<std::uint8_t>& of, std::int64_t index, std::int32_t zero) {
    return kScale * (of[static_cast<std::size_t>(index)] - zero);
  };
  for (std::int64_t i = 0; i < kLength; ++i) {
    std::vector<double> z(kLength, 0.0);
    double greatest = -1e30;
    for (std::int64_t j = 0; j < kLength; ++j) {
      for (std::int64_t c = 0; c < kElems; ++c)
        z[j] += real(q, i * kElems + c, q_zero) * real(k, j * kElems + c, k_zero);
      z[j] /= std::sqrt(double{kElems});
      greatest = std::max(greatest, z[j]);
    }
    double sum = 0.0;
    for (double& score : z) sum += score = std::exp(score - greatest);
    const double bound = kLength * 0.5 / 255.0 / sum * 255.0 * kScale;
    for (std::int64_t c = 0; c < kElems; ++c) {
      double expected = 0.0;
      for (std::int64_t j = 0; j < kLength; ++j) expected += z[j] / sum * real(v, j * kElems + c, v_zero);
      EXPECT_NEAR(y[static_cast<std::size_t>(i * kElems + c)], expected, bound);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
