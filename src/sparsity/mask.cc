#include "pare/sparsity/mask.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/vnm.h"
#include "pare/sparsity/transposable.h"

namespace pare::sparsity {
namespace {

// Beyond any weight's extent, and small enough that a block's element count cannot overflow.
constexpr std::int64_t kMaxBlockExtent = std::int64_t{1} << 24;

// Orders by magnitude: the bits of a non-negative float32 compare like the number, and NaN comes out largest.
std::int32_t magnitude_key(float value) { return std::bit_cast<std::int32_t>(value) & 0x7fffffff; }

struct Block {
  std::int64_t row = 0;
  std::int64_t col = 0;
  std::int64_t rows = 0;  // within the matrix
  std::int64_t cols = 0;
};

// Matrices one below the other; `rows` counts those of all.
struct BlockGrid {
  std::int64_t matrix_rows;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t block_rows;
  std::int64_t block_cols;

  std::int64_t grid_rows_per_matrix() const { return (matrix_rows + block_rows - 1) / block_rows; }
  std::int64_t grid_rows() const { return rows / matrix_rows * grid_rows_per_matrix(); }
  std::int64_t grid_cols() const { return (cols + block_cols - 1) / block_cols; }
  std::int64_t blocks() const { return grid_rows() * grid_cols(); }
  Block at(std::int64_t grid_row, std::int64_t grid_col) const {
    const std::int64_t matrix = grid_row / grid_rows_per_matrix();
    const std::int64_t row_in_matrix = grid_row % grid_rows_per_matrix() * block_rows;
    Block block{matrix * matrix_rows + row_in_matrix, grid_col * block_cols, 0, 0};
    block.rows = std::min(block_rows, matrix_rows - row_in_matrix);
    block.cols = std::min(block_cols, cols - block.col);
    return block;
  }
};

std::int64_t sparsified_blocks(double level, std::int64_t blocks) {
  if (level >= 1.0) {
    return blocks;
  }
  const auto count = static_cast<std::int64_t>(std::nearbyint(level * static_cast<double>(blocks)));
  return std::clamp<std::int64_t>(count, 0, blocks - 1);
}

float power(float value, int norm) { return norm == 1 ? std::fabs(value) : value * value; }

// Float32 sums in row-major order: torch's own, so that close calls fall on the same side.
float mean_norm(const float* weight, std::int64_t stride, const Block& block, int norm) {
  float sum = 0.0F;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* row = weight + (block.row + r) * stride + block.col;
    for (std::int64_t c = 0; c < block.cols; ++c) {
      sum += power(row[c], norm);
    }
  }
  return sum / static_cast<float>(block.rows * block.cols);
}

// One flag a block, in row-major order: 1 for the `count` with the least keys, the last ones among equals.
std::vector<std::uint8_t> select_least(const std::vector<std::int32_t>& keys, std::int64_t count) {
  std::vector<std::uint8_t> selected(keys.size(), 0);
  if (count == 0) {
    return selected;
  }
  std::vector<std::int32_t> order = keys;
  std::nth_element(order.begin(), order.begin() + (count - 1), order.end());
  const std::int32_t limit = order[static_cast<std::size_t>(count - 1)];
  std::int64_t below = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    selected[i] = keys[i] < limit ? 1 : 0;
    below += selected[i];
  }
  std::int64_t ties_left = count - below;
  for (std::size_t i = keys.size(); i > 0 && ties_left > 0; --i) {
    if (keys[i - 1] == limit) {
      selected[i - 1] = 1;
      --ties_left;
    }
  }
  return selected;
}

std::vector<std::uint8_t> select_blocks(const float* weight, const BlockGrid& grid, const MaskConfig& config,
                                        std::int64_t count) {
  std::vector<std::int32_t> keys(static_cast<std::size_t>(grid.blocks()));
  if (config.elems_per_block() == 1) {
    // |w| rather than |w|^norm: the same order, and it cannot underflow.
    std::transform(weight, weight + grid.blocks(), keys.begin(), magnitude_key);
  } else {
    std::size_t next = 0;
    for (std::int64_t i = 0; i < grid.grid_rows(); ++i) {
      for (std::int64_t j = 0; j < grid.grid_cols(); ++j) {
        keys[next++] = magnitude_key(mean_norm(weight, grid.cols, grid.at(i, j), config.norm));
      }
    }
  }
  return select_least(keys, count);
}

