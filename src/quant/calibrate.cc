#include "pare/quant/calibrate.h"

#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/channels/rescale_channels.h"
#include "pare/quant/gptq.h"
#include "pare/quant/learned_step.h"
#include "pare/quant/qat.h"
#include "pare/sparsity/taps.h"

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

// Largest magnitude of each entry of axis 1 of every node's output.
channels::ChannelExtents largest_values(train::Model& model, const train::CalibrationSet& set) {
  std::vector<std::string> nodes;
  for (const graph::Node& node : model.graph().nodes) {
    nodes.push_back(node.name);
  }
  std::vector<torch::Tensor> largest(nodes.size());
  for (std::int64_t i = 0; i < set.batches; ++i) {
    std::vector<torch::Tensor> outputs;
    static_cast<void>(model.forward(set.batch(i).to(model.device()), nodes, outputs));
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      const torch::Tensor here = outputs[n].transpose(0, 1).flatten(1).abs().amax(1).cpu();
      if (!torch::isfinite(here).all().item<bool>()) {
        throw Error(ErrorCategory::kNumeric, str_cat("NaN or infinity in batch ", i, " of the calibration set"),
                    str_cat("output of '", nodes[n], "'"),
                    "look at the data of the calibration set, and whether training has diverged");
      }
      largest[n] = largest[n].defined() ? torch::maximum(largest[n], here) : here;
    }
  }
  channels::ChannelExtents extents;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const float* const values = largest[n].data_ptr<float>();
    extents[model.graph().nodes[n].output].assign(values, values + largest[n].numel());
  }
  return extents;
}

// In place: parameters and masks stay the tensors that they are. What is masked does not count, but keeps its ratio.
void rescale(train::Model& model, const train::CalibrationSet& set, Rescaling rescaling) {
  const graph::Graph masked = model.to_graph(train::Model::Weights::kMasked);
  const auto exponents = rescaling == Rescaling::kCrossLayer
                             ? channels::equalize_across_layers(masked).exponents
                             : channels::smooth_activations(masked, largest_values(model, set)).exponents;
  graph::Graph after = model.to_graph(train::Model::Weights::kDense);
  for (const channels::ChannelSet& channel_set : channels::find_channel_sets(after)) {
    if (const auto found = exponents.find(channel_set.name()); found != exponents.end()) {
      after = channels::rescale_channels(after, channel_set, found->second);
    }
  }
  const auto take = [&after](const std::string& initializer, torch::Tensor parameter) {
    const auto values = after.initializer(initializer).data.as<float>();
    // A copy: the graph's memory is not ours to write.
    parameter.detach().copy_(torch::tensor(std::vector<float>(values.begin(), values.end())).view(parameter.sizes()));
  };
  for (const graph::Node& node : model.graph().nodes) {
    if (!node.has_weight()) {
      continue;
    }
    take(node.inputs.at(1), model.weight(node.inputs.at(1)).dense());
    if (model.bias(node.name).defined()) {
      take(node.inputs.at(2), model.bias(node.name));
    }
  }
}

// Moves the weight onto the grid of its scales, and holds these.
void round_by_gptq(train::Model& model, train::WeightPipeline& weight, const train::CalibrationSet& set) {
  static_cast<void>(weight.codes());  // settles the scales of the weight as it is now
  const train::FakeQuantizer& quantizer = *weight.fake_quantizer();
  const torch::Tensor matrix = sparsity::to_matrix(weight.masked());
  const torch::Tensor mask = weight.mask().defined() ? sparsity::to_matrix(weight.mask()) : torch::Tensor();
  const std::int64_t group_elems = quantizer.group() != 0 ? quantizer.group() : matrix.size(1);
  const WeightGrid grid{quantizer.scale().detach().cpu().view({matrix.size(0), -1}), group_elems, quantizer.range()};
  GptqResult result;
  try {
    result = gptq(matrix, mask, train::layer_hessian(model, weight.fqn(), set), grid);
  } catch (const Error& error) {
    throw Error(error.category(), error.problem(), str_cat("GPTQ of '", weight.fqn(), "'"),
                "calibrate with more or other data, check that training has not diverged, or round to nearest");
  }
  torch::Tensor dense = weight.dense().detach();
  const torch::Tensor rounded = sparsity::from_matrix(result.weight, dense);
  dense.copy_(weight.mask().defined() ? torch::where(weight.mask() == 0, dense, rounded) : rounded);
  weight.fake_quantizer()->enable_observer(false);
  PARE_CHECK(torch::equal(sparsity::to_matrix(weight.codes()), result.codes.to(torch::kFloat64)));
}

}  // namespace

