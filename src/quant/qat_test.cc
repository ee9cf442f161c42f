#include "pare/quant/qat.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "pare/base/testing.h"
#include "pare/format/two_four.h"
#include "pare/graph/builtin.h"
#include "pare/graph/weights.h"
#include "pare/quant/testing/networks.h"

namespace pare::quant {
namespace {

using testing::NetworkBuilder;
using train::Model;
using train::QatState;

std::vector<std::string> quantized_names(const Model& model) {
  std::vector<std::string> names;
  for (const auto& entry : model.activation_quantizers()) {
    names.push_back(entry.first);
  }
  return names;
}

std::vector<std::string> node_names(const Model& model) {
  std::vector<std::string> names;
  for (const graph::Node& node : model.graph().nodes) {
    names.push_back(node.name);
  }
  return names;
}

// Keeps each weight with the given probability.
torch::Tensor random_mask(const torch::Tensor& like, Rng& rng, float density) {
  torch::Tensor mask = torch::zeros(like.sizes());
  for (std::int64_t i = 0; i < mask.numel(); ++i) {
    mask.data_ptr<float>()[i] = rng.uniform() < density ? 1.0F : 0.0F;
  }
  return mask;
}

void expect_masked_weights_are_zero(const Model& model, const std::string& when) {
  for (const auto& pipeline : model.weights()) {
    if (!pipeline->mask().defined()) {
      continue;
    }
    const torch::Tensor masked = pipeline->mask() == 0;
    EXPECT_EQ((pipeline->used().detach().masked_select(masked) != 0).sum().item<std::int64_t>(), 0)
        << pipeline->fqn() << ' ' << when;
    if (pipeline->fake_quantizer() != nullptr) {
      EXPECT_EQ((pipeline->codes().masked_select(masked) != 0).sum().item<std::int64_t>(), 0)
          << pipeline->fqn() << ' ' << when;
    }
  }
}

TEST(PrepareQat, QuantizesWhatConvAndGemmReadAtItsProducer) {
  const std::vector<std::pair<graph::Graph, std::vector<std::string>>> cases = {
      {graph::builtin("convnet"), {"input", "relu1.out", "relu2.out", "relu3.out"}},
      {graph::builtin("mlp"), {"input", "relu1.out", "relu2.out"}},
      {testing::tiny_convnet(1), {"conv2.out", "input", "relu1.out", "relu3.out", "relu4.out"}}};
  for (const auto& [graph, expected] : cases) {
    Model model(graph);
    prepare_qat(model);
    EXPECT_EQ(quantized_names(model), expected) << graph.name;
    for (const auto& pipeline : model.weights()) {
      ASSERT_NE(pipeline->fake_quantizer(), nullptr) << pipeline->fqn();
      EXPECT_EQ(pipeline->fake_quantizer()->axis(), 0);
    }
    EXPECT_EQ(model.qat_state(), QatState::kPrepared);
  }
}

TEST(PrepareQat, QuantizersArePartOfTheState) {
  Model model(graph::builtin("convnet"));
  prepare_qat(model);
  const auto buffers = model.named_buffers();
  for (const std::string name : {"input_post_process.scale", "relu1.activation_post_process.min_val",
                                 "relu3.activation_post_process.observer_enabled", "conv1.weight_fake_quant.scale",
                                 "fc2.weight_fake_quant.fake_quant_enabled"}) {
    EXPECT_TRUE(buffers.contains(name)) << name;
  }
}

TEST(PrepareQat, FoldsBatchNormAndKeepsMasks) {
  Model model(graph::builtin("convnet", 0, 1, 8, 8));
  const std::vector<std::string> masked = testing::mask_two_four(model);
  const torch::Tensor mask = model.weight("conv2.weight").mask().clone();
  prepare_qat(model);
  EXPECT_EQ(node_names(model), (std::vector<std::string>{"conv1", "relu1", "pool1", "conv2", "relu2", "pool2",
                                                         "flatten", "fc1", "relu3", "fc2"}));
  EXPECT_TRUE(torch::equal(model.weight("conv2.weight").mask(), mask));
  expect_masked_weights_are_zero(model, "after folding");
}

TEST(PrepareQat, RefusesWhatCannotBePreparedAndLeavesTheModelAlone) {
  Model model(graph::builtin("convnet", 0, 1, 8, 8));
  const std::vector<std::string> nodes = node_names(model);
  EXPECT_PARE_ERROR(prepare_qat(model, {.fold_batch_norm = false}), kInvalidArgument, "fold_batch_norm");
  for (const double constant : {0.0, -0.1, 1.5, std::nan("")}) {
    EXPECT_PARE_ERROR(prepare_qat(model, {.observer = {.averaging_constant = constant}}), kInvalidArgument,
                      "averaging_constant");
  }
  EXPECT_EQ(node_names(model), nodes);
  EXPECT_EQ(model.qat_state(), QatState::kNone);
  prepare_qat(model);
  EXPECT_PARE_ERROR(prepare_qat(model), kState, "prepared already");
}

TEST(PrepareQat, NetworksWithoutAnIntegerFormAreRefusedBeforeTraining) {
  struct Case {
    graph::Graph graph;
    std::string node;
    std::string problem;
  };
  std::vector<Case> cases;
  cases.push_back({NetworkBuilder(1, {1, 4, 4})
                       .conv("conv1", {4, 1, 3, 3})
                       .pool("pool1", {2, 2}, {2, 2})
                       .relu("relu1")
                       .flatten("flatten")
                       .gemm("fc1", {3, 16})
                       .finish(),
                   "relu1", "follow"});
  cases.push_back(
      {NetworkBuilder(1, {1, 4, 4}).relu("relu1").flatten("flatten").gemm("fc1", {3, 16}).finish(), "relu1", "follow"});
  cases.push_back(
      {NetworkBuilder(1, {1, 4, 4}).conv("conv1", {4, 1, 3, 3}).relu("relu1").finish(), "conv1", "end in a Gemm"});
  cases.push_back({NetworkBuilder(1, {1, 4, 4}).conv("conv1", {4, 1, 3, 3}).flatten("flatten").finish(), "flatten",
                   "end in a Gemm"});
  cases.push_back({NetworkBuilder(1, {1, 4, 4}).flatten("quantize_input").gemm("fc1", {3, 16}).finish(),
                   "quantize_input", "names"});
  cases.push_back(
      {NetworkBuilder(1, {1, 200, 200}).flatten("flatten").gemm("fc1", {2, 40000}).finish(), "fc1", "int32"});
  for (const Case& c : cases) {
    Model model(c.graph);
    EXPECT_PARE_ERROR(prepare_qat(model), kUnsupported, c.problem);
    EXPECT_PARE_ERROR(prepare_qat(model), kUnsupported, c.node);
    EXPECT_EQ(model.qat_state(), QatState::kNone);
    EXPECT_TRUE(model.activation_quantizers().empty());
  }
}

TEST(PrepareQat, AReluWhoseInputOthersReadIsRefused) {
  graph::Graph graph =
      NetworkBuilder(1, {1, 4, 4}).flatten("flatten").gemm("fc1", {8, 16}).relu("relu1").gemm("fc2", {3, 8}).finish();
  graph.nodes.back().inputs[0] = "fc1.out";
  graph.nodes.insert(
      graph.nodes.end() - 1,
      graph::Node{
          .name = "flatten2", .op_type = "Flatten", .inputs = {"relu1.out"}, .output = "dead", .attributes = {}});
  EXPECT_PARE_ERROR(quantized_values(graph), kUnsupported, "read by others");
}

TEST(QuantizedValues, NamesTheLayersThatReadThem) {
  Model model(testing::tiny_convnet(1));
  prepare_qat(model);
  EXPECT_EQ(quantized_values(model.graph()), (std::map<std::string, std::string>{{"input", "conv1"},
                                                                                 {"relu1.out", "conv2"},
                                                                                 {"conv2.out", "conv3"},
                                                                                 {"relu3.out", "fc1"},
                                                                                 {"relu4.out", "fc2"}}));
}

TEST(FinishQat, WantsPreparationAndData) {
  Model model(testing::tiny_mlp(1));
  EXPECT_PARE_ERROR(freeze_observers(model), kState, "prepare_qat");
  EXPECT_PARE_ERROR(finish_qat(model), kState, "prepare_qat");
  prepare_qat(model);
  EXPECT_PARE_ERROR(finish_qat(model), kState, "seen no data");
  (void)testing::train_steps(model, testing::synthetic_data(model.graph(), 8, 1), 1);
  finish_qat(model);
  EXPECT_EQ(model.qat_state(), QatState::kFinished);
  finish_qat(model);
  EXPECT_PARE_ERROR(prepare_qat(model), kState, "prepared already");
}

TEST(FreezeObservers, RangesStandStillAndWeightScalesGoOn) {
  Model model(testing::tiny_convnet(2));
  prepare_qat(model);
  (void)testing::train_steps(model, testing::synthetic_data(model.graph(), 16, 1), 2);
  freeze_observers(model);
  std::map<std::string, torch::Tensor> scales;
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    scales[value] = quantizer->scale().clone();
  }
  const torch::Tensor weight_scale = model.weight("fc2.weight").fake_quantizer()->scale().clone();
  (void)testing::train_steps(model, testing::synthetic_data(model.graph(), 16, 2), 3);
  for (const auto& [value, quantizer] : model.activation_quantizers()) {
    EXPECT_TRUE(torch::equal(quantizer->scale(), scales[value])) << value;
  }
  EXPECT_FALSE(torch::equal(model.weight("fc2.weight").fake_quantizer()->scale(), weight_scale));
}

TEST(Qat, EvaluationBeforeAnyTrainingStepIsRefused) {
  Model model(testing::tiny_mlp(1));
  prepare_qat(model);
  model.eval();
  EXPECT_PARE_ERROR(model.forward(torch::zeros({1, 2, 3, 5})), kState, "seen no data");
}

// Contract 1: whatever the mask, a masked weight is 0 where it is used, at every moment of QAT.
TEST(Qat, MaskedWeightsStayZeroThroughEverything) {
  const std::vector<train::OptimizerOptions> optimizers = {
      {.kind = train::OptimizerKind::kSgd, .lr = 0.05, .weight_decay = 1e-2, .momentum = 0.9, .nesterov = true},
      {.kind = train::OptimizerKind::kAdam, .lr = 1e-2, .weight_decay = 1e-2},
      {.kind = train::OptimizerKind::kAdamW, .lr = 1e-2, .weight_decay = 5e-2}};
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed, 0x3A5);
    const auto graph = seed % 2 == 0 ? testing::tiny_mlp(seed) : testing::tiny_convnet(seed);
    Model model(graph);
    const testing::Labelled data = testing::synthetic_data(graph, 24, seed);
    for (const auto& pipeline : model.weights()) {
      // From all masked to none.
      const float density = static_cast<float>(rng.below(5)) / 4.0F;
      model.set_mask(pipeline->fqn(), random_mask(pipeline->dense(), rng, density));
      if (rng.below(2) == 0) {
        pipeline->set_mask_gradient(train::MaskGradient::kMasked);
      }
      pipeline->set_sr_ste_decay(rng.below(2) == 0 ? 2e-4 : 0.0);
    }
    (void)testing::train_steps(model, data, 2);
    expect_masked_weights_are_zero(model, "before QAT");
    prepare_qat(model);
    expect_masked_weights_are_zero(model, "after preparation");
    for (const train::OptimizerOptions& options : optimizers) {
      for (int step = 0; step < 3; ++step) {
        (void)testing::train_steps(model, data, 1, options);
        expect_masked_weights_are_zero(model, "after a step");
      }
    }
    std::map<std::string, torch::Tensor> state;
    for (const auto& [name, tensor] : model.state()) {
      state[name] = tensor.clone();
    }
    Model reloaded(graph);
    prepare_qat(reloaded);
    reloaded.load_state(state);
    expect_masked_weights_are_zero(reloaded, "after a reload");
    model.eval();
    reloaded.eval();
    EXPECT_TRUE(torch::equal(model.forward(data.inputs), reloaded.forward(data.inputs)));
    finish_qat(model);
    expect_masked_weights_are_zero(model, "after QAT");
  }
}