void zero_block(float* mask, std::int64_t stride, const Block& block) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    std::fill_n(mask + (block.row + r) * stride + block.col, block.cols, 0.0F);
  }
}

// kElems consecutive weights, of which the `zeros` that are least go. An element's rank is the number of those that go
// before it, counted without a branch; compilers unroll this completely.
template <int kElems>
void mask_run(const float* weight, std::int32_t zeros, float* mask) {
  std::int32_t keys[kElems];
  for (int i = 0; i < kElems; ++i) {
    keys[i] = magnitude_key(weight[i]);
  }
  std::int32_t rank[kElems] = {};
  for (int i = 0; i < kElems; ++i) {
    for (int j = i + 1; j < kElems; ++j) {
      // Of equals the later goes first.
      const std::int32_t later_first = keys[j] <= keys[i] ? 1 : 0;
      rank[i] += later_first;
      rank[j] += 1 - later_first;
    }
  }
  for (int i = 0; i < kElems; ++i) {
    mask[i] = rank[i] >= zeros ? 1.0F : 0.0F;
  }
}

class BlockMasker {
 public:
  BlockMasker(const float* weight, const BlockGrid& grid, std::int64_t zeros, float* mask)
      : weight_(weight), grid_(grid), zeros_(zeros), mask_(mask) {
    if (grid.block_rows == 1) {
      run_ = grid.block_cols == 2   ? mask_run<2>
             : grid.block_cols == 4 ? mask_run<4>
             : grid.block_cols == 8 ? mask_run<8>
                                    : nullptr;
    }
  }

  void apply(const Block& block) {
    const std::int64_t present = block.rows * block.cols;
    const std::int64_t padding = grid_.block_rows * grid_.block_cols - present;
    const std::int64_t zeros = zeros_ - padding;
    if (zeros <= 0) {
      return;
    }
    const std::int64_t first = block.row * grid_.cols + block.col;
    if (run_ != nullptr && padding == 0) {
      run_(weight_ + first, static_cast<std::int32_t>(zeros), mask_ + first);
      return;
    }
    keys_.clear();
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        keys_.push_back(magnitude_key(weight_[first + r * grid_.cols + c]));
      }
    }
    const std::vector<std::uint8_t> goes = select_least(keys_, zeros);
    for (std::int64_t i = 0; i < present; ++i) {
      if (goes[static_cast<std::size_t>(i)] != 0) {
        mask_[first + (i / block.cols) * grid_.cols + i % block.cols] = 0.0F;
      }
    }
  }

 private:
  const float* weight_;
  BlockGrid grid_;
  std::int64_t zeros_;
  float* mask_;
  void (*run_)(const float*, std::int32_t, float*) = nullptr;
  std::vector<std::int32_t> keys_;
};

// Masks whole columns: in each block the `columns` whose sum of |w|^norm is least go.
class ColumnMasker {
 public:
  ColumnMasker(const float* weight, const BlockGrid& grid, const MaskConfig& config, float* mask)
      : weight_(weight),
        grid_(grid),
        columns_(config.zeros_per_block / config.sparse_block_shape[0]),
        norm_(config.norm),
        mask_(mask) {}

  void apply(const Block& block) {
    const std::int64_t columns = columns_ - (grid_.block_cols - block.cols);
    if (columns <= 0) {
      return;
    }
    const std::int64_t first = block.row * grid_.cols + block.col;
    sums_.assign(static_cast<std::size_t>(block.cols), 0.0F);
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const float* const row = weight_ + first + r * grid_.cols;
      for (std::int64_t c = 0; c < block.cols; ++c) {
        sums_[static_cast<std::size_t>(c)] += power(row[c], norm_);
      }
    }
    keys_.resize(sums_.size());
    std::transform(sums_.begin(), sums_.end(), keys_.begin(), magnitude_key);
    const std::vector<std::uint8_t> goes = select_least(keys_, columns);
    for (std::int64_t r = 0; r < block.rows; ++r) {
      float* const row = mask_ + first + r * grid_.cols;
      for (std::int64_t c = 0; c < block.cols; ++c) {
        row[c] = goes[static_cast<std::size_t>(c)] != 0 ? 0.0F : row[c];
      }
    }
  }

 private:
  const float* weight_;
  BlockGrid grid_;
  std::int64_t columns_;
  int norm_;
  float* mask_;
  std::vector<float> sums_;
  std::vector<std::int32_t> keys_;
};

