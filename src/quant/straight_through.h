// The straight-through gradient where a quantizer clips nothing.
#pragma once

#include <torch/torch.h>

namespace pare::quant {

// `result`, whose gradient is handed to `x` as it is. Of one shape.
class StraightThrough : public torch::autograd::Function<StraightThrough> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor& /*x*/,
                               const torch::Tensor& result) {
    return result;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0), torch::Tensor()};
  }
};

}  // namespace pare::quant
