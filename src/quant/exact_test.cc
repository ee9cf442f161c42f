#include "pare/quant/exact.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "pare/base/testing.h"
#include "pare/graph/builtin.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/networks.h"
#include "pare/quant/testing/scalar_network.h"

namespace pare::quant {
namespace {

using testing::NetworkBuilder;
using train::Model;

std::map<std::string, torch::Tensor> tapped(Model& model, const torch::Tensor& inputs, torch::Tensor& logits) {
  std::map<std::string, torch::Tensor> values;
  logits = exact_forward(model, inputs, [&](const std::string& value, const torch::Tensor& codes) {
    EXPECT_TRUE(values.emplace(value, codes.clone()).second) << value << " is shown twice";
  });
  return values;
}

void expect_equals_scalars(Model& model, const torch::Tensor& inputs) {
  torch::Tensor logits;
  std::map<std::string, torch::Tensor> values = tapped(model, inputs, logits);
  const testing::ScalarRun reference = testing::run_model_in_scalars(model, inputs);
  for (const auto& [name, expected] : reference.codes) {
    ASSERT_TRUE(values.contains(name)) << name;
    const torch::Tensor found = values.at(name).contiguous();
    EXPECT_EQ(found.scalar_type(), torch::kFloat64);
    ASSERT_EQ(found.sizes().vec(), expected.shape) << name;
    for (std::size_t i = 0; i < expected.q.size(); ++i) {
      ASSERT_EQ(found.data_ptr<double>()[i], static_cast<double>(expected.q[i])) << name << ", element " << i;
    }
  }
  EXPECT_EQ(values.size(), reference.codes.size() + 1);
  EXPECT_TRUE(torch::equal(values.at(model.graph().output), logits));
  ASSERT_EQ(logits.numel(), static_cast<std::int64_t>(reference.logits.size()));
  for (std::size_t i = 0; i < reference.logits.size(); ++i) {
    ASSERT_EQ(logits.contiguous().data_ptr<float>()[i], reference.logits[i]) << "logit " << i;
  }
}

void expect_same_logits(const torch::Tensor& a, const torch::Tensor& b) { EXPECT_TRUE(torch::equal(a, b)); }

TEST(ExactForward, EqualsScalarsAtEveryValue) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const graph::Graph& graph : {testing::tiny_convnet(seed), testing::tiny_mlp(seed), testing::tiny_resnet(seed),
                                      graph::builtin("convnet", seed, 3, 8, 9, testing::kTinyClasses)}) {
      Model model(graph);
      (void)testing::mask_two_four(model);
      const ObserverKind kind = seed % 2 == 0 ? ObserverKind::kMinMax : ObserverKind::kMovingAverageMinMax;
      prepare_qat(model, {.observer = {.kind = kind}});
      (void)testing::train_steps(model, testing::synthetic_data(graph, 16, seed), 4);
      for (const std::int64_t batch : {1, 3}) {
        // Far from what was observed as well, so that codes saturate.
        expect_equals_scalars(model, 3.0 * testing::synthetic_data(graph, batch, seed + 100).inputs);
      }
    }
  }
}

TEST(ExactForward, EqualsScalarsForFewInputChannelsManyProductsAndAReluAtTheEnd) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    for (const graph::Graph& graph :
         {NetworkBuilder(seed, {1, 1, 1}).flatten("flatten").gemm("fc1", {5, 1}).finish(),
          NetworkBuilder(seed, {1, 60, 70}).flatten("flatten").gemm("fc1", {5, 4200}).relu("relu1").finish(),
          NetworkBuilder(seed, {2, 5, 5})
              .conv("conv1", {3, 2, 5, 5}, {0, 0, 0, 0})
              .relu("relu1")
              .conv("conv2", {4, 3, 1, 1}, {0, 0, 0, 0})
              .flatten("flatten")
              .gemm("fc1", {5, 4})
              .finish()}) {
      Model model(graph);
      prepare_qat(model);
      (void)testing::train_steps(model, testing::synthetic_data(graph, 8, seed), 2);
      expect_equals_scalars(model, testing::synthetic_data(graph, 5, seed + 7).inputs);
    }
  }
}

TEST(ExactForward, AChannelOfZerosAndALargeBiasAreExactToo) {
  Model model(testing::tiny_convnet(6));
  const testing::Labelled data = testing::synthetic_data(model.graph(), 8, 6);
  torch::Tensor mask = torch::ones_like(model.weight("conv2.weight").dense());
  mask[2].zero_();
  model.set_mask("conv2.weight", mask);
  prepare_qat(model);
  {
    const torch::NoGradGuard no_gradient;
    model.bias("conv2")[2] = 40.0F;
    model.bias("conv3")[1] = -1e30F;
  }
  (void)testing::train_steps(model, data, 1, {.lr = 1e-12});
  expect_equals_scalars(model, data.inputs);
  torch::Tensor logits;
  const auto values = tapped(model, data.inputs, logits);
  // The dead channel is the constant 40, as float evaluation has it.
  const auto& quantizer = *model.activation_quantizers().at("conv2.out");
  const double real =
      (values.at("conv2.out")[0][2][0][0].item<double>() - quantizer.zero_point()) * quantizer.scale().item<double>();
  EXPECT_NEAR(real, 40.0, quantizer.scale().item<double>());
}

