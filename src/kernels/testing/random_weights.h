// Random weights, stored dense, 2:4, V:N:M and in blocks, and epilogues for them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/base/rng.h"
#include "pare/format/block.h"
#include "pare/format/two_four.h"
#include "pare/format/vnm.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/weights.h"

namespace pare::kernels::testing {

// Weights of one layer as an artifact would store them.
struct StoredWeights {
  std::int64_t n = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;
  WeightFormat format = WeightFormat::kDense;
  std::vector<std::int8_t> dense;  // [n][segments * segment_elems], whatever the format
  format::TwoFourWeights two_four;
  format::VnmWeights vnm = {};
  format::BlockWeights block = {};

  // `line_segments`: as CanonicalWeights has it.
  [[nodiscard]] CanonicalWeights view(std::int64_t line_segments = 1) const {
    if (format == WeightFormat::kDense) return {dense.data(), nullptr, n, segments, segment_elems, line_segments};
    if (format == WeightFormat::kVnm) {
      return {vnm.values.data(), vnm.indices.data(), n, segments, segment_elems, line_segments, vnm.layout.pattern};
    }
    if (format == WeightFormat::kBlock) {
      return {block.values.data(), block.indices.data(), n,  segments,
              segment_elems,       line_segments,        {}, block.layout.pattern};
    }
    return {two_four.values.data(), two_four.indices.data(), n, segments, segment_elems, line_segments};
  }

  // What references read: blocks as dense codes, everything else as stored.
  [[nodiscard]] WeightFormat reference_format() const {
    return format == WeightFormat::kBlock ? WeightFormat::kDense : format;
  }
  [[nodiscard]] CanonicalWeights reference_view() const {
    if (format == WeightFormat::kBlock) return {dense.data(), nullptr, n, segments, segment_elems};
    return view();
  }
};

// What random_weights makes of a format, by name.
inline const char* format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kTwoFour:
      return "2:4";
    case WeightFormat::kVnm:
      return "64:2:4";
    case WeightFormat::kBlock:
      return "blocks";
    case WeightFormat::kDense:
      break;
  }
  return "dense";
}

// Sets to 0 what a random V:N:M mask drops; a group keeps up to N positions.
inline void mask_vnm(Rng& rng, const format::VnmPattern& p, StoredWeights& weights) {
  const std::int64_t k = weights.segments * weights.segment_elems;
  for (std::int64_t row = 0; row < weights.n; row += p.v) {
    for (std::int64_t start = 0; start < k; start += weights.segment_elems) {
      for (std::int64_t group = 0; group < weights.segment_elems; group += p.m) {
        std::uint64_t kept = 0;
        for (std::int64_t i = 0; i < p.n; ++i) kept |= std::uint64_t{1} << rng.below(static_cast<std::uint64_t>(p.m));
        for (std::int64_t i = group; i < std::min(group + p.m, weights.segment_elems); ++i) {
          if ((kept >> (i - group) & 1) != 0) continue;
          for (std::int64_t r = row; r < std::min(row + p.v, weights.n); ++r) {
            weights.dense[static_cast<std::size_t>(r * k + start + i)] = 0;
          }
        }
      }
    }
  }
}

// Drops three of four random blocks.
inline void mask_blocks(Rng& rng, const format::BlockPattern& p, StoredWeights& weights) {
  const std::int64_t k = weights.segments * weights.segment_elems;
  for (std::int64_t row = 0; row < weights.n; row += p.rows) {
    for (std::int64_t start = 0; start < k; start += weights.segment_elems) {
      for (std::int64_t column = 0; column < weights.segment_elems; column += p.columns) {
        if (rng.below(4) == 0) continue;
        for (std::int64_t r = row; r < std::min(row + p.rows, weights.n); ++r) {
          const std::int64_t end = std::min(column + p.columns, weights.segment_elems);
          for (std::int64_t i = column; i < end; ++i) weights.dense[static_cast<std::size_t>(r * k + start + i)] = 0;
        }
      }
    }
  }
}

// Outputs one by one and four at a time; blocks that fit steps of four and ones that do not.
inline constexpr format::BlockPattern kBlockPatterns[] = {{1, 4}, {4, 4}, {4, 1}, {16, 16}, {64, 4}, {2, 8}, {3, 5}};