// Training steps recompute scales, and move weights; a checkpoint between two of them must not show.
TEST(Qat, AResumedModelGoesOnInTheSameBits) {
  const auto graph = testing::tiny_convnet(3);
  const testing::Labelled data = testing::synthetic_data(graph, 24, 3);
  Model model(graph);
  (void)testing::mask_two_four(model);
  prepare_qat(model);
  (void)testing::train_steps(model, data, 3);
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : model.state()) {
    state[name] = tensor.clone();
  }
  Model resumed(graph);
  prepare_qat(resumed);
  resumed.load_state(state);
  const train::OptimizerOptions sgd{.kind = train::OptimizerKind::kSgd, .lr = 0.01};
  (void)testing::train_steps(model, data, 3, sgd);
  (void)testing::train_steps(resumed, data, 3, sgd);
  testing::expect_same_state(resumed, model);
}

TEST(Qat, EveryGroupObeysTwoFourAfterTraining) {
  Model model(testing::tiny_convnet(4));
  const testing::Labelled data = testing::synthetic_data(model.graph(), 32, 4);
  (void)testing::train_steps(model, data, 3);
  const std::vector<std::string> masked = testing::mask_two_four(model);
  ASSERT_EQ(masked, (std::vector<std::string>{"conv2.weight", "conv3.weight", "fc1.weight", "fc2.weight"}));
  prepare_qat(model);
  for (int step = 0; step < 10; ++step) {
    (void)testing::train_steps(model, data, 1);
    for (const std::string& name : masked) {
      const torch::Tensor codes = model.weight(name).codes().to(torch::kInt8).contiguous();
      const Shape shape = codes.sizes().vec();
      const std::span<const std::int8_t> flat(codes.data_ptr<std::int8_t>(), static_cast<std::size_t>(codes.numel()));
      const std::vector<std::int8_t> grouped = graph::to_group_order(flat, shape);
      EXPECT_EQ(format::find_two_four_violation(grouped, graph::two_four_layout(shape)).violations, 0)
          << name << " after step " << step;
      EXPECT_GT((codes != 0).sum().item<std::int64_t>(), 0);
    }
  }
}

TEST(Qat, TrainingStillLearns) {
  Model model(testing::tiny_convnet(5));
  const testing::Labelled data = testing::synthetic_data(model.graph(), 64, 5);
  (void)testing::mask_two_four(model);
  prepare_qat(model);
  const double first = testing::train_steps(model, data, 1);
  const double last = testing::train_steps(model, data, 120, {.lr = 1e-2});
  EXPECT_LT(last, 0.5 * first);
}

}  // namespace
}  // namespace pare::quant
