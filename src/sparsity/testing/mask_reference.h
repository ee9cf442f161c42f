// A second statement of the mask rule, slow and literal, for tests: sorts where the real one selects, pads where it
// counts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/sparsity/mask.h"

namespace pare::sparsity::testing {

inline std::vector<float> reference_mask(const std::vector<float>& weight, const MaskShape& shape,
                                         const MaskConfig& config) {
  const std::int64_t cols = shape.cols;
  const auto [block_rows, block_cols] = config.sparse_block_shape;
  const auto power = [&](std::int64_t r, std::int64_t c) {
    const float w = weight[static_cast<std::size_t>(r * cols + c)];
    return config.norm == 1 ? std::abs(w) : w * w;
  };
  struct Corner {
    std::int64_t top, left, bottom;  // bottom: of the matrix, exclusive
  };
  std::vector<std::pair<float, std::int64_t>> order;  // (mean, -number): sorted, the first go
  std::vector<Corner> corner;
  for (std::int64_t matrix = 0; matrix < shape.matrices; ++matrix) {
    const std::int64_t bottom = (matrix + 1) * shape.rows;
    for (std::int64_t top = matrix * shape.rows; top < bottom; top += block_rows) {
      for (std::int64_t left = 0; left < cols; left += block_cols) {
        float sum = 0.0F;
        int held = 0;
        for (std::int64_t r = top; r < std::min(top + block_rows, bottom); ++r) {
          for (std::int64_t c = left; c < std::min(left + block_cols, cols); ++c) {
            sum += power(r, c);
            ++held;
          }
        }
        order.emplace_back(sum / static_cast<float>(held), -static_cast<std::int64_t>(corner.size()));
        corner.push_back({top, left, bottom});
      }
    }
  }
  std::sort(order.begin(), order.end());
  const auto blocks = static_cast<double>(order.size());
  double count = config.sparsity_level * blocks;
  const double down = std::floor(count);
  const double fraction = count - down;
  count = fraction > 0.5 || (fraction == 0.5 && std::fmod(down, 2.0) == 1.0) ? down + 1 : down;
  if (config.sparsity_level < 1.0) {
    count = std::min(count, blocks - 1);
  }

  std::vector<float> mask(weight.size(), 1.0F);
  for (std::size_t k = 0; k < static_cast<std::size_t>(count); ++k) {
    const auto [top, left, bottom] = corner[static_cast<std::size_t>(-order[k].second)];
    if (config.rule == BlockRule::kWholeColumns) {
      std::vector<std::pair<float, std::int64_t>> columns;  // (sum, -column), padding first
      for (std::int64_t c = 0; c < block_cols; ++c) {
        float sum = left + c < cols ? 0.0F : -1.0F;
        for (std::int64_t r = top; left + c < cols && r < std::min(top + block_rows, bottom); ++r) {
          sum += power(r, left + c);
        }
        columns.emplace_back(sum, -c);
      }
      std::sort(columns.begin(), columns.end());
      for (std::int64_t z = 0; z < config.zeros_per_block / block_rows; ++z) {
        const std::int64_t c = left - columns[static_cast<std::size_t>(z)].second;
        for (std::int64_t r = top; c < cols && r < std::min(top + block_rows, bottom); ++r) {
          mask[static_cast<std::size_t>(r * cols + c)] = 0.0F;
        }
      }
      continue;
    }
    // (magnitude, -position, index or -1 for padding); -1 as magnitude makes padding the first to go.
    std::vector<std::tuple<float, std::int64_t, std::int64_t>> elements;
    for (std::int64_t r = 0; r < block_rows; ++r) {
      for (std::int64_t c = 0; c < block_cols; ++c) {
        const bool inside = top + r < bottom && left + c < cols;
        const std::int64_t index = inside ? (top + r) * cols + left + c : -1;
        const float magnitude = inside ? std::abs(weight[static_cast<std::size_t>(index)]) : -1.0F;
        elements.emplace_back(magnitude, -(r * block_cols + c), index);
      }
    }
    std::sort(elements.begin(), elements.end());
    for (std::int64_t z = 0; z < config.zeros_per_block; ++z) {
      const std::int64_t index = std::get<2>(elements[static_cast<std::size_t>(z)]);
      if (index >= 0) {
        mask[static_cast<std::size_t>(index)] = 0.0F;
      }
    }
  }
  return mask;
}

// Normal weights; with `ties`, of five magnitudes only.
inline std::vector<float> random_weights(std::size_t count, std::uint64_t seed, bool ties) {
  Rng rng(seed);
  std::vector<float> weights(count);
  for (float& w : weights) {
    w = ties ? static_cast<float>(static_cast<std::int64_t>(rng.below(9)) - 4) * 0.25F : rng.normal();
  }
  return weights;
}

}  // namespace pare::sparsity::testing
