#include "pare/sparsity/sparse_gpt.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {
namespace {

[[noreturn]] void fail(const std::string& problem, const std::string& remedy,
                       ErrorCategory category = ErrorCategory::kInvalidArgument) {
  throw Error(category, problem, "SparseGPT", remedy);
}

struct Columns {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  [[nodiscard]] std::int64_t size() const { return end - begin; }
};

// Groups of `group` columns that do not cross segments; the last of a segment may be short.
std::vector<Columns> groups_of(std::int64_t cols, std::int64_t segment_elems, std::int64_t group) {
  std::vector<Columns> groups;
  for (std::int64_t segment = 0; segment < cols; segment += segment_elems) {
    for (std::int64_t begin = segment; begin < segment + segment_elems; begin += group) {
      groups.push_back({begin, std::min(begin + group, segment + segment_elems)});
    }
  }
  return groups;
}

// The upper Cholesky factor U of the inverse, inverse(H) = U^T U: row j holds, from its diagonal on, what removing
// column j does to the columns right of it (section 3.3 of the paper).
torch::Tensor inverse_factor(const torch::Tensor& hessian) {
  const auto [factor, info] = at::linalg_cholesky_ex(hessian);
  if (info.item<std::int64_t>() == 0) {
    const auto [upper, second] = at::linalg_cholesky_ex(at::cholesky_inverse(factor), /*upper=*/true);
    if (second.item<std::int64_t>() == 0) {
      return upper.contiguous();
    }
  }
  fail("the Hessian of the layer's inputs is singular", "raise the damping, or calibrate with more inputs",
       ErrorCategory::kNumeric);
}

// A block of columns, worked through in plain memory. Rows are independent but for the masks that they share.
class BlockPass {
 public:
  // weight: [rows, cols], of which `block` is worked on in place; errors: [rows, block.size()].
  BlockPass(float* weight, std::int64_t cols, const float* factor, Columns block, float* mask, float* errors)
      : weight_(weight), cols_(cols), factor_(factor), block_(block), mask_(mask), errors_(errors) {}

  // Rows [row_begin, row_end) share a mask that leaves `kept` of a whole group of `group_elems`.
  void mask_groups(std::int64_t row_begin, std::int64_t row_end, const std::vector<Columns>& groups, std::int64_t kept,
                   std::int64_t group_elems) {
    for (const Columns& group : groups) {
      const std::int64_t zeros = group_elems - kept - (group_elems - group.size());
      choose(row_begin, row_end, group, zeros);
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        settle(row, group);
      }
    }
  }

  // The mask of the block is there already.
  void settle_block(std::int64_t row) { settle(row, block_); }

  [[nodiscard]] float score(std::int64_t row, std::int64_t col) const {
    const float ratio = weight_[row * cols_ + col] / factor_[col * cols_ + col];
    return ratio * ratio;
  }

 private:
  void choose(std::int64_t row_begin, std::int64_t row_end, const Columns& group, std::int64_t zeros) {
    scores_.assign(static_cast<std::size_t>(group.size()), 0.0F);
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      for (std::int64_t col = group.begin; col < group.end; ++col) {
        scores_[static_cast<std::size_t>(col - group.begin)] += score(row, col);
      }
    }
    order_.resize(scores_.size());
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    // The least first; of equals the last.
    std::sort(order_.begin(), order_.end(), [this](std::int64_t a, std::int64_t b) {
      const float left = scores_[static_cast<std::size_t>(a)];
      const float right = scores_[static_cast<std::size_t>(b)];
      return left != right ? left < right : a > b;
    });
    for (std::int64_t z = 0; z < zeros; ++z) {
      const std::int64_t col = group.begin + order_[static_cast<std::size_t>(z)];
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        mask_[row * cols_ + col] = 0.0F;
      }
    }
  }

  // Masked weights of the row become 0, and the columns of the block to their right make up for it.
  void settle(std::int64_t row, const Columns& columns) {
    float* const w = weight_ + row * cols_;
    for (std::int64_t col = columns.begin; col < columns.end; ++col) {
      if (mask_[row * cols_ + col] != 0.0F) {
        continue;
      }
      const float* const u = factor_ + col * cols_;
      const float error = w[col] / u[col];
      errors_[row * block_.size() + col - block_.begin] = error;
      w[col] = 0.0F;
      for (std::int64_t right = col + 1; right < block_.end; ++right) {
        w[right] -= error * u[right];
      }
    }
  }

  float* weight_;
  std::int64_t cols_;
  const float* factor_;
  Columns block_;
  float* mask_;
  float* errors_;
  std::vector<float> scores_;
  std::vector<std::int64_t> order_;
};

// Of a block the elements that score least, over all rows.
void mask_elements(const BlockPass& pass, std::int64_t rows, std::int64_t cols, const Columns& block, double level,
                   float* mask) {
  std::vector<float> scores(static_cast<std::size_t>(rows * block.size()));
  std::size_t next = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = block.begin; col < block.end; ++col) {
      scores[next++] = pass.score(row, col);
    }
  }
  std::vector<float> chosen(scores.size());
  weight_norm_mask(scores.data(), {1, rows * block.size()}, {level, {1, 1}, 1}, chosen.data());
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(chosen.data() + row * block.size(), block.size(), mask + row * cols + block.begin);
  }
}

}  // namespace

