#include "pare/train/distillation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "pare/base/testing.h"
#include "pare/graph/builtin.h"

namespace pare::train {
namespace {

struct Pair {
  Model model{graph::builtin("convnet", 1, 1, 8, 8, 4)};
  Model teacher{graph::builtin("convnet", 2, 1, 8, 8, 4)};
  torch::Tensor inputs;
  torch::Tensor labels = torch::tensor({0, 3, 1}, torch::kInt64);
  Pair() {
    torch::manual_seed(5);
    inputs = torch::randn({3, 1, 8, 8});
    // Batch statistics would make every forward pass in training mode another function.
    model.eval();
    teacher.eval();
  }
};

double loss_of(Pair& pair, const DistillationOptions& options) {
  return distillation_loss(pair.model, pair.teacher, pair.inputs, pair.labels, options).item<double>();
}

// By the formulas of the header, in double, element by element.
TEST(Distillation, IsTheSumThatItsFormulaSays) {
  Pair pair;
  const torch::NoGradGuard no_gradient;
  const torch::Tensor ours = pair.model.forward(pair.inputs).to(torch::kFloat64);
  const torch::Tensor theirs = pair.teacher.forward(pair.inputs).to(torch::kFloat64);
  const auto probabilities = [](const torch::Tensor& logits, std::int64_t row, double t) {
    std::vector<double> p;
    double sum = 0.0;
    for (std::int64_t c = 0; c < 4; ++c) {
      p.push_back(std::exp(logits[row][c].item<double>() / t));
      sum += p.back();
    }
    for (double& value : p) value /= sum;
    return p;
  };
  for (const double t : {1.0, 4.0}) {
    for (const double weight : {0.0, 0.3, 1.0}) {
      double expected = 0.0;
      for (std::int64_t row = 0; row < 3; ++row) {
        const auto p = probabilities(theirs, row, t);
        const auto q = probabilities(ours, row, t);
        double divergence = 0.0;
        for (std::size_t c = 0; c < 4; ++c) divergence += p[c] * std::log(p[c] / q[c]);
        const auto label = static_cast<std::size_t>(pair.labels[row].item<std::int64_t>());
        expected +=
            (weight * t * t * divergence - (1.0 - weight) * std::log(probabilities(ours, row, 1.0)[label])) / 3.0;
      }
      // Float32 sums of a dozen terms of order 1.
      EXPECT_NEAR(loss_of(pair, {.temperature = t, .weight = weight, .layers = {}}), expected, 1e-5)
          << t << " " << weight;
    }
  }
}

TEST(Distillation, ComparesLayersAsWell) {
  Pair pair;
  const torch::NoGradGuard no_gradient;
  std::vector<torch::Tensor> ours, theirs;
  (void)pair.model.forward(pair.inputs, {"relu2", "fc1"}, ours);
  (void)pair.teacher.forward(pair.inputs, {"relu2", "fc1"}, theirs);
  ASSERT_EQ(ours.size(), 2U);
  const double layers =
      (ours[0] - theirs[0]).square().mean().item<double>() + (ours[1] - theirs[1]).square().mean().item<double>();
  ASSERT_GT(layers, 1e-3);
  const double without = loss_of(pair, {.layers = {}});
  EXPECT_NEAR(loss_of(pair, {.layers = {"relu2", "fc1"}, .layers_weight = 0.5}), without + 0.5 * layers, 1e-5);
}

TEST(Distillation, AskingForOutputsChangesNone) {
  Pair pair;
  const torch::NoGradGuard no_gradient;
  std::vector<torch::Tensor> outputs;
  const torch::Tensor plain = pair.model.forward(pair.inputs);
  EXPECT_TRUE(torch::equal(pair.model.forward(pair.inputs, {"conv1", "bn1", "relu1"}, outputs), plain));
  // Not what a ReLU in place would have left there.
  EXPECT_LT(outputs[1].min().item<double>(), 0.0);
  EXPECT_TRUE(torch::equal(torch::relu(outputs[1]), outputs[2]));
}

TEST(Distillation, OnlyTheModelLearns) {
  Pair pair;
  pair.teacher.train();
  distillation_loss(pair.model, pair.teacher, pair.inputs, pair.labels, {.weight = 1.0, .layers = {"relu1"}})
      .backward();
  EXPECT_TRUE(pair.teacher.is_training()) << "its mode is restored";
  for (const auto& parameter : pair.teacher.parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
  EXPECT_GT(pair.model.weight("conv1.weight").dense().grad().abs().max().item<double>(), 0.0);
}

TEST(Distillation, ATeacherOfItsOwnKindTeachesNothingNew) {
  Pair pair;
  EXPECT_NEAR(distillation_loss(pair.model, pair.model, pair.inputs, pair.labels, {.weight = 1.0, .layers = {"fc1"}})
                  .item<double>(),
              0.0, 1e-6);
}

TEST(Distillation, RefusesWhatCannotBe) {
  Pair pair;
  Model other(graph::builtin("convnet", 3, 1, 8, 8, 5));
  EXPECT_PARE_ERROR(distillation_loss(pair.model, other, pair.inputs, pair.labels, {.layers = {}}), kInvalidArgument,
                    "same classes");
  EXPECT_PARE_ERROR(loss_of(pair, {.layers = {"fc7"}}), kNotFound, "fc");
  EXPECT_PARE_ERROR((DistillationOptions{.temperature = 0.0, .layers = {}}.validate(), 0), kInvalidArgument,
                    "temperature");
  EXPECT_PARE_ERROR((DistillationOptions{.weight = 1.5, .layers = {}}.validate(), 0), kInvalidArgument, "weight");
}

}  // namespace
}  // namespace pare::train
