// Random int4 weights, stored dense and 2:4.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/int4.h"
#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

namespace pare::kernels::testing {

// Weights of one layer as an artifact would store them.
struct StoredNBits {
  NBitsForm form = NBitsForm::kDense;
  std::vector<std::int8_t> codes;  // [n][k], whatever the form
  format::Int4Weights stored;

  [[nodiscard]] NBitsWeights view() const {
    return {stored.codes.data(), stored.indices.data(), stored.scales.data(),
            stored.layout.rows,  stored.layout.k,       stored.layout.group};
  }
};

inline StoredNBits stored_nbits(NBitsForm form, format::Int4Codes codes, std::int64_t n, std::int64_t k,
                                std::int64_t group) {
  const format::Int4Layout layout{form == NBitsForm::kDense ? format::Int4Form::kDense : format::Int4Form::kTwoFour, n,
                                  k, group};
  format::Int4Weights stored = format::encode_int4(codes, layout);
  return {form, std::move(codes.codes), std::move(stored)};
}

// All sixteen codes; of a 2:4 weight every group of four keeps 0, 1 or 2 random positions. Scales between 2^-7 and
// 2^-6.
inline StoredNBits random_nbits(Rng& rng, NBitsForm form, std::int64_t n, std::int64_t k, std::int64_t group) {
  format::Int4Codes weights;
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t first = 0; first < k; first += group) {
      bool zeros = true;
      std::uint64_t kept = 0;
      for (std::int64_t i = first; i < std::min(first + group, k); ++i) {
        if (i % 4 == 0) kept = std::uint64_t{1} << rng.below(4) | std::uint64_t{1} << rng.below(4);
        const bool masked = form == NBitsForm::kTwoFour && (kept >> (i % 4) & 1) == 0;
        weights.codes.push_back(masked ? std::int8_t{0}
                                       : static_cast<std::int8_t>(static_cast<int>(rng.below(16)) - 8));
        zeros = zeros && weights.codes.back() == 0;
      }
      weights.scales.push_back(zeros ? std::uint16_t{0} : static_cast<std::uint16_t>(0x2000 + rng.below(0x400)));
    }
  }
  return stored_nbits(form, std::move(weights), n, k, group);
}

}  // namespace pare::kernels::testing
