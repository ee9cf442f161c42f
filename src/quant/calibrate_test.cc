#include "pare/quant/calibrate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "pare/base/testing.h"
#include "pare/quant/convert.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/networks.h"

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