// The common case, every group of kElems along every row: no selection, no indirect calls.
template <int kElems>
void mask_rows(const float* weight, const BlockGrid& grid, std::int64_t zeros, float* mask) {
  const std::int64_t whole = grid.cols / kElems;
  BlockMasker tail(weight, grid, zeros, mask);
  const std::int64_t tail_elems = grid.cols - whole * kElems;
  for (std::int64_t r = 0; r < grid.rows; ++r) {
    const float* weight_row = weight + r * grid.cols;
    float* mask_row = mask + r * grid.cols;
    for (std::int64_t g = 0; g < whole; ++g) {
      mask_run<kElems>(weight_row + g * kElems, static_cast<std::int32_t>(zeros), mask_row + g * kElems);
    }
    if (tail_elems > 0) {
      std::fill_n(mask_row + whole * kElems, tail_elems, 1.0F);
      tail.apply(grid.at(r, whole));
    }
  }
}

}  // namespace

MaskConfig MaskConfig::from_pattern(const std::string& pattern) {
  if (pattern == kTransposablePattern) {
    return {1.0, {kTileExtent, kTileExtent}, 8, 2, BlockRule::kTransposable};
  }
  const bool shared = std::count(pattern.begin(), pattern.end(), ':') == 2;
  const std::optional<format::VnmPattern> parsed = format::parse_vnm(shared ? pattern : str_cat("1:", pattern));
  if (!parsed || parsed->n == parsed->m) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("'", pattern, "' is not a pattern N:M or V:N:M with 0 < N < M <= 16"), "pattern",
                "write \"2:4\" for two weights kept of every four, \"64:2:4\" for 64 outputs that share such a mask, "
                "\"2:4t\" for "
                "masks that are 2:4 along outputs, too, or give sparse_block_shape and zeros_per_block");
  }
  MaskConfig config;
  config.sparsity_level = 1.0;
  config.sparse_block_shape = {parsed->v, parsed->m};
  config.zeros_per_block = parsed->v * (parsed->m - parsed->n);
  config.rule = shared ? BlockRule::kWholeColumns : BlockRule::kElements;
  return config;
}

std::optional<format::VnmPattern> MaskConfig::vnm() const {
  const auto [rows, columns] = sparse_block_shape;
  if (rule == BlockRule::kTransposable) {
    return sparsity_level < 1.0 ? std::nullopt : std::optional(format::VnmPattern{1, 2, 4});
  }
  const bool one_mask = rows == 1 || rule == BlockRule::kWholeColumns;
  if (sparsity_level < 1.0 || !one_mask || zeros_per_block == 0 || zeros_per_block == elems_per_block()) {
    return std::nullopt;
  }
  return format::VnmPattern{rows, columns - zeros_per_block / rows, columns};
}

void MaskConfig::validate(const std::string& where) const {
  const auto fail = [&where](const std::string& problem, const std::string& remedy) {
    throw Error(ErrorCategory::kInvalidArgument, problem, where, remedy);
  };
  if (!(sparsity_level >= 0.0 && sparsity_level <= 1.0)) {
    fail(str_cat("sparsity_level ", sparsity_level, " is outside [0, 1]"),
         "it is the fraction of blocks that are sparsified");
  }
  for (const std::int64_t extent : sparse_block_shape) {
    if (extent < 1 || extent > kMaxBlockExtent) {
      fail(str_cat("sparse_block_shape ", sparse_block_shape[0], "x", sparse_block_shape[1], " is impossible"),
           str_cat("both extents must lie in [1, ", kMaxBlockExtent, "]; 1x4 is the block of 2:4"));
    }
  }
  if (zeros_per_block < 0 || zeros_per_block > elems_per_block()) {
    fail(str_cat("zeros_per_block ", zeros_per_block, " does not fit a block of ", sparse_block_shape[0], "x",
                 sparse_block_shape[1]),
         str_cat("it must lie in [0, ", elems_per_block(), "]"));
  }
  if (rule == BlockRule::kWholeColumns && zeros_per_block % sparse_block_shape[0] != 0) {
    fail(str_cat("zeros_per_block ", zeros_per_block, " is no whole number of columns of ", sparse_block_shape[0]),
         "whole columns of a block go together: give a multiple of its rows");
  }
  if (rule == BlockRule::kTransposable &&
      (sparse_block_shape != std::array{kTileExtent, kTileExtent} || zeros_per_block != 8)) {
    fail(str_cat("a transposable mask has blocks of 4x4 with 8 zeros, not of ", sparse_block_shape[0], "x",
                 sparse_block_shape[1], " with ", zeros_per_block),
         str_cat("write pattern = \"", kTransposablePattern, "\" and leave the block out"));
  }
  if (norm != 1 && norm != 2) {
    fail(str_cat("norm ", norm, " is not known"), "use 1 (sum of magnitudes) or 2 (sum of squares)");
  }
}

