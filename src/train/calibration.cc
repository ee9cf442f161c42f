#include "pare/train/calibration.h"

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::train {

void CalibrationSet::validate() const {
  if (batches < 1 || !batch) {
    throw Error(ErrorCategory::kInvalidArgument, "the calibration set is empty", "calibration",
                "give a few hundred inputs like those that the model will see");
  }
}

void for_layer_inputs(Model& model, const std::string& tensor_fqn, const CalibrationSet& set,
                      const std::function<void(const torch::Tensor& rows)>& visit) {
  set.validate();
  const torch::NoGradGuard no_grad;
  const Mode mode(model, /*training=*/false);
  bool any = false;
  for (std::int64_t i = 0; i < set.batches; ++i) {
    const torch::Tensor rows = model.layer_input(tensor_fqn, set.batch(i).to(model.device()));
    if (!torch::isfinite(rows).all().item<bool>()) {
      throw Error(ErrorCategory::kNumeric, str_cat("an input of the layer is NaN or infinite in batch ", i), tensor_fqn,
                  "check the calibration set, and whether training has diverged");
    }
    any = any || rows.count_nonzero().item<std::int64_t>() > 0;
    visit(rows);
  }
  if (!any) {
    throw Error(ErrorCategory::kInvalidArgument, "every input of the layer is 0 for the calibration set", tensor_fqn,
                "take other inputs, or leave the layer dense");
  }
}

torch::Tensor layer_hessian(Model& model, const std::string& tensor_fqn, const CalibrationSet& set) {
  const torch::NoGradGuard no_grad;
  torch::Tensor hessian;
  for_layer_inputs(model, tensor_fqn, set, [&](const torch::Tensor& rows) {
    if (!hessian.defined()) {
      hessian = torch::zeros({rows.size(1), rows.size(1)}, rows.options());
    }
    hessian.addmm_(rows.t(), rows);
  });
  return hessian.to(torch::kCPU);
}

}  // namespace pare::train
