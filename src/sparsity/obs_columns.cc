#include "pare/sparsity/obs_columns.h"

#include <cmath>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {
namespace {

// U with inverse(H) = U^T U, U upper triangular.
torch::Tensor inverse_factor(const torch::Tensor& hessian, const std::string& method) {
  const auto [factor, info] = at::linalg_cholesky_ex(hessian);
  if (info.item<std::int64_t>() == 0) {
    const auto [lower, second] = at::linalg_cholesky_ex(at::cholesky_inverse(factor));
    if (second.item<std::int64_t>() == 0) {
      return lower.t().contiguous();  // LAPACK's columns are rows already: no copy
    }
  }
  throw Error(ErrorCategory::kNumeric, "the Hessian of the layer's inputs is singular", method,
              "raise the damping, or calibrate with more inputs");
}

}  // namespace

void ObsOptions::validate(const std::string& where) const {
  if (!(damping > 0.0) || !std::isfinite(damping)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("damping ", damping, " is impossible"), where,
                "the paper uses 0.01");
  }
  if (block_elems < 1) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("blocks of ", block_elems, " columns"), where,
                "the paper uses 128");
  }
}

ObsProblem obs_problem(const torch::Tensor& weight, const torch::Tensor& hessian, double damping,
                       const std::string& method) {
  const bool fits = weight.dim() == 2 && hessian.dim() == 2 && hessian.size(0) == weight.size(1) &&
                    hessian.size(1) == weight.size(1) && weight.scalar_type() == torch::kFloat32 &&
                    hessian.scalar_type() == torch::kFloat32;
  if (!fits) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("weight ", weight.sizes(), ", Hessian ", hessian.sizes()),
                method, "give float32 [rows, k] and [k, k]");
  }
  const torch::NoGradGuard no_grad;
  ObsProblem problem;
  problem.weight = weight.detach().to(torch::kCPU).clone(torch::MemoryFormat::Contiguous);
  torch::Tensor h = hessian.detach().to(torch::kCPU).clone(torch::MemoryFormat::Contiguous);
  if (!torch::isfinite(problem.weight).all().item<bool>() || !torch::isfinite(h).all().item<bool>()) {
    throw Error(ErrorCategory::kNumeric, "NaN or infinity among weights or inputs", method,
                "check that training has not diverged");
  }
  torch::Tensor diagonal = h.diagonal();
  problem.unused = diagonal == 0;
  if (problem.weight.numel() == 0) {
    return problem;
  }
  // Its row and column are 0, too: it stands alone.
  diagonal.masked_fill_(problem.unused, 1.0);
  diagonal.add_(damping * diagonal.mean().item<double>());
  problem.factor = inverse_factor(h, method);
  return problem;
}

double fix_columns(ObsProblem& problem, const std::vector<Columns>& panels, std::int64_t block_elems,
                   const std::function<void(ObsPanel& panel)>& fix_panel) {
  const torch::NoGradGuard no_grad;
  const std::int64_t rows = problem.weight.size(0);
  const std::int64_t k = problem.weight.size(1);
  double error = 0.0;
  // Columns `to` make up for `errors` in columns `from`.
  const auto spread = [&](const torch::Tensor& errors, const Columns& from, const Columns& to) {
    if (to.size() > 0) {
      problem.weight.narrow(1, to.begin, to.size())
          .addmm_(errors, problem.factor.narrow(0, from.begin, from.size()).narrow(1, to.begin, to.size()), 1.0, -1.0);
    }
  };
  for (std::size_t first = 0; first < panels.size();) {
    std::size_t last = first + 1;
    while (last < panels.size() && panels[last].end - panels[first].begin <= block_elems) {
      ++last;
    }
    const Columns block{panels[first].begin, panels[last - 1].end};
    const torch::Tensor errors = torch::zeros({rows, block.size()});
    for (; first < last; ++first) {
      const Columns& columns = panels[first];
      // A copy: rows of the whole factor lie a multiple of k apart, and a cache holds only a few such.
      const torch::Tensor factor =
          problem.factor.narrow(0, columns.begin, columns.size()).narrow(1, columns.begin, columns.size()).contiguous();
      const torch::Tensor own = errors.narrow(1, columns.begin - block.begin, columns.size());
      ObsPanel panel(problem.weight.data_ptr<float>(), k, factor.data_ptr<float>(), columns, own.data_ptr<float>(),
                     block.size());
      fix_panel(panel);
      spread(own, columns, {columns.end, block.end});
    }
    spread(errors, block, {block.end, k});
    error += errors.square().sum(torch::kFloat64).item<double>();
  }
  return error;
}

}  // namespace pare::sparsity