std::string pattern_name(const MaskConfig& config) {
  const std::int64_t elems = config.elems_per_block();
  const std::string shape = str_cat(config.sparse_block_shape[0], "x", config.sparse_block_shape[1]);
  if (elems == 1) {
    return "unstructured";
  }
  if (config.zeros_per_block == elems) {
    return str_cat("block ", shape);
  }
  const std::int64_t kept = elems - config.zeros_per_block;
  const auto [rows, columns] = config.sparse_block_shape;
  const std::string name = config.rule == BlockRule::kTransposable   ? std::string(kTransposablePattern)
                           : config.rule == BlockRule::kWholeColumns ? str_cat(rows, ":", kept / rows, ":", columns)
                           : rows == 1                               ? str_cat(kept, ":", elems)
                                                                     : str_cat("block ", shape, " keeping ", kept);
  return config.sparsity_level >= 1.0 ? name : str_cat(name, " in ", config.sparsity_level, " of the blocks");
}

void weight_norm_mask(const float* weight, const MaskShape& shape, const MaskConfig& config, float* mask) {
  const std::int64_t rows = shape.rows * shape.matrices;
  if (rows == 0 || shape.cols == 0) {
    return;
  }
  const BlockGrid grid{shape.rows, rows, shape.cols, config.sparse_block_shape[0], config.sparse_block_shape[1]};
  const std::int64_t count = sparsified_blocks(config.sparsity_level, grid.blocks());
  const bool whole_blocks = config.zeros_per_block == config.elems_per_block();
  if (count == 0 || config.zeros_per_block == 0) {
    std::fill_n(mask, rows * shape.cols, 1.0F);
    return;
  }
  if (count == grid.blocks() && grid.block_rows == 1 && !whole_blocks && config.rule == BlockRule::kElements) {
    switch (grid.block_cols) {
      case 2:
        return mask_rows<2>(weight, grid, config.zeros_per_block, mask);
      case 4:
        return mask_rows<4>(weight, grid, config.zeros_per_block, mask);
      case 8:
        return mask_rows<8>(weight, grid, config.zeros_per_block, mask);
      default:
        break;
    }
  }
  std::fill_n(mask, rows * shape.cols, 1.0F);
  std::vector<std::uint8_t> selected(static_cast<std::size_t>(grid.blocks()), 1);
  if (count < grid.blocks()) {
    selected = select_blocks(weight, grid, config, count);
  }
  BlockMasker element_masker(weight, grid, config.zeros_per_block, mask);
  ColumnMasker column_masker(weight, grid, config, mask);
  TransposableMasker transposable_masker(weight, shape.cols, config.norm, mask);
  for (std::int64_t i = 0; i < grid.grid_rows(); ++i) {
    for (std::int64_t j = 0; j < grid.grid_cols(); ++j) {
      if (selected[static_cast<std::size_t>(i * grid.grid_cols() + j)] == 0) {
        continue;
      }
      if (whole_blocks) {
        zero_block(mask, shape.cols, grid.at(i, j));
      } else if (config.rule == BlockRule::kWholeColumns) {
        column_masker.apply(grid.at(i, j));
      } else if (config.rule == BlockRule::kTransposable) {
        const Block tile = grid.at(i, j);
        transposable_masker.add(tile.row * shape.cols + tile.col, tile.rows, tile.cols);
      } else {
        element_masker.apply(grid.at(i, j));
      }
    }
  }
  transposable_masker.finish();
}

}  // namespace pare::sparsity
