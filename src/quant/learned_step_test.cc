#include "pare/quant/learned_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "pare/base/testing.h"
#include "pare/quant/convert.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/networks.h"
#include "pare/quant/testing/scalar_network.h"

namespace pare::quant {
namespace {

using train::Model;
using Of = LearnedFakeQuantizer::Of;

QATConfig learned() {
  QATConfig config;
  config.learned_steps = true;
  return config;
}

// Gradients of sum(factors * y).
struct Gradients {
  torch::Tensor y, x, scale;
};
Gradients gradients(const torch::Tensor& x, const torch::Tensor& scale, std::int32_t zero_point,
                    format::QuantRange range, const torch::Tensor& factors, double gradient_scale) {
  const torch::Tensor leaf = x.clone().requires_grad_(true);
  const torch::Tensor scales = scale.clone().requires_grad_(true);
  const torch::Tensor y = fake_quantize_learned(leaf, scales, zero_point, range, gradient_scale);
  (y * factors).sum().backward();
  return {y.detach(), leaf.grad(), scales.grad()};
}

TEST(LearnedStep, ValuesAreThoseOfFormatElementByElement) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({3, 50});
  const torch::Tensor scale = torch::tensor({0.01F, 0.05F, 1.5F});
  const torch::Tensor y = fake_quantize_learned(x, scale, 0, format::kInt8WeightRange, 1.0);
  for (std::int64_t row = 0; row < 3; ++row) {
    for (std::int64_t col = 0; col < 50; ++col) {
      EXPECT_EQ(
          y[row][col].item<float>(),
          format::fake_quantize(x[row][col].item<float>(), {scale[row].item<float>(), 0}, format::kInt8WeightRange));
    }
  }
  const torch::Tensor activation = fake_quantize_learned(x, torch::tensor({0.02F}), 77, format::kUint8Range, 1.0);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    EXPECT_EQ(activation.view({-1})[i].item<float>(),
              format::fake_quantize(x.view({-1})[i].item<float>(), {0.02F, 77}, format::kUint8Range));
  }
}

// Section 2, eq. 3 of the paper, number by number: within the range, at ties, at its ends and beyond.
TEST(LearnedStep, GradientsAreThePapers) {
  struct Case {
    float x;
    bool passes;
    double slope;
  };
  const Case cases[] = {{0.3F, true, -0.3},   {0.5F, true, -0.5}, {1.5F, true, 0.5},
                        {-2.25F, true, 0.25}, {7.4F, true, -0.4}, {7.5F, false, 7.0},
                        {20.0F, false, 7.0},  {-8.5F, true, 0.5}, {-9.0F, false, -8.0}};
  for (const Case& c : cases) {
    // A scale of 1/4 is exact.
    const Gradients found = gradients(torch::tensor({c.x * 0.25F}), torch::tensor({0.25F}), 0, format::kInt4Range,
                                      torch::tensor({3.0F}), 0.5);
    EXPECT_EQ(found.x.item<float>(), c.passes ? 3.0F : 0.0F) << c.x;
    EXPECT_NEAR(found.scale.item<double>(), 3.0 * 0.5 * c.slope, 1e-6) << c.x;
  }
}

// Away from kinks: rounding's remainder is a constant to both gradients (straight-through), so finite differences of
// s * clamp(x / s + remainder, lo, hi) in double must give them.
TEST(LearnedStep, GradientsAgreeWithFiniteDifferences) {
  torch::manual_seed(2);
  const torch::Tensor x = torch::randn({4, 30});
  const torch::Tensor scale = torch::tensor({0.011F, 0.02F, 0.004F, 0.3F});
  const torch::Tensor factors = torch::randn({4, 30});
  const Gradients found = gradients(x, scale, 3, format::kInt8Range, factors, 1.0);
  const torch::Tensor wide = x.to(torch::kFloat64);
  const torch::Tensor s0 = scale.to(torch::kFloat64).view({-1, 1});
  const torch::Tensor remainder = (wide / s0).round() - wide / s0;
  const auto value = [&](const torch::Tensor& v, const torch::Tensor& s) {
    return (factors * (s * (v / s + remainder).clamp(-131.0, 124.0))).sum(1);
  };
  const torch::Tensor step = 1e-6 * s0;
  const torch::Tensor by_scale = (value(wide, s0 + step) - value(wide, s0 - step)) / (2 * step.view({-1}));
  // Float32 sums of 30 terms up to 131.
  EXPECT_LT((found.scale - by_scale).abs().max().item<double>(), 30 * 131 * 4 * 6e-8);
  for (std::int64_t col = 0; col < 30; ++col) {
    torch::Tensor moved = torch::zeros_like(wide);
    moved.select(1, col).fill_(1e-7);
    EXPECT_LT((found.x.select(1, col) - (value(wide + moved, s0) - value(wide - moved, s0)) / 2e-7)
                  .abs()
                  .max()
                  .item<double>(),
              1e-5);
  }
}

