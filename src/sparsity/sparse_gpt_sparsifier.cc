#include "pare/sparsity/sparse_gpt_sparsifier.h"

#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/sparsity/taps.h"

namespace pare::sparsity {

SparseGptSparsifier::SparseGptSparsifier(MaskConfig defaults, ObsOptions options)
    : Sparsifier("SparseGptSparsifier", defaults), options_(options) {
  options_.validate(name());
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
  const torch::Tensor hessian = train::layer_hessian(model(), weight.fqn(), set_);
  const SparseGptResult result =
      sparse_gpt(to_matrix(weight.dense()), hessian, weight.dense().size(1), config, options_);
  const torch::Tensor mask = from_matrix(result.mask, weight.dense());
  torch::Tensor dense = weight.dense().detach();
  dense.copy_(torch::where(mask == 0, dense, from_matrix(result.weight, weight.dense())));
  if (set_.progress) {
    set_.progress(++done_, static_cast<std::int64_t>(groups().size()));
  }
  return mask;
}

}  // namespace pare::sparsity
