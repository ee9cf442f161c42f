// The one place where a weight is altered on its way into a layer:
//
//   dense weight -> mask -> fake-quantize -> used
//
// The dense weight is the parameter that the optimizer sees; it lives on underneath a mask, so a weight can come back.
// The fake-quantizer sees only the masked weight (so its scales come from what is left), and both hand gradients
// straight through. A mask selects rather than multiplies: a masked weight is +0 whatever lies underneath, a NaN or an
// infinity included.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>

#include "pare/train/fake_quantizer.h"

namespace pare::train {

enum class MaskGradient {
  // d dense = d used: weights that are masked keep learning and can return. While masks may still change.
  kStraightThrough,
  // d dense = d used * mask: what is masked stays out. Once masks are held.
  kMasked,
};

// Not thread-safe.
class WeightPipeline {
 public:
  // `fqn` names it in errors ("conv1.weight"). `dense` is the parameter itself, shared with the module that registers
  // it.
  WeightPipeline(std::string fqn, torch::Tensor dense);

  [[nodiscard]] const std::string& fqn() const { return fqn_; }
  [[nodiscard]] const torch::Tensor& dense() const { return dense_; }

  // Undefined when there is none. Float32, same shape, every element exactly 0 or 1. A new tensor each time that it is
  // set, so one that was kept for comparison stays as it was.
  [[nodiscard]] const torch::Tensor& mask() const { return mask_; }
  // Copies. Throws kInvalidArgument for another shape or for values other than 0 and 1.
  void set_mask(const torch::Tensor& mask);
  // Takes the mask off, and with it what was said about its gradient.
  void clear_mask();

  void set_mask_gradient(MaskGradient gradient);
  [[nodiscard]] MaskGradient mask_gradient() const { return mask_gradient_; }
  // SR-STE (arXiv 2102.04010, eq. 8): adds decay * (1 - mask) * dense to the gradient while it is straight-through.
  // Throws kInvalidArgument for a negative or non-finite decay.
  void set_sr_ste_decay(double decay);
  [[nodiscard]] double sr_ste_decay() const { return sr_ste_decay_; }

  void set_fake_quantizer(std::shared_ptr<FakeQuantizer> quantizer);
  [[nodiscard]] const std::shared_ptr<FakeQuantizer>& fake_quantizer() const { return quantizer_; }

  // What the layer computes with. Differentiable with respect to dense(). Masked positions are exactly +0.
  // Without mask and quantizer it is dense() itself.
  [[nodiscard]] torch::Tensor used() const;
  // The masked weight without a gradient: what quantizers and norms are taken of. Without a mask it shares dense()'s
  // memory.
  [[nodiscard]] torch::Tensor masked() const;
  // Integer codes of the masked weight, float64. Precondition: a fake-quantizer is set.
  [[nodiscard]] torch::Tensor codes() const;

  // Writes the mask into the dense weight and drops it. Callers are train-state checks away: use sparsity::squash_mask.
  void squash();

  // Called after every change of mask, gradient or quantizer: Model keeps its registered buffers and children in step.
  void set_listener(std::function<void()> listener) { listener_ = std::move(listener); }

 private:
  void changed() const;

  std::string fqn_;
  torch::Tensor dense_;
  torch::Tensor mask_;
  MaskGradient mask_gradient_ = MaskGradient::kStraightThrough;
  double sr_ste_decay_ = 0.0;
  std::shared_ptr<FakeQuantizer> quantizer_;
  std::function<void()> listener_;
};

}  // namespace pare::train