// LibTorch's own operators have the same gradients; its zero points are real numbers, and it rounds after adding them,
// so only values away from ties agree.
TEST(LearnedStep, GradientsAreThoseOfTorchsLearnableFakeQuantize) {
  torch::manual_seed(3);
  const torch::Tensor x = torch::randn({5, 64});
  const torch::Tensor factors = torch::randn({5, 64});
  const double gradient_scale = 1.0 / std::sqrt(64.0 * 255.0);
  {
    const torch::Tensor leaf = x.clone().requires_grad_(true);
    const torch::Tensor scale = torch::tensor({0.013F}).requires_grad_(true);
    const torch::Tensor zero_point = torch::tensor({100.0F}).requires_grad_(true);
    const torch::Tensor y =
        at::_fake_quantize_learnable_per_tensor_affine(leaf, scale, zero_point, 0, 255, gradient_scale);
    (y * factors).sum().backward();
    const Gradients found = gradients(x, scale.detach(), 100, format::kUint8Range, factors, gradient_scale);
    EXPECT_TRUE(torch::allclose(found.y, y.detach(), 1e-6, 1e-6));
    EXPECT_TRUE(torch::equal(found.x, leaf.grad()));
    EXPECT_TRUE(torch::allclose(found.scale, scale.grad(), 1e-4, 1e-5));
  }
  const torch::Tensor leaf = x.clone().requires_grad_(true);
  const torch::Tensor scale = torch::tensor({0.013F, 0.02F, 0.5F, 0.01F, 0.03F}).requires_grad_(true);
  const torch::Tensor zero_point = torch::zeros({5}).requires_grad_(true);
  const torch::Tensor y =
      at::_fake_quantize_learnable_per_channel_affine(leaf, scale, zero_point, 0, -127, 127, gradient_scale);
  (y * factors).sum().backward();
  const Gradients found = gradients(x, scale.detach(), 0, format::kInt8WeightRange, factors, gradient_scale);
  EXPECT_TRUE(torch::allclose(found.y, y.detach(), 1e-6, 1e-6));
  EXPECT_TRUE(torch::equal(found.x, leaf.grad()));
  EXPECT_TRUE(torch::allclose(found.scale, scale.grad(), 1e-4, 1e-5));
}

TEST(LearnedFakeQuantizer, BeginsWhereTheOtherFakeQuantizersStand) {
  torch::manual_seed(4);
  torch::Tensor weight = torch::randn({4, 3, 2, 2});
  weight[2].zero_();
  LearnedFakeQuantizer quantizer("w", Of::kWeight, 4, format::kInt8WeightRange);
  quantizer.begin(weight);
  WeightFakeQuantizer reference("w", 4);
  EXPECT_TRUE(torch::equal(quantizer.quantize(weight), reference.quantize(weight)));
  EXPECT_TRUE(torch::equal(quantizer.scale(), reference.scale()));
  EXPECT_TRUE(torch::equal(quantizer.forward(weight).detach(), reference.forward(weight)));

  const torch::Tensor x = torch::randn({8, 5});
  LearnedFakeQuantizer activation("x", Of::kActivation, 1, format::kUint8Range);
  ActivationFakeQuantizer minmax("x", {.kind = ObserverKind::kMinMax});
  EXPECT_TRUE(torch::equal(activation.forward(x).detach(), minmax.forward(x)));
  EXPECT_EQ(activation.zero_point(), minmax.zero_point());
  const torch::Tensor start = activation.scale().clone();
  (void)activation.forward(100.0 * x);
  EXPECT_TRUE(torch::equal(activation.scale(), start)) << "only the first batch is looked at";
}

// The update of the paper's training, s -= lr * gradient, by way of a step in units of the start.
TEST(LearnedFakeQuantizer, SgdMovesTheScaleAsThePaperHasIt) {
  torch::manual_seed(5);
  const torch::Tensor weight = torch::randn({3, 40});
  const torch::Tensor factors = torch::randn({3, 40});
  LearnedFakeQuantizer quantizer("w", Of::kWeight, 3, format::kInt8WeightRange);
  quantizer.begin(weight);
  const torch::Tensor before = quantizer.scale().clone();
  (quantizer.forward(weight) * factors).sum().backward();
  const Gradients paper =
      gradients(weight, before, 0, format::kInt8WeightRange, factors, 1.0 / std::sqrt(40.0 * 127.0));
  torch::optim::SGD sgd(quantizer.parameters(), 1e-3);
  sgd.step();
  const torch::Tensor moved = quantizer.scale() - before;
  EXPECT_GT(moved.abs().min().item<double>(), 0.0);
  EXPECT_TRUE(torch::allclose(moved, -1e-3 * paper.scale, 1e-3, 1e-8));
}

