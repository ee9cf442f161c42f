#include "pare/sparsity/transposable.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pare::sparsity {
namespace {

// Pairs of columns that a row may keep, the one with the first column first.
constexpr std::array<std::uint16_t, 6> kPairs = {0b0011, 0b0101, 0b1001, 0b0110, 0b1010, 0b1100};

// A pattern: 6 * i + j, the numbers of the pairs of its upper and of its lower two rows.
struct Halves {
  std::uint8_t upper = 0;
  std::uint8_t lower = 0;
};

constexpr std::uint16_t bits_of(Halves pattern) {
  const auto rows = [](unsigned half) { return kPairs[half / 6] | kPairs[half % 6] << 4; };
  return static_cast<std::uint16_t>(rows(pattern.upper) | rows(pattern.lower) << 8);
}

constexpr bool columns_keep_two(std::uint16_t bits) {
  for (unsigned column = 0; column < 4; ++column) {
    if (std::popcount(static_cast<unsigned>(bits & 0x1111U << column)) != 2) {
      return false;
    }
  }
  return true;
}

constexpr std::array<Halves, kTransposablePatterns> kPatterns = [] {
  std::array<Halves, kTransposablePatterns> patterns{};
  std::size_t count = 0;
  for (unsigned i = 0; i < 36 * 36; ++i) {
    const Halves pattern = {static_cast<std::uint8_t>(i / 36), static_cast<std::uint8_t>(i % 36)};
    if (columns_keep_two(bits_of(pattern))) {
      patterns.at(count++) = pattern;  // one too many would not compile
    }
  }
  return patterns;
}();

constexpr std::array<std::uint16_t, kTransposablePatterns> kPatternBits = [] {
  std::array<std::uint16_t, kTransposablePatterns> bits{};
  std::transform(kPatterns.begin(), kPatterns.end(), bits.begin(), bits_of);
  return bits;
}();

// Of float64, in which no square of a float32 leaves the range; what is not finite stays apart from what is.
double worth(float weight, int norm) {
  const double magnitude = std::fabs(static_cast<double>(weight));
  if (!std::isfinite(magnitude)) {
    return std::isnan(magnitude) ? 1e200 : 1e100;
  }
  return norm == 1 ? magnitude : magnitude * magnitude;
}

}  // namespace

const std::array<std::uint16_t, kTransposablePatterns>& transposable_patterns() { return kPatternBits; }

void TransposableMasker::add(std::int64_t first, std::int64_t rows, std::int64_t cols) {
  tiles_[count_] = {first, rows, cols};
  for (std::int64_t row = 0; row < kTileExtent; ++row) {
    std::array<double, 4> values{};
    for (std::int64_t col = 0; row < rows && col < cols; ++col) {
      values[static_cast<std::size_t>(col)] = worth(weight_[first + row * stride_ + col], norm_);
    }
    const std::size_t pair = 6 * static_cast<std::size_t>(row);
    pairs_[pair + 0][count_] = values[0] + values[1];
    pairs_[pair + 1][count_] = values[0] + values[2];
    pairs_[pair + 2][count_] = values[0] + values[3];
    pairs_[pair + 3][count_] = values[1] + values[2];
    pairs_[pair + 4][count_] = values[1] + values[3];
    pairs_[pair + 5][count_] = values[2] + values[3];
  }
  if (++count_ == kBatch) {
    finish();
  }
}

void TransposableMasker::finish() {
  // Of the upper and of the lower two rows, for each choice of their pairs: a pattern is one of each.
  std::array<std::array<double, kBatch>, 36> upper;
  std::array<std::array<double, kBatch>, 36> lower;
  for (std::size_t i = 0; i < 36; ++i) {
    for (std::size_t t = 0; t < kBatch; ++t) {
      upper[i][t] = pairs_[i / 6][t] + pairs_[6 + i % 6][t];
      lower[i][t] = pairs_[12 + i / 6][t] + pairs_[18 + i % 6][t];
    }
  }
  std::array<double, kBatch> best{};
  for (const Halves& pattern : kPatterns) {
    for (std::size_t t = 0; t < kBatch; ++t) {
      best[t] = std::max(best[t], upper[pattern.upper][t] + lower[pattern.lower][t]);
    }
  }
  for (std::size_t t = 0; t < count_; ++t) {
    const auto first = std::find_if(kPatterns.begin(), kPatterns.end(), [&](const Halves& pattern) {
      return upper[pattern.upper][t] + lower[pattern.lower][t] == best[t];
    });
    const std::uint16_t bits = bits_of(*first);
    for (std::int64_t row = 0; row < tiles_[t].rows; ++row) {
      float* const mask_row = mask_ + tiles_[t].first + row * stride_;
      for (std::int64_t col = 0; col < tiles_[t].cols; ++col) {
        mask_row[col] = (bits >> (4 * row + col) & 1) != 0 ? 1.0F : 0.0F;
      }
    }
  }
  count_ = 0;
}

bool is_transposable(const float* mask, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t top = 0; top < rows; top += kTileExtent) {
    for (std::int64_t left = 0; left < cols; left += kTileExtent) {
      std::array<int, 4> in_row{};
      std::array<int, 4> in_col{};
      for (std::int64_t row = top; row < std::min(top + kTileExtent, rows); ++row) {
        for (std::int64_t col = left; col < std::min(left + kTileExtent, cols); ++col) {
          const int kept = mask[row * cols + col] != 0.0F ? 1 : 0;
          in_row[static_cast<std::size_t>(row - top)] += kept;
          in_col[static_cast<std::size_t>(col - left)] += kept;
        }
      }
      const auto too_many = [](int count) { return count > 2; };
      if (std::any_of(in_row.begin(), in_row.end(), too_many) || std::any_of(in_col.begin(), in_col.end(), too_many)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace pare::sparsity