void SparseGptOptions::validate() const {
  if (!(damping > 0.0) || !std::isfinite(damping)) {
    fail(str_cat("damping ", damping, " is impossible"), "the paper uses 0.01");
  }
  if (block_elems < 1) {
    fail(str_cat("blocks of ", block_elems, " columns"), "the paper uses 128");
  }
}

bool sparse_gpt_supports(const MaskConfig& config) {
  const bool transposable = config.rule == BlockRule::kTransposable;  // its columns are not chosen from left to right
  return config.elems_per_block() == 1 ? config.zeros_per_block == 1 : config.vnm().has_value() && !transposable;
}

SparseGptResult sparse_gpt(const torch::Tensor& weight, const torch::Tensor& hessian, std::int64_t segment_elems,
                           const MaskConfig& config, const SparseGptOptions& options) {
  config.validate("SparseGPT");
  options.validate();
  if (!sparse_gpt_supports(config)) {
    fail(str_cat("masks of the pattern ", pattern_name(config), " are not made"),
         "N:M, V:N:M (level 1) and single elements are");
  }
  const bool shapes_fit = weight.dim() == 2 && hessian.dim() == 2 && hessian.size(0) == weight.size(1) &&
                          hessian.size(1) == weight.size(1) && segment_elems > 0 &&
                          weight.size(1) % segment_elems == 0 && weight.scalar_type() == torch::kFloat32 &&
                          hessian.scalar_type() == torch::kFloat32;
  if (!shapes_fit) {
    fail(str_cat("weight ", weight.sizes(), ", Hessian ", hessian.sizes(), ", runs of ", segment_elems),
         "give float32 [rows, k] and [k, k], and runs that divide k");
  }
  const torch::NoGradGuard no_grad;
  SparseGptResult result;
  result.weight = weight.detach().to(torch::kCPU).clone().contiguous();
  result.mask = torch::ones_like(result.weight);
  torch::Tensor h = hessian.detach().to(torch::kCPU).clone().contiguous();
  if (!torch::isfinite(result.weight).all().item<bool>() || !torch::isfinite(h).all().item<bool>()) {
    fail("NaN or infinity among weights or inputs", "check that training has not diverged", ErrorCategory::kNumeric);
  }
  const std::int64_t rows = result.weight.size(0);
  const std::int64_t cols = result.weight.size(1);
  if (rows == 0 || cols == 0) {
    return result;
  }
  // What multiplies zeros may be anything: 0 makes it the first to go.
  torch::Tensor diagonal = h.diagonal();
  const torch::Tensor unused = diagonal == 0;
  diagonal.masked_fill_(unused, 1.0);
  result.weight.masked_fill_(unused.unsqueeze(0), 0.0);
  diagonal.add_(options.damping * diagonal.mean().item<double>());
  const torch::Tensor factor = inverse_factor(h);

  const bool elements = config.elems_per_block() == 1;
  const std::int64_t group_elems = elements ? 1 : config.vnm()->m;
  const std::int64_t shared_rows = elements ? rows : config.vnm()->v;
  const std::vector<Columns> groups = groups_of(cols, segment_elems, group_elems);
  for (std::size_t first = 0; first < groups.size();) {
    // Whole groups, until the block is full.
    std::size_t last = first + 1;
    while (last < groups.size() && groups[last].end - groups[first].begin <= options.block_elems) {
      ++last;
    }
    const std::vector<Columns> in_block(groups.begin() + static_cast<std::ptrdiff_t>(first),
                                        groups.begin() + static_cast<std::ptrdiff_t>(last));
    const Columns block{in_block.front().begin, in_block.back().end};
    torch::Tensor errors = torch::zeros({rows, block.size()});
    BlockPass pass(result.weight.data_ptr<float>(), cols, factor.data_ptr<float>(), block,
                   result.mask.data_ptr<float>(), errors.data_ptr<float>());
    if (elements) {
      mask_elements(pass, rows, cols, block, config.sparsity_level, result.mask.data_ptr<float>());
      for (std::int64_t row = 0; row < rows; ++row) {
        pass.settle_block(row);
      }
    } else {
      for (std::int64_t row = 0; row < rows; row += shared_rows) {
        pass.mask_groups(row, std::min(row + shared_rows, rows), in_block, config.vnm()->n, group_elems);
      }
    }
    if (block.end < cols) {
      torch::Tensor rest = result.weight.narrow(1, block.end, cols - block.end);
      rest.addmm_(errors, factor.narrow(0, block.begin, block.size()).narrow(1, block.end, cols - block.end), 1.0,
                  -1.0);
    }
    result.error += errors.square().sum(torch::kFloat64).item<double>();
    first = last;
  }
  return result;
}

}  // namespace pare::sparsity
