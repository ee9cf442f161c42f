#include "bench/operands.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/two_four.h"

namespace pare::bench {
namespace {

using kernels::WeightFormat;

std::int8_t random_code(Rng& rng) {
  const auto magnitude = static_cast<std::int32_t>(1 + rng.below(63));
  return static_cast<std::int8_t>(rng.below(2) == 0 ? magnitude : -magnitude);
}

// `kept` of `group` positions, ascending.
std::vector<std::uint8_t> random_positions(Rng& rng, std::int64_t kept, std::int64_t group) {
  std::vector<std::uint32_t> order(static_cast<std::size_t>(group));
  std::iota(order.begin(), order.end(), 0U);
  rng.shuffle(order);
  std::vector<std::uint8_t> positions(order.begin(), order.begin() + kept);
  std::sort(positions.begin(), positions.end());
  return positions;
}

void fill_two_four(Rng& rng, Weights& weights) {
  const format::TwoFourLayout layout{weights.n, weights.segments, weights.segment_elems};
  std::vector<std::int8_t> dense(static_cast<std::size_t>(layout.rows * layout.row_elems()), 0);
  for (std::size_t group = 0; group < dense.size(); group += 4) {
    for (const std::uint8_t position : random_positions(rng, 2, 4)) dense[group + position] = random_code(rng);
  }
  format::TwoFourWeights encoded = format::encode_two_four(dense, layout);
  weights.values = std::move(encoded.values);
  weights.indices = std::move(encoded.indices);
}

void fill_vnm(Rng& rng, Weights& weights) {
  const format::VnmPattern& p = weights.pattern.vnm;
  PARE_CHECK(weights.n % p.v == 0 && weights.segment_elems % p.m == 0);
  const std::int64_t groups = weights.segments * weights.segment_elems / p.m;
  for (std::int64_t block_group = 0; block_group < weights.n / p.v * groups; ++block_group) {
    const std::vector<std::uint8_t> positions = random_positions(rng, p.n, p.m);
    weights.indices.insert(weights.indices.end(), positions.begin(), positions.end());
  }
  weights.values.resize(static_cast<std::size_t>(weights.n * groups * p.n));
  for (std::int8_t& code : weights.values) code = random_code(rng);
}

}  // namespace

Pattern dense_pattern() { return {.name = "dense", .format = WeightFormat::kDense, .vnm = {}, .density = 1.0}; }

Pattern two_four_pattern() { return {.name = "2:4", .format = WeightFormat::kTwoFour, .vnm = {}, .density = 0.5}; }

Pattern vnm_pattern(std::int64_t v, std::int64_t n, std::int64_t m) {
  return {.name = str_cat(v, ":", n, ":", m),
          .format = WeightFormat::kVnm,
          .vnm = {.v = v, .n = n, .m = m},
          .density = static_cast<double>(n) / static_cast<double>(m)};
}

kernels::CanonicalWeights Weights::view() const {
  kernels::CanonicalWeights view;
  view.values = values.data();
  view.indices = indices.empty() ? nullptr : indices.data();
  view.n = n;
  view.segments = segments;
  view.segment_elems = segment_elems;
  view.vnm = pattern.vnm;
  return view;
}

Weights random_weights(Rng& rng, const Pattern& pattern, std::int64_t n, std::int64_t segments,
                       std::int64_t segment_elems) {
  Weights weights{pattern, n, segments, segment_elems, {}, {}};
  if (pattern.format == WeightFormat::kTwoFour) {
    fill_two_four(rng, weights);
  } else if (pattern.format == WeightFormat::kVnm) {
    fill_vnm(rng, weights);
  } else {
    weights.values.resize(static_cast<std::size_t>(n * segments * segment_elems));
    for (std::int8_t& code : weights.values) code = random_code(rng);
  }
  return weights;
}

Scaling random_scaling(Rng& rng, const Pattern& pattern, std::int64_t n, std::int64_t k) {
  // 74 and 37: standard deviations of a code in 0 to 255 and of a weight within +-63.
  const double spread = 74.0 * 37.0 * std::sqrt(static_cast<double>(k) * pattern.density);
  Scaling scaling;
  for (std::int64_t j = 0; j < n; ++j) {
    scaling.bias.push_back(static_cast<std::int32_t>(spread * (2.0 * rng.uniform() - 1.0)));
    scaling.multiplier.push_back(static_cast<float>(80.0 / spread * (0.5 + rng.uniform())));
  }
  return scaling;
}

void fill_codes(Rng& rng, std::uint8_t* codes, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(rng.below(256));
}

std::vector<std::int32_t> fold_zero_point(const std::vector<std::int32_t>& bias, const std::vector<std::int8_t>& dense,
                                          std::int32_t zero_point) {
  const std::size_t k = dense.size() / bias.size();
  std::vector<std::int32_t> folded = bias;
  for (std::size_t j = 0; j < folded.size(); ++j) {
    const auto row = dense.begin() + static_cast<std::ptrdiff_t>(j * k);
    folded[j] -= zero_point * std::accumulate(row, row + static_cast<std::ptrdiff_t>(k), std::int32_t{0});
  }
  return folded;
}

}  // namespace pare::bench
