// Seeded operands for the kernels that kernel_table times.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/kernels/weights.h"

namespace pare::bench {

struct Pattern {
  std::string name;  // "dense", "2:4", "64:1:8"
  kernels::WeightFormat format = kernels::WeightFormat::kDense;
  format::VnmPattern vnm{};
  double density = 1.0;
};
[[nodiscard]] Pattern dense_pattern();
[[nodiscard]] Pattern two_four_pattern();
[[nodiscard]] Pattern vnm_pattern(std::int64_t v, std::int64_t n, std::int64_t m);

// The weights of one layer as an artifact stores them. Codes are those within +-63: of those, AVX2 code that adds two
// products in 16 bits (oneDNN's) makes the same sums as all others.
struct Weights {
  Pattern pattern;
  std::int64_t n = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;
  std::vector<std::int8_t> values;
  std::vector<std::uint8_t> indices;

  [[nodiscard]] kernels::CanonicalWeights view() const;
};
// Every group keeps as many codes as its pattern allows, at random positions. Precondition: V:N:M divides evenly.
[[nodiscard]] Weights random_weights(Rng& rng, const Pattern& pattern, std::int64_t n, std::int64_t segments,
                                     std::int64_t segment_elems);

// Bias and multipliers such that half of the outputs are clamped to 0, as behind a ReLU, and few to 255.
struct Scaling {
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
};
[[nodiscard]] Scaling random_scaling(Rng& rng, const Pattern& pattern, std::int64_t n, std::int64_t k);

void fill_codes(Rng& rng, std::uint8_t* codes, std::int64_t count);

// bias[j] - zero_point * sum over k of w[j][k]: what a peer adds that knows no zero point. `dense` is [n][k].
[[nodiscard]] std::vector<std::int32_t> fold_zero_point(const std::vector<std::int32_t>& bias,
                                                        const std::vector<std::int8_t>& dense, std::int32_t zero_point);

}  // namespace pare::bench