// Any int8 code, -128 included; of a 2:4 weight every group keeps 0, 1 or 2 random positions.
inline StoredWeights random_weights(Rng& rng, WeightFormat format, std::int64_t n, std::int64_t segments,
                                    std::int64_t segment_elems, const format::VnmPattern& vnm = {64, 2, 4}) {
  StoredWeights weights{n, segments, segment_elems, format, {}, {}};
  weights.dense.resize(static_cast<std::size_t>(n * segments * segment_elems));
  for (std::int8_t& code : weights.dense) code = static_cast<std::int8_t>(rng.below(256));
  if (format == WeightFormat::kTwoFour) {
    for (std::int64_t segment = 0; segment < n * segments; ++segment) {
      for (std::int64_t start = 0; start < segment_elems; start += 4) {
        // Either may repeat the other, and codes may be 0 anyway: groups with fewer than two non-zeros occur.
        const auto first = static_cast<std::int64_t>(rng.below(4));
        const auto second = static_cast<std::int64_t>(rng.below(4));
        for (std::int64_t i = 0; i < 4 && start + i < segment_elems; ++i) {
          if (i != first && i != second)
            weights.dense[static_cast<std::size_t>(segment * segment_elems + start + i)] = 0;
        }
      }
    }
    weights.two_four = format::encode_two_four(weights.dense, {n, segments, segment_elems});
  }
  if (format == WeightFormat::kVnm) {
    mask_vnm(rng, vnm, weights);
    weights.vnm = format::encode_vnm(weights.dense, {vnm, n, segments, segment_elems});
  }
  if (format == WeightFormat::kBlock) {
    const format::BlockPattern pattern = kBlockPatterns[rng.below(std::size(kBlockPatterns))];
    mask_blocks(rng, pattern, weights);
    weights.block = format::encode_block(weights.dense, {pattern, n, segments, segment_elems});
  }
  return weights;
}

// Twelve that every V:N:M kernel takes, then ones that only scalar rows take.
inline constexpr format::VnmPattern kVnmPatterns[] = {
    {64, 2, 4}, {64, 1, 4}, {64, 2, 8}, {64, 1, 8}, {16, 2, 4}, {16, 1, 4}, {16, 2, 8},  {16, 1, 8},
    {32, 2, 4}, {32, 1, 4}, {32, 2, 8}, {32, 1, 8}, {8, 2, 4},  {48, 1, 4}, {128, 1, 4}, {64, 3, 4}};

// The i-th pattern, over and over, of those that rows of this instruction set take.
[[nodiscard]] inline const format::VnmPattern& vnm_pattern(Isa isa, std::size_t i) {
  constexpr std::size_t kTaken = 12;
  return kVnmPatterns[i % (isa == Isa::kScalar ? std::size(kVnmPatterns) : kTaken)];
}

// Whether pack() of a row takes these weights: only scalar rows expand those whose zeros they do not use.
template <typename Kernel>
[[nodiscard]] bool packs(const Kernel& kernel, const CanonicalWeights& weights) {
  return kernel.isa == Isa::kScalar || kernel.format == WeightFormat::kDense || kernel.uses_zeros(weights);
}

// Bias and multipliers such that outputs spread over all codes, both clamps included.
struct RandomEpilogue {
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
  Epilogue epilogue;
};

inline RandomEpilogue random_epilogue(Rng& rng, std::int64_t n, std::int64_t k) {
  RandomEpilogue random;
  const float spread = 128.0F / (74.0F * 74.0F * (1.0F + static_cast<float>(k)) / 8.0F);
  for (std::int64_t j = 0; j < n; ++j) {
    random.bias.push_back(static_cast<std::int32_t>(rng.below(200001)) - 100000);
    random.multiplier.push_back(spread * (0.1F + rng.uniform()));
  }
  random.epilogue.bias = random.bias.data();
  random.epilogue.multiplier = random.multiplier.data();
  random.epilogue.zero_point = static_cast<std::int32_t>(rng.below(256));
  const bool relu = rng.below(2) == 1;
  random.epilogue.qmin = relu ? random.epilogue.zero_point : 0;
  random.epilogue.relu = relu;
  random.epilogue.output = rng.below(3) == 0 ? Epilogue::Output::kF32 : Epilogue::Output::kU8;
  return random;
}

}  // namespace pare::kernels::testing