TEST(ExactForward, SlicesDoNotShow) {
  Model model(testing::tiny_mlp(7));
  prepare_qat(model);
  const testing::Labelled data = testing::synthetic_data(model.graph(), 251, 7);
  (void)testing::train_steps(model, data, 2);
  const torch::Tensor all = exact_forward(model, data.inputs);
  EXPECT_EQ(all.size(0), 251);
  torch::Tensor at_once;
  (void)tapped(model, data.inputs, at_once);
  expect_same_logits(all, at_once);
  expect_same_logits(all.slice(0, 250), exact_forward(model, data.inputs.slice(0, 250)));
}

TEST(ExactForward, ChangesNothingAndDoesNotDependOnTheMode) {
  Model model(testing::tiny_convnet(8));
  prepare_qat(model);
  const testing::Labelled data = testing::synthetic_data(model.graph(), 16, 8);
  (void)testing::train_steps(model, data, 2);
  const torch::Tensor training = exact_forward(model, data.inputs);
  model.eval();
  expect_same_logits(exact_forward(model, data.inputs), training);
  finish_qat(model);
  expect_same_logits(exact_forward(model, data.inputs), training);
}

TEST(ExactForward, SquashingMasksChangesNoBit) {
  Model model(testing::tiny_convnet(9));
  (void)testing::mask_two_four(model);
  prepare_qat(model);
  const testing::Labelled data = testing::synthetic_data(model.graph(), 16, 9);
  (void)testing::train_steps(model, data, 3);
  finish_qat(model);
  const torch::Tensor before = exact_forward(model, data.inputs);
  for (const auto& pipeline : model.weights()) {
    pipeline->squash();
  }
  expect_same_logits(exact_forward(model, data.inputs), before);
}

TEST(ExactForward, AReloadedModelComputesTheSame) {
  const graph::Graph graph = testing::tiny_convnet(10);
  Model model(graph);
  (void)testing::mask_two_four(model);
  prepare_qat(model);
  const testing::Labelled data = testing::synthetic_data(graph, 16, 10);
  (void)testing::train_steps(model, data, 3);
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : model.state()) {
    state[name] = tensor.clone();
  }
  Model reloaded(graph);
  prepare_qat(reloaded);
  reloaded.load_state(state);
  expect_same_logits(exact_forward(reloaded, data.inputs), exact_forward(model, data.inputs));
}

// The same network in float32 with fake-quantizers: rounding of biases and of products may move a code now and then,
// but not the picture.
TEST(ExactForward, AgreesWithFakeQuantizedEvaluation) {
  Model model(testing::tiny_convnet(11));
  (void)testing::mask_two_four(model);
  prepare_qat(model);
  const testing::Labelled data = testing::synthetic_data(model.graph(), 200, 11);
  (void)testing::train_steps(model, data, 40, {.lr = 1e-2});
  model.eval();
  const torch::NoGradGuard no_gradient;
  const torch::Tensor fake = model.forward(data.inputs);
  const torch::Tensor exact = exact_forward(model, data.inputs);
  const double same = (fake.argmax(1) == exact.argmax(1)).to(torch::kFloat64).mean().item<double>();
  EXPECT_GT(same, 0.97);
  EXPECT_LT((fake - exact).abs().mean().item<double>(), 0.02 * fake.abs().mean().item<double>());
}

TEST(ExactForward, WantsPreparationCalibrationAndItsInputShape) {
  Model model(testing::tiny_mlp(12));
  const torch::Tensor input = torch::zeros({2, 2, 3, 5});
  EXPECT_PARE_ERROR(exact_forward(model, input), kState, "prepare_qat");
  prepare_qat(model);
  EXPECT_PARE_ERROR(exact_forward(model, input), kState, "seen no data");
  (void)testing::train_steps(model, testing::synthetic_data(model.graph(), 8, 1), 1);
  EXPECT_PARE_ERROR(exact_forward(model, torch::zeros({2, 2, 5, 3})), kInvalidArgument, "[-1, 2, 3, 5]");
  EXPECT_PARE_ERROR(exact_forward(model, torch::zeros({0, 2, 3, 5})), kInvalidArgument, "batch");
  EXPECT_PARE_ERROR(exact_forward(model, input.to(torch::kFloat64)), kInvalidArgument, "float32");
  EXPECT_PARE_ERROR(exact_forward(model, torch::Tensor()), kInvalidArgument, "undefined");
  const torch::NoGradGuard no_gradient;
  model.bias("fc1")[3] = std::nanf("");
  EXPECT_PARE_ERROR(exact_forward(model, input), kNumeric, "fc1");
}

}  // namespace
}  // namespace pare::quant
