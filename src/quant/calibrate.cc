#include "pare/quant/calibrate.h"

#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/quant/qat.h"

namespace pare::quant {
namespace {

void enable_fake_quantizers(const train::Model& model, bool enabled) {
  for (const auto& weight : model.weights()) {
    weight->fake_quantizer()->enable_fake_quant(enabled);
  }
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    quantizer->enable_fake_quant(enabled);
  }
  for (const auto& [node, quantizer] : model.row_quantizers()) {
    quantizer->enable_fake_quant(enabled);
  }
}

// Floating point until the end of a scope, masks included.
class FloatingPoint {
 public:
  explicit FloatingPoint(const train::Model& model) : model_(model) { enable_fake_quantizers(model_, false); }
  ~FloatingPoint() { enable_fake_quantizers(model_, true); }
  FloatingPoint(const FloatingPoint&) = delete;
  FloatingPoint& operator=(const FloatingPoint&) = delete;

 private:
  const train::Model& model_;
};

// Runs the set and returns the mean output of each node, per channel: float64 [channels].
std::vector<torch::Tensor> mean_outputs(train::Model& model, const std::vector<std::string>& nodes,
                                        const train::CalibrationSet& set) {
  std::vector<torch::Tensor> sums(nodes.size());
  std::vector<std::int64_t> counts(nodes.size(), 0);
  for (std::int64_t i = 0; i < set.batches; ++i) {
    std::vector<torch::Tensor> outputs;
    static_cast<void>(model.forward(set.batch(i).to(model.device()), nodes, outputs));
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      const torch::Tensor channels = outputs[n].transpose(0, 1).flatten(1).to(torch::kFloat64);
      sums[n] = sums[n].defined() ? sums[n] + channels.sum(1) : channels.sum(1);
      counts[n] += channels.size(1);
    }
  }
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    sums[n] = sums[n] / static_cast<double>(counts[n]);
  }
  return sums;
}

}  // namespace

void calibrate(train::Model& model, const train::CalibrationSet& set, const CalibrateOptions& options) {
  set.validate();
  if (model.qat_state() != train::QatState::kPrepared) {
    throw Error(ErrorCategory::kState, "calibration of a model that is not prepared",
                str_cat("model '", model.graph().name, "'"), "call prepare_qat first, and finish_qat afterwards");
  }
  const torch::NoGradGuard no_gradient;
  std::vector<std::string> corrected;
  for (const graph::Node& node : model.graph().nodes) {
    if (options.bias_correction && node.has_weight() && model.bias(node.name).defined()) {
      corrected.push_back(node.name);
    }
  }
  const auto passes = static_cast<std::int64_t>(1 + corrected.size());
  std::int64_t done = 0;
  const auto progress = [&] {
    ++done;
    if (set.progress) {
      set.progress(done, passes);
    }
  };
  std::vector<torch::Tensor> real;
  {
    // Observers watch in training mode only; batch norm, which training mode would move, is folded by now.
    const FloatingPoint floating_point(model);
    const train::Mode mode(model, /*training=*/true);
    real = mean_outputs(model, corrected, set);
    progress();
  }
  freeze_observers(model);
  const train::Mode mode(model, /*training=*/false);
  // Front to back: what a layer reads comes from layers that are corrected.
  for (std::size_t n = 0; n < corrected.size(); ++n) {
    const torch::Tensor quantized = mean_outputs(model, {corrected[n]}, set)[0];
    model.bias(corrected[n]).detach().add_((real[n] - quantized).to(torch::kFloat32));
    progress();
  }
}

}  // namespace pare::quant