void calibrate(train::Model& model, const train::CalibrationSet& set, const CalibrateOptions& options) {
  set.validate();
  if (model.qat_state() != train::QatState::kPrepared) {
    throw Error(ErrorCategory::kState, "calibration of a model that is not prepared",
                str_cat("model '", model.graph().name, "'"), "call prepare_qat first, and finish_qat afterwards");
  }
  for (const auto& weight : model.weights()) {
    if (dynamic_cast<const LearnedFakeQuantizer*>(weight->fake_quantizer().get()) != nullptr) {
      throw Error(ErrorCategory::kState, "calibration of learned steps, which only training moves",
                  str_cat("model '", model.graph().name, "'"), "prepare_qat with learned_steps = false, or train");
    }
  }
  const torch::NoGradGuard no_gradient;
  // What an earlier calibration held or froze.
  for (const auto& weight : model.weights()) {
    weight->fake_quantizer()->enable_observer(true);
  }
  for (const auto& entry : model.activation_quantizers()) {
    entry.second->enable_observer(true);
  }
  const auto is_corrected = [&](const graph::Node& node) {
    return options.bias_correction && node.has_weight() && model.bias(node.name).defined();
  };
  const auto is_rounded = [&](const graph::Node& node) {
    return options.rounding == Rounding::kGptq && node.has_weight() && !node.is_depthwise();
  };
  std::vector<std::string> corrected;
  std::int64_t passes = options.rescaling == Rescaling::kSmoothQuant ? 2 : 1;
  for (const graph::Node& node : model.graph().nodes) {
    if (is_corrected(node)) {
      corrected.push_back(node.name);
    }
    passes += is_corrected(node) || is_rounded(node) ? 1 : 0;
  }
  std::int64_t done = 0;
  const auto progress = [&] {
    ++done;
    if (set.progress) {
      set.progress(done, passes);
    }
  };
  std::vector<torch::Tensor> real;
  {
    const FloatingPoint floating_point(model);
    if (options.rescaling != Rescaling::kNone) {
      const train::Mode mode(model, /*training=*/false);
      rescale(model, set, options.rescaling);
      if (options.rescaling == Rescaling::kSmoothQuant) {
        progress();
      }
    }
    // Observers watch in training mode only; batch norm, which training mode would move, is folded by now.
    const train::Mode mode(model, /*training=*/true);
    real = mean_outputs(model, corrected, set);
    progress();
  }
  freeze_observers(model);
  const train::Mode mode(model, /*training=*/false);
  // Front to back: what a layer reads comes from layers that are rounded and corrected.
  auto mean = real.begin();
  for (const graph::Node& node : model.graph().nodes) {
    if (is_rounded(node)) {
      round_by_gptq(model, model.weight(node.inputs.at(1)), set);
    }
    if (is_corrected(node)) {
      const torch::Tensor quantized = mean_outputs(model, {node.name}, set)[0];
      model.bias(node.name).detach().add_((*mean++ - quantized).to(torch::kFloat32));
    }
    if (is_rounded(node) || is_corrected(node)) {
      progress();
    }
  }
}

}  // namespace pare::quant
