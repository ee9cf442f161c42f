#include "pare/quant/gptq.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::quant {
namespace {

constexpr const char* kMethod = "GPTQ";

// Rows that one thread takes at a time: a block of them is worth more than waking the thread.
constexpr std::int64_t kGrainRows = 16;

[[noreturn]] void fail(const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCategory::kInvalidArgument, problem, kMethod, remedy);
}

}  // namespace

void WeightGrid::validate(std::int64_t rows, std::int64_t k) const {
  if (group_elems < 1 || range.qmin > 0 || range.qmax < 0 || range.qmin < -128 || range.qmax > 127) {
    fail(str_cat("groups of ", group_elems, " with codes from ", range.qmin, " to ", range.qmax),
         "groups have elements, and codes are int8 with 0 among them");
  }
  const std::int64_t groups = (k + group_elems - 1) / group_elems;
  if (!scales.defined() || scales.scalar_type() != torch::kFloat32 || scales.dim() != 2 || scales.size(0) != rows ||
      scales.size(1) != groups) {
    fail(str_cat("scales of shape ", scales.defined() ? str_cat(scales.sizes()) : "(none)", " for ", rows, " rows of ",
                 groups, " groups"),
         "give float32 [rows, groups]");
  }
  if (!(torch::isfinite(scales) & (scales >= 0)).all().item<bool>()) {
    fail("a scale is negative, NaN or infinite", "check that training has not diverged");
  }
}

GptqResult gptq(const torch::Tensor& weight, const torch::Tensor& mask, const torch::Tensor& hessian,
                const WeightGrid& grid, const sparsity::ObsOptions& options) {
  options.validate(kMethod);
  const torch::NoGradGuard no_grad;
  sparsity::ObsProblem problem = sparsity::obs_problem(weight, hessian, options.damping, kMethod);
  const std::int64_t rows = problem.weight.size(0);
  const std::int64_t k = problem.weight.size(1);
  grid.validate(rows, k);
  if (mask.defined() && (mask.sizes() != weight.sizes() || mask.scalar_type() != torch::kFloat32)) {
    fail(str_cat("mask ", mask.sizes(), " of a weight ", weight.sizes()), "give float32 of the weight's shape");
  }
  GptqResult result;
  result.weight = problem.weight;
  result.codes = torch::zeros({rows, k}, torch::kInt8);
  if (result.weight.numel() == 0) {
    return result;
  }
  const torch::Tensor host_mask = mask.defined() ? mask.to(torch::kCPU).contiguous() : torch::Tensor();
  const float* const kept = host_mask.defined() ? host_mask.data_ptr<float>() : nullptr;
  if (kept != nullptr) {
    problem.weight.masked_fill_(host_mask == 0, 0.0);
  }
  const torch::Tensor host_scales = grid.scales.to(torch::kCPU).contiguous();
  const float* const scales = host_scales.data_ptr<float>();
  const std::int64_t groups = host_scales.size(1);
  std::int8_t* const codes = result.codes.data_ptr<std::int8_t>();

  const std::int64_t panel_elems = std::min(options.block_elems, sparsity::kPanelElems);
  std::vector<sparsity::Columns> panels;
  for (std::int64_t begin = 0; begin < k; begin += panel_elems) {
    panels.push_back({begin, std::min(begin + panel_elems, k)});
  }
  result.error = sparsity::fix_columns(problem, panels, options.block_elems, [&](sparsity::ObsPanel& panel) {
    at::parallel_for(0, rows, kGrainRows, [&](std::int64_t row_begin, std::int64_t row_end) {
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        for (std::int64_t col = panel.columns().begin; col < panel.columns().end; ++col) {
          const float scale = scales[row * groups + col / grid.group_elems];
          const bool free = scale > 0.0F && (kept == nullptr || kept[row * k + col] != 0.0F);
          const std::int32_t code = free ? format::quantize(panel.value(row, col), {scale, 0}, grid.range) : 0;
          codes[row * k + col] = static_cast<std::int8_t>(code);
          panel.fix(row, col, format::dequantize(code, {scale, 0}));
        }
      }
    });
  });
  return result;
}

}  // namespace pare::quant
