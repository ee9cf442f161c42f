#include "pare/quant/calibrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/testing.h"
#include "pare/quant/convert.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/networks.h"
#include "pare/quant/testing/scalar_network.h"

namespace pare::quant {
namespace {

using train::Model;

train::CalibrationSet set_of(const testing::Labelled& data, std::int64_t batch = 16) {
  return {.batches = data.inputs.size(0) / batch,
          .batch = [inputs = data.inputs, batch](std::int64_t i) { return inputs.narrow(0, i * batch, batch); },
          .progress = {}};
}

QATConfig minmax() {
  QATConfig config;
  config.observer.kind = ObserverKind::kMinMax;
  return config;
}

QATConfig int4_groups() {
  QATConfig config = minmax();
  config.scheme = {.activation = ActivationScheme::kDynamicInt8, .int4_group = 32};
  return config;
}

TEST(Calibrate, RangesAreThoseOfTheFloatingPointValues) {
  Model model(testing::tiny_mlp(1));
  const std::vector<std::string> masked = testing::mask_two_four(model);
  ASSERT_FALSE(masked.empty());
  const testing::Labelled data = testing::synthetic_data(model.graph(), 48, 2);
  const torch::NoGradGuard no_gradient;
  // By hand, with masks and without quantizers.
  const torch::Tensor hidden =
      torch::relu(torch::linear(data.inputs.flatten(1), model.weight("fc1.weight").masked(), model.bias("fc1")));
  prepare_qat(model, minmax());
  calibrate(model, set_of(data), {.bias_correction = false});
  const auto range_of = [&](const std::string& value) {
    const auto quantizer = std::dynamic_pointer_cast<FakeQuantizerBase>(model.activation_quantizers().at(value));
    EXPECT_FALSE(quantizer->observer_enabled());
    EXPECT_TRUE(quantizer->fake_quant_enabled());
    return std::pair{quantizer->min_val().item<float>(), quantizer->max_val().item<float>()};
  };
  EXPECT_EQ(range_of("input"), (std::pair{data.inputs.min().item<float>(), data.inputs.max().item<float>()}));
  // Products in batches of 16 may be summed in another order than in one of 48.
  EXPECT_NEAR(range_of("relu1.out").second, hidden.max().item<float>(), 1e-5);
}

TEST(Calibrate, CorrectsTheMeanOfEveryLayer) {
  for (const graph::Graph& graph : {testing::tiny_convnet(3), testing::tiny_mlp(4)}) {
    const testing::Labelled data = testing::synthetic_data(graph, 64, 5);
    const torch::NoGradGuard no_gradient;
    Model reference(graph);
    (void)testing::mask_two_four(reference);
    reference.eval();
    const torch::Tensor real = reference.forward(data.inputs).mean(0);
    std::vector<double> errors;
    for (const bool correction : {false, true}) {
      Model model(graph);
      (void)testing::mask_two_four(model);
      prepare_qat(model, minmax());
      calibrate(model, set_of(data), {.bias_correction = correction});
      model.eval();
      errors.push_back((model.forward(data.inputs).mean(0) - real).abs().max().item<double>());
    }
    // The logits are not quantized, so their bias takes the whole error off: what is left is rounding of float32.
    EXPECT_LT(errors[1], 1e-5) << graph.name;
    EXPECT_GT(errors[0], 4.0 * errors[1]) << graph.name << ": there is something to correct";
  }
}

TEST(Calibrate, LeavesWeightsAndMasksAndConverts) {
  Model model(testing::tiny_convnet(6));
  const std::vector<std::string> masked = testing::mask_two_four(model);
  const testing::Labelled data = testing::synthetic_data(model.graph(), 32, 7);
  prepare_qat(model, minmax());
  const torch::Tensor before = model.weight("conv2.weight").dense().detach().clone();
  const bool mode = model.is_training();
  std::vector<std::int64_t> passes;
  train::CalibrationSet set = set_of(data);
  set.progress = [&](std::int64_t done, std::int64_t total) {
    passes.push_back(done);
    EXPECT_EQ(total, 5);  // fc1 has no bias that could be corrected
  };
  calibrate(model, set);
  EXPECT_EQ(passes, (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(model.is_training(), mode);
  EXPECT_TRUE(torch::equal(model.weight("conv2.weight").dense(), before));
  finish_qat(model);
  graph::Graph graph = quantize_(model);
  EXPECT_EQ(sparsify_(graph, {}, masked)[1].pattern, "2:4");
}

// The whole network, weights of every kind: the converted graph in scalars against the live model.
void expect_exact(Model& model, const torch::Tensor& inputs) {
  std::map<std::string, torch::Tensor> shown;
  static_cast<void>(exact_forward(model, inputs,
                                  [&](const std::string& value, const torch::Tensor& codes) { shown[value] = codes; }));
  const testing::ScalarRun run = testing::run_graph_in_scalars(quantize_(model), inputs);
  ASSERT_GT(run.codes.size(), 1U);
  for (const auto& [name, value] : run.codes) {
    const torch::Tensor codes = shown.at(name).contiguous();
    for (std::size_t i = 0; i < value.q.size(); ++i) {
      ASSERT_EQ(codes.data_ptr<double>()[i], static_cast<double>(value.q[i])) << name << ", element " << i;
    }
  }
}

TEST(Calibrate, GptqKeepsMasksMovesWhatIsKeptAndShipsItsCodes) {
  for (const graph::Graph& graph : {testing::tiny_convnet(11), testing::tiny_resnet(12), testing::tiny_mlp(13)}) {
    SCOPED_TRACE(graph.name);
    Model model(graph);
    const std::vector<std::string> masked = testing::mask_two_four(model);
    const testing::Labelled data = testing::synthetic_data(graph, 64, 14);
    prepare_qat(model, minmax());
    std::map<std::string, torch::Tensor> nearest;
    std::map<std::string, torch::Tensor> before;
    for (const auto& weight : model.weights()) {
      nearest[weight->fqn()] = weight->codes();
      before[weight->fqn()] = weight->dense().detach().clone();
    }
    calibrate(model, set_of(data), {.rounding = Rounding::kGptq});
    std::int64_t moved = 0;
    for (const auto& weight : model.weights()) {
      const torch::Tensor codes = weight->codes();
      moved += (codes != nearest.at(weight->fqn())).sum().item<std::int64_t>();
      if (weight->mask().defined()) {
        const torch::Tensor gone = weight->mask() == 0;
        EXPECT_EQ(codes.masked_select(gone).count_nonzero().item<std::int64_t>(), 0) << weight->fqn();
        EXPECT_TRUE(
            torch::equal(weight->dense().detach().masked_select(gone), before.at(weight->fqn()).masked_select(gone)))
            << "what lies underneath a mask stays";
      }
      if (weight->dense().size(1) > 1) {  // not depthwise
        const torch::Tensor kept = weight->masked();
        EXPECT_TRUE(torch::equal(weight->used().detach(), kept)) << weight->fqn() << " lies on its grid";
      }
    }
    EXPECT_GT(moved, 0);
    finish_qat(model);
    expect_exact(model, testing::synthetic_data(graph, 3, 15).inputs);
    graph::Graph converted = quantize_(model);
    static_cast<void>(sparsify_(converted, {}, masked));
  }
}

// The layer alone: inputs as they are, outputs before anything else is quantized.
TEST(Calibrate, GptqChangesAllLayersOutputsLessThanRoundingToNearest) {
  const graph::Graph graph = testing::tiny_mlp(16);
  const testing::Labelled data = testing::synthetic_data(graph, 96, 17);
  const torch::NoGradGuard no_gradient;
  Model real(graph);
  (void)testing::mask_two_four(real);
  const auto loss = [&](Rounding rounding, const QATConfig& config) {
    Model model(graph);
    (void)testing::mask_two_four(model);
    prepare_qat(model, config);
    calibrate(model, set_of(data), {.bias_correction = false, .rounding = rounding});
    std::vector<double> losses;
    model.eval();
    for (const auto& weight : model.weights()) {
      const torch::Tensor x = model.layer_input(weight->fqn(), data.inputs);
      const torch::Tensor error = weight->used() - real.weight(weight->fqn()).masked();
      losses.push_back(x.mm(error.t()).square().sum(torch::kFloat64).item<double>());
    }
    return losses;
  };
  for (const QATConfig& config : {minmax(), int4_groups()}) {
    const std::vector<double> by_gptq = loss(Rounding::kGptq, config);
    const std::vector<double> by_nearest = loss(Rounding::kNearest, config);
    for (std::size_t i = 0; i < by_gptq.size(); ++i) {
      EXPECT_LT(by_gptq[i], by_nearest[i]) << to_string(config.scheme) << ", layer " << i;
    }
  }
}

TEST(Calibrate, GptqOfInt4GroupsLiesOnItsGridBehindTheMask) {
  const graph::Graph graph = testing::tiny_mlp(13);
  Model model(graph);
  const std::vector<std::string> masked = testing::mask_two_four(model);
  prepare_qat(model, int4_groups());
  calibrate(model, set_of(testing::synthetic_data(graph, 64, 14)), {.rounding = Rounding::kGptq});
  for (const auto& weight : model.weights()) {
    EXPECT_TRUE(torch::equal(weight->used().detach(), weight->masked())) << weight->fqn();
  }
  finish_qat(model);
  graph::Graph converted = quantize_(model);
  for (const LayerDecision& decision : sparsify_(converted, {}, masked)) {
    const bool is_masked = std::find(masked.begin(), masked.end(), decision.weight) != masked.end();
    EXPECT_EQ(decision.pattern, is_masked ? "2:4" : "dense") << decision.weight;
  }
}

TEST(Calibrate, AGroupThatRoundsToZeroAtItsHeldScaleIsStoredWithScaleZero) {
  const graph::Graph graph = testing::tiny_mlp(13);
  Model model(graph);
  prepare_qat(model, int4_groups());
  calibrate(model, set_of(testing::synthetic_data(graph, 64, 14)));
  const auto& weight = model.weight("fc2.weight");
  static_cast<void>(weight.codes());
  weight.fake_quantizer()->enable_observer(false);
  ASSERT_GT(weight.fake_quantizer()->scale()[0][0].item<float>(), 0.0F);
  weight.dense().detach()[0].slice(0, 0, 32).zero_();
  finish_qat(model);
  const graph::Graph converted = quantize_(model);
  EXPECT_EQ(converted.initializer("fc2.weight").scales.as<std::uint16_t>()[0], 0);
}

TEST(Calibrate, CalibratingAgainBeginsAnew) {
  const graph::Graph graph = testing::tiny_mlp(13);
  const testing::Labelled data = testing::synthetic_data(graph, 64, 14);
  Model model(graph);
  prepare_qat(model, minmax());
  calibrate(model, set_of(data), {.rounding = Rounding::kGptq});
  model.weight("fc1.weight").dense().detach().mul_(0.5F);
  calibrate(model, set_of(data), {.bias_correction = false});
  const auto& weight = model.weight("fc1.weight");
  static_cast<void>(weight.codes());
  EXPECT_EQ(weight.codes().abs().amax().item<double>(), 127.0);
}

TEST(Calibrate, LearnedStepsAreRefused) {
  Model model(testing::tiny_mlp(13));
  QATConfig config = minmax();
  config.learned_steps = true;
  prepare_qat(model, config);
  EXPECT_PARE_ERROR(calibrate(model, set_of(testing::synthetic_data(model.graph(), 32, 14))), kState,
                    "calibration of learned steps");
}

TEST(Calibrate, ScalesThatAreHeldTravelWithTheState) {
  const graph::Graph graph = testing::tiny_mlp(18);
  const testing::Labelled data = testing::synthetic_data(graph, 48, 19);
  for (const QATConfig& config : {minmax(), int4_groups()}) {
    Model model(graph);
    prepare_qat(model, config);
    calibrate(model, set_of(data), {.rounding = Rounding::kGptq});
    finish_qat(model);
    std::map<std::string, torch::Tensor> state;
    for (const auto& [name, tensor] : model.state()) {
      state[name] = tensor.clone();
    }
    Model reloaded(graph);
    prepare_qat(reloaded, config);
    reloaded.load_state(state);
    for (const auto& weight : model.weights()) {
      SCOPED_TRACE(weight->fqn() + " " + to_string(config.scheme));
      const auto& there = reloaded.weight(weight->fqn());
      EXPECT_TRUE(torch::equal(there.codes(), weight->codes()));
      EXPECT_TRUE(torch::equal(there.fake_quantizer()->scale(), weight->fake_quantizer()->scale()));
      // Held: half the weight would have half the scale.
      there.dense().detach().mul_(0.5F);
      static_cast<void>(there.codes());
      EXPECT_TRUE(torch::equal(there.fake_quantizer()->scale(), weight->fake_quantizer()->scale()));
    }
  }
}

TEST(Calibrate, RescalingIsTheSameFunctionAndKeepsMasks) {
  for (const graph::Graph& graph : {testing::tiny_convnet(20), testing::tiny_resnet(21), testing::tiny_mlp(22)}) {
    const testing::Labelled data = testing::synthetic_data(graph, 64, 23);
    for (const Rescaling rescaling : {Rescaling::kCrossLayer, Rescaling::kSmoothQuant}) {
      Model model(graph);
      (void)testing::mask_two_four(model);
      prepare_qat(model, minmax());
      const auto float_outputs = [&] {
        const torch::NoGradGuard no_gradient;
        for (const auto& weight : model.weights()) weight->fake_quantizer()->enable_fake_quant(false);
        for (const auto& entry : model.activation_quantizers()) entry.second->enable_fake_quant(false);
        model.eval();
        torch::Tensor logits = model.forward(data.inputs);
        for (const auto& weight : model.weights()) weight->fake_quantizer()->enable_fake_quant(true);
        for (const auto& entry : model.activation_quantizers()) entry.second->enable_fake_quant(true);
        return logits;
      };
      // Without data a quantizer that is switched on refuses, so the outputs before come from the network as it was.
      Model plain(graph);
      (void)testing::mask_two_four(plain);
      plain.fold_batch_norm();
      plain.eval();
      const torch::Tensor before = plain.forward(data.inputs).detach();
      calibrate(model, set_of(data), {.bias_correction = false, .rescaling = rescaling});
      // Powers of two: every product and sum has the same digits.
      EXPECT_TRUE(torch::equal(float_outputs(), before)) << graph.name;
      std::int64_t moved = 0;
      for (const auto& weight : model.weights()) {
        moved += (weight->dense() != plain.weight(weight->fqn()).dense()).sum().item<std::int64_t>();
        if (weight->mask().defined()) {
          EXPECT_TRUE(torch::equal(weight->mask(), plain.weight(weight->fqn()).mask()));
        }
      }
      EXPECT_GT(moved, 0) << graph.name;
      finish_qat(model);
      expect_exact(model, testing::synthetic_data(graph, 3, 24).inputs);
    }
  }
}

TEST(Calibrate, CountsAPassForEachLayerThatIsRounded) {
  Model model(testing::tiny_convnet(25));
  const testing::Labelled data = testing::synthetic_data(model.graph(), 32, 26);
  prepare_qat(model, minmax());
  train::CalibrationSet set = set_of(data);
  std::vector<std::int64_t> passes;
  set.progress = [&](std::int64_t done, std::int64_t total) {
    passes.push_back(done);
    EXPECT_EQ(total, 7);  // rescaling, ranges, and five layers: fc1 has no bias, but is rounded
  };
  calibrate(model, set, {.rounding = Rounding::kGptq, .rescaling = Rescaling::kSmoothQuant});
  EXPECT_EQ(passes, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7}));
}

TEST(Calibrate, DeadInputsAndFaultyWeightsSayWhatToDo) {
  const graph::Graph graph = testing::tiny_mlp(27);
  testing::Labelled data = testing::synthetic_data(graph, 32, 28);
  const CalibrateOptions gptq_rounding{.rounding = Rounding::kGptq};
  {
    Model model(graph);
    prepare_qat(model, minmax());
    const testing::Labelled zeros{torch::zeros_like(data.inputs), data.labels};
    EXPECT_PARE_ERROR(calibrate(model, set_of(zeros), gptq_rounding), kInvalidArgument,
                      "every input of the layer is 0");
  }
  {
    // One pixel for all: a Hessian of rank 1, which damping mends. One that never lights up: rounded to nearest.
    Model model(graph);
    prepare_qat(model, minmax());
    testing::Labelled constant = data;
    constant.inputs = torch::full_like(data.inputs, 0.25F);
    constant.inputs.select(1, 1).select(1, 2).select(1, 4).zero_();
    const torch::Tensor before = model.weight("fc1.weight").codes();
    calibrate(model, set_of(constant), gptq_rounding);
    EXPECT_TRUE(torch::equal(model.weight("fc1.weight").codes().select(1, 29), before.select(1, 29)));
  }
  for (const CalibrateOptions& options :
       {CalibrateOptions{}, gptq_rounding, CalibrateOptions{.rescaling = Rescaling::kSmoothQuant},
        CalibrateOptions{.rescaling = Rescaling::kCrossLayer}}) {
    Model model(graph);
    prepare_qat(model, minmax());
    model.weight("fc2.weight").dense().detach()[1][2] = NAN;
    EXPECT_PARE_ERROR(calibrate(model, set_of(data), options), kNumeric, "diverged");
    Model other(graph);
    prepare_qat(other, minmax());
    testing::Labelled broken = data;
    broken.inputs = data.inputs.clone();
    broken.inputs[3][0][0][0] = INFINITY;
    EXPECT_PARE_ERROR(calibrate(other, set_of(broken), options), kNumeric, "data");
  }
}

TEST(Calibrate, RefusesWhatItCannotDo) {
  Model model(testing::tiny_mlp(8));
  const testing::Labelled data = testing::synthetic_data(model.graph(), 32, 9);
  EXPECT_PARE_ERROR(calibrate(model, set_of(data)), kState, "prepare_qat");
  prepare_qat(model);
  EXPECT_PARE_ERROR(calibrate(model, {}), kInvalidArgument, "empty");
  testing::Labelled broken = data;
  broken.inputs = torch::full_like(data.inputs, NAN);
  EXPECT_PARE_ERROR(calibrate(model, set_of(broken)), kNumeric, "input");
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    EXPECT_TRUE(std::dynamic_pointer_cast<FakeQuantizerBase>(quantizer)->fake_quant_enabled()) << "also after an error";
  }
}

}  // namespace
}  // namespace pare::quant
