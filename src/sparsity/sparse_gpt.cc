#include "pare/sparsity/sparse_gpt.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {
namespace {

constexpr const char* kMethod = "SparseGPT";

// Rows that one thread takes at a time: a block of them is worth more than waking the thread.
constexpr std::int64_t kGrainRows = 32;

[[noreturn]] void fail(const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCategory::kInvalidArgument, problem, kMethod, remedy);
}

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

// Panels of whole groups, as many as fit into panel_elems, but at least one.
std::vector<Columns> panels_of(const std::vector<Columns>& groups, std::int64_t panel_elems) {
  std::vector<Columns> panels;
  for (const Columns& group : groups) {
    if (!panels.empty() && group.end - panels.back().begin <= panel_elems) {
      panels.back().end = group.end;
    } else {
      panels.push_back(group);
    }
  }
  return panels;
}

float score(const ObsPanel& panel, std::int64_t row, std::int64_t col) {
  const float ratio = panel.value(row, col) / panel.pivot(col);
  return ratio * ratio;
}

// Masks a panel, as far as it is told. Memory of its own: one for each thread.
class MaskPass {
 public:
  // mask: [rows, k], ones at first.
  MaskPass(ObsPanel& panel, float* mask, std::int64_t k) : panel_(panel), mask_(mask), k_(k) {}

  // Rows [row_begin, row_end) share a mask that leaves `kept` of each group.
  void mask_groups(std::int64_t row_begin, std::int64_t row_end, std::span<const Columns> groups, std::int64_t kept) {
    for (const Columns& group : groups) {
      choose(row_begin, row_end, group, kept);
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        fix_masked(row, group);
      }
    }
  }

  // Masked weights of the row become 0, and the columns of the panel to their right make up for it.
  void fix_masked(std::int64_t row, const Columns& columns) {
    for (std::int64_t col = columns.begin; col < columns.end; ++col) {
      if (mask_[row * k_ + col] == 0.0F) {
        panel_.fix(row, col, 0.0F);
      }
    }
  }

 private:
  // The least go; of equals the last.
  void choose(std::int64_t row_begin, std::int64_t row_end, const Columns& group, std::int64_t kept) {
    scores_.assign(static_cast<std::size_t>(group.size()), 0.0F);
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      for (std::int64_t col = group.begin; col < group.end; ++col) {
        scores_[static_cast<std::size_t>(col - group.begin)] += score(panel_, row, col);
      }
    }
    for (float& sum : scores_) {
      sum = std::min(sum, std::numeric_limits<float>::max());  // what is gone ranks above all
    }
    for (std::int64_t left = group.size(); left > kept; --left) {
      const auto least = std::min_element(scores_.rbegin(), scores_.rend());
      *least = kGone;
      const std::int64_t col = group.begin + (scores_.rend() - least) - 1;
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        mask_[row * k_ + col] = 0.0F;
      }
    }
  }

  static constexpr float kGone = std::numeric_limits<float>::infinity();
  ObsPanel& panel_;
  float* mask_;
  std::int64_t k_;
  std::vector<float> scores_;
};

// Of a panel the elements that score least, over all rows.
void mask_elements(const ObsPanel& panel, std::int64_t rows, std::int64_t k, double level, float* mask) {
  const Columns& columns = panel.columns();
  std::vector<float> scores(static_cast<std::size_t>(rows * columns.size()));
  std::size_t next = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = columns.begin; col < columns.end; ++col) {
      scores[next++] = score(panel, row, col);
    }
  }
  std::vector<float> chosen(scores.size());
  weight_norm_mask(scores.data(), {1, rows * columns.size()}, {level, {1, 1}, 1}, chosen.data());
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(chosen.data() + row * columns.size(), columns.size(), mask + row * k + columns.begin);
  }
}

}  // namespace

bool sparse_gpt_supports(const MaskConfig& config) {
  const bool transposable = config.rule == BlockRule::kTransposable;  // its columns are not chosen from left to right
  return config.elems_per_block() == 1 ? config.zeros_per_block == 1 : config.vnm().has_value() && !transposable;
}

SparseGptResult sparse_gpt(const torch::Tensor& weight, const torch::Tensor& hessian, std::int64_t segment_elems,
                           const MaskConfig& config, const ObsOptions& options) {
  config.validate(kMethod);
  options.validate(kMethod);
  if (!sparse_gpt_supports(config)) {
    fail(str_cat("masks of the pattern ", pattern_name(config), " are not made"),
         "N:M, V:N:M (level 1) and single elements are");
  }
  const torch::NoGradGuard no_grad;
  ObsProblem problem = obs_problem(weight, hessian, options.damping, kMethod);
  const std::int64_t rows = problem.weight.size(0);
  const std::int64_t k = problem.weight.size(1);
  if (segment_elems < 1 || k % segment_elems != 0) {
    fail(str_cat("runs of ", segment_elems, " in rows of ", k), "give runs that divide k");
  }
  SparseGptResult result;
  result.weight = problem.weight;
  result.mask = torch::ones_like(result.weight);
  if (result.weight.numel() == 0) {
    return result;
  }
  // What multiplies zeros may be anything: 0 makes it the first to go.
  problem.weight.masked_fill_(problem.unused.unsqueeze(0), 0.0);
  float* const mask = result.mask.data_ptr<float>();

  const bool elements = config.elems_per_block() == 1;
  const std::int64_t group_elems = elements ? 1 : config.vnm()->m;
  const std::int64_t shared_rows = elements ? 1 : config.vnm()->v;
  const std::vector<Columns> groups = groups_of(k, segment_elems, group_elems);
  // Single elements are ranked within whole blocks, so a panel is a block.
  const std::int64_t panel_elems = elements ? options.block_elems : std::min(options.block_elems, kPanelElems);
  auto group = groups.begin();
  result.error = fix_columns(problem, panels_of(groups, panel_elems), options.block_elems, [&](ObsPanel& panel) {
    const auto first = group;
    group = std::find_if(first, groups.end(), [&](const Columns& g) { return g.begin >= panel.columns().end; });
    if (elements) {
      mask_elements(panel, rows, k, config.sparsity_level, mask);
    }
    const std::int64_t row_blocks = (rows + shared_rows - 1) / shared_rows;
    at::parallel_for(
        0, row_blocks, std::max<std::int64_t>(1, kGrainRows / shared_rows), [&](std::int64_t begin, std::int64_t end) {
          MaskPass pass(panel, mask, k);
          for (std::int64_t row = begin * shared_rows; row < std::min(end * shared_rows, rows); row += shared_rows) {
            if (elements) {
              pass.fix_masked(row, panel.columns());
            } else {
              pass.mask_groups(row, std::min(row + shared_rows, rows), {first, group}, config.vnm()->n);
            }
          }
        });
  });
  return result;
}

}  // namespace pare::sparsity