TEST(LearnedFakeQuantizer, StaysPositiveAndStopsWhenFrozen) {
  const torch::Tensor x = torch::linspace(-1.0, 1.0, 20).view({2, 10});
  LearnedFakeQuantizer quantizer("x", Of::kActivation, 1, format::kUint8Range);
  (void)quantizer.forward(x);
  torch::Tensor(quantizer.step()).detach().fill_(-5.0);
  EXPECT_GT(quantizer.scale().item<float>(), 0.0F);
  (void)quantizer.forward(x);
  EXPECT_GT(quantizer.step().item<float>(), 0.0F);
  quantizer.enable_observer(false);
  const torch::Tensor leaf = x.clone().requires_grad_(true);
  quantizer.forward(leaf).sum().backward();
  EXPECT_FALSE(quantizer.step().grad().defined());
}

TEST(LearnedFakeQuantizer, SaysWhatIsWrong) {
  LearnedFakeQuantizer quantizer("relu1.out", Of::kActivation, 1, format::kUint8Range);
  quantizer.eval();
  EXPECT_PARE_ERROR((void)quantizer.forward(torch::ones({2, 2})), kState, "relu1.out");
  EXPECT_PARE_ERROR((void)quantizer.quantize(torch::ones({2, 2})), kState, "seen no data");
  quantizer.train();
  EXPECT_PARE_ERROR((void)quantizer.forward(torch::full({2, 2}, NAN)), kNumeric, "relu1.out");
  (void)quantizer.forward(torch::ones({2, 2}));
  EXPECT_PARE_ERROR((void)quantizer.forward(torch::full({2, 2}, INFINITY)), kNumeric, "relu1.out");
  EXPECT_PARE_ERROR((void)quantizer.forward(torch::ones({2, 2}, torch::kFloat64)), kInvalidArgument, "float32");
  LearnedFakeQuantizer weight("fc1.weight", Of::kWeight, 3, format::kInt8WeightRange);
  EXPECT_PARE_ERROR(weight.begin(torch::ones({2, 2})), kInvalidArgument, "3 channels");
  EXPECT_PARE_ERROR(weight.begin(torch::full({3, 2}, NAN)), kNumeric, "fc1.weight");
}

TEST(LearnedSteps, TrainKeepMasksAndConvertExactly) {
  for (const graph::Graph& graph : {testing::tiny_convnet(6), testing::tiny_resnet(7), testing::tiny_mlp(8)}) {
    SCOPED_TRACE(graph.name);
    Model model(graph);
    const testing::Labelled data = testing::synthetic_data(graph, 48, 9);
    const std::vector<std::string> masked = testing::mask_two_four(model);
    prepare_qat(model, learned());
    const double first = testing::train_steps(model, data, 1);
    std::map<std::string, torch::Tensor> scales;
    for (const auto& weight : model.weights()) {
      scales[weight->fqn()] = weight->fake_quantizer()->scale().clone();
    }
    EXPECT_LT(testing::train_steps(model, data, 12), first);
    for (const auto& weight : model.weights()) {
      EXPECT_FALSE(torch::equal(weight->fake_quantizer()->scale(), scales.at(weight->fqn()))) << weight->fqn();
      if (weight->mask().defined()) {
        const torch::Tensor gone = weight->mask() == 0;
        EXPECT_EQ(weight->used().detach().masked_select(gone).count_nonzero().item<std::int64_t>(), 0);
      }
    }
    finish_qat(model);
    const torch::Tensor inputs = testing::synthetic_data(graph, 3, 10).inputs;
    std::map<std::string, torch::Tensor> shown;
    static_cast<void>(exact_forward(
        model, inputs, [&](const std::string& value, const torch::Tensor& codes) { shown[value] = codes; }));
    graph::Graph converted = quantize_(model);
    const testing::ScalarRun run = testing::run_graph_in_scalars(converted, inputs);
    for (const auto& [name, value] : run.codes) {
      const torch::Tensor codes = shown.at(name).contiguous();
      for (std::size_t i = 0; i < value.q.size(); ++i) {
        ASSERT_EQ(codes.data_ptr<double>()[i], static_cast<double>(value.q[i])) << name << ", element " << i;
      }
    }
    static_cast<void>(sparsify_(converted, {}, masked));
  }
}

TEST(LearnedSteps, AResumedModelGoesOnInTheSameBits) {
  const graph::Graph graph = testing::tiny_convnet(11);
  const testing::Labelled data = testing::synthetic_data(graph, 24, 12);
  Model model(graph);
  (void)testing::mask_two_four(model);
  prepare_qat(model, learned());
  (void)testing::train_steps(model, data, 3);
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : model.state()) {
    state[name] = tensor.clone();
  }
  EXPECT_TRUE(state.contains("conv2.weight_fake_quant.step"));
  Model resumed(testing::tiny_convnet(13));
  prepare_qat(resumed, learned());
  resumed.load_state(state);
  (void)testing::train_steps(model, data, 3);
  (void)testing::train_steps(resumed, data, 3);
  testing::expect_same_state(resumed, model);
}

}  // namespace
}  // namespace pare::quant
