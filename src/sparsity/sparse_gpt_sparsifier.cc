#include "pare/sparsity/sparse_gpt_sparsifier.h"

#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/sparsity/taps.h"

namespace pare::sparsity {

SparseGptSparsifier::SparseGptSparsifier(MaskConfig defaults, SparseGptOptions options)
    : Sparsifier("SparseGptSparsifier", defaults), options_(options) {
  options_.validate();
  check(defaults, name());
}

void SparseGptSparsifier::check(const MaskConfig& config, const std::string& where) const {
  if (!sparse_gpt_supports(config)) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("SparseGPT makes no masks of the pattern ", pattern_name(config)), where,
                "use N:M, V:N:M or single elements, or another sparsifier");
  }
}

void SparseGptSparsifier::calibrate(const train::CalibrationSet& set) {
  Sparsifier::calibrate(set);
  set_ = set;
  done_ = 0;
}

torch::Tensor SparseGptSparsifier::compute_mask(train::WeightPipeline& weight, const MaskConfig& config) {
  if (set_.batches == 0) {
    throw Error(ErrorCategory::kState, "the sparsifier has seen no data", weight.fqn(),
                "call calibrate() between prepare() and step()");
  }
  const torch::NoGradGuard no_grad;
  torch::Tensor hessian;
  train::for_layer_inputs(model(), weight.fqn(), set_, [&](const torch::Tensor& rows) {
    if (!hessian.defined()) {
      hessian = torch::zeros({rows.size(1), rows.size(1)}, rows.options());
    }
    hessian.addmm_(rows.t(), rows);
  });
  // [taps, O, I] <-> [O, taps * I]
  const torch::Tensor taps = to_taps(weight.dense());
  const torch::Tensor matrix = taps.permute({1, 0, 2}).flatten(1).contiguous();
  const SparseGptResult result = sparse_gpt(matrix, hessian.to(torch::kCPU), taps.size(2), config, options_);
  const auto back = [&](const torch::Tensor& m) {
    return from_taps(m.view({taps.size(1), taps.size(0), taps.size(2)}).permute({1, 0, 2}), weight.dense());
  };
  const torch::Tensor mask = back(result.mask);
  torch::Tensor dense = weight.dense().detach();
  dense.copy_(torch::where(mask == 0, dense, back(result.weight)));
  if (set_.progress) {
    set_.progress(++done_, static_cast<std::int64_t>(groups().size()));
  }
  return mask;
}

}  // namespace pare::sparsity
