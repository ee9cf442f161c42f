#include "pare/quant/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "pare/base/testing.h"
#include "pare/format/affine.h"
#include "pare/graph/builtin.h"
#include "pare/graph/weights.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/deployed.h"
#include "pare/quant/testing/networks.h"
#include "pare/quant/testing/scalar_network.h"
#include "pare/runtime/session.h"

namespace pare::quant {
namespace {

using testing::NetworkBuilder;
using train::Model;

struct Trained {
  std::unique_ptr<Model> model;
  std::vector<std::string> masked;
  testing::Labelled data;
};

// Dense, then with 2:4 masks, then QAT: a few steps each.
Trained train_all_stages(const graph::Graph& graph, std::uint64_t seed, int steps = 4) {
  Trained trained{std::make_unique<Model>(graph), {}, testing::synthetic_data(graph, 48, seed)};
  Model& model = *trained.model;
  (void)testing::train_steps(model, trained.data, steps);
  trained.masked = testing::mask_two_four(model);
  (void)testing::train_steps(model, trained.data, steps);
  prepare_qat(model);
  (void)testing::train_steps(model, trained.data, steps);
  finish_qat(model);
  return trained;
}

graph::Graph converted_mlp() { return quantize_(*train_all_stages(testing::tiny_mlp(1), 1, 1).model); }

void set_code(graph::Graph& graph, const std::string& name, std::vector<std::size_t> at, std::int8_t code) {
  graph::Initializer& weight = graph.initializers.at(name);
  const auto old = weight.data.as<std::int8_t>();
  std::vector<std::int8_t> codes(old.begin(), old.end());
  for (const std::size_t index : at) {
    codes.at(index) = code;
  }
  weight.data = graph::Buffer::copy_of(codes);
}

TEST(Quantize, GivesTheDocumentedGraph) {
  Trained trained = train_all_stages(graph::builtin("convnet", 1, 1, 8, 8, testing::kTinyClasses), 1, 1);
  const graph::Graph graph = quantize_(*trained.model);
  struct Expected {
    std::string name, op_type, output;
    std::vector<std::string> inputs;
  };
  const std::vector<Expected> expected = {
      {"quantize_input", "QuantizeLinear", "quantize_input.out", {"input"}},
      {"conv1", "QLinearConv", "relu1.out", {"quantize_input.out", "conv1.weight", "conv1.bias"}},
      {"pool1", "MaxPool", "pool1.out", {"relu1.out"}},
      {"conv2", "QLinearConv", "relu2.out", {"pool1.out", "conv2.weight", "conv2.bias"}},
      {"pool2", "MaxPool", "pool2.out", {"relu2.out"}},
      {"flatten", "Flatten", "flatten.out", {"pool2.out"}},
      {"fc1", "QGemm", "relu3.out", {"flatten.out", "fc1.weight", "fc1.bias"}},
      {"fc2", "QGemm", "logits", {"relu3.out", "fc2.weight", "fc2.bias"}}};
  ASSERT_EQ(graph.nodes.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(graph.nodes[i].name, expected[i].name);
    EXPECT_EQ(graph.nodes[i].op_type, expected[i].op_type);
    EXPECT_EQ(graph.nodes[i].output, expected[i].output);
    EXPECT_EQ(graph.nodes[i].inputs, expected[i].inputs);
    const bool relu = expected[i].output.starts_with("relu");
    EXPECT_EQ(graph.nodes[i].string_attribute("fused_activation", ""), relu ? "Relu" : "");
  }
  EXPECT_EQ(graph.values.at("logits").dtype, DType::kF32);
  EXPECT_FALSE(graph.values.at("logits").quantization.has_value());
  EXPECT_EQ(graph.values.at("pool1.out").quantization, graph.values.at("relu1.out").quantization);
  const graph::Initializer& weight = graph.initializer("conv2.weight");
  EXPECT_EQ(weight.dtype, DType::kS8);
  EXPECT_EQ(weight.shape, (Shape{64, 32, 3, 3}));
  EXPECT_EQ(weight.encoding, graph::Encoding::kDense);
  EXPECT_EQ(weight.quantization->scales.size(), 64U);
  EXPECT_EQ(weight.quantization->axis, 0);
  EXPECT_EQ(graph.initializer("conv2.bias").dtype, DType::kS32);
}

TEST(Quantize, AMissingBiasBecomesZeros) {
  Trained trained = train_all_stages(testing::tiny_convnet(2), 2, 1);
  const graph::Graph graph = quantize_(*trained.model);
  const auto bias = graph.initializer("fc1.bias").data.as<std::int32_t>();
  EXPECT_EQ(std::vector<std::int32_t>(bias.begin(), bias.end()), std::vector<std::int32_t>(13, 0));
}

TEST(Quantize, GraphAndExactForwardAgreeAtEveryValueBeforeAndAfterPacking) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const graph::Graph& source :
         {testing::tiny_convnet(seed), testing::tiny_mlp(seed), testing::tiny_resnet(seed),
          graph::builtin("convnet", seed, 1, 8, 8, testing::kTinyClasses),
          NetworkBuilder(seed, {1, 3, 3}).flatten("flatten").gemm("fc1", {5, 9}).relu("relu1").finish()}) {
      Trained trained = train_all_stages(source, seed, 2);
      const torch::Tensor inputs = 2.0 * testing::synthetic_data(source, 3, seed + 50).inputs;
      std::map<std::string, torch::Tensor> shown;
      const torch::Tensor logits = exact_forward(
          *trained.model, inputs, [&](const std::string& value, const torch::Tensor& codes) { shown[value] = codes; });

      graph::Graph graph = quantize_(*trained.model);
      for (const bool packed : {false, true}) {
        if (packed) {
          (void)sparsify_(graph, {}, trained.masked);
        }
        const testing::ScalarRun run = testing::run_graph_in_scalars(graph, inputs);
        EXPECT_EQ(shown.size(), run.codes.size() + 1);
        for (const auto& [name, value] : run.codes) {
          ASSERT_TRUE(shown.contains(name)) << name;
          const torch::Tensor codes = shown.at(name).contiguous();
          ASSERT_EQ(codes.sizes().vec(), value.shape) << name;
          for (std::size_t i = 0; i < value.q.size(); ++i) {
            ASSERT_EQ(codes.data_ptr<double>()[i], static_cast<double>(value.q[i])) << name << ", element " << i;
          }
        }
        ASSERT_EQ(logits.numel(), static_cast<std::int64_t>(run.logits.size()));
        EXPECT_EQ(
            std::memcmp(logits.contiguous().data_ptr<float>(), run.logits.data(), run.logits.size() * sizeof(float)),
            0);
      }
    }
  }
}

TEST(Quantize, SquashingMasksChangesNoByte) {
  Trained trained = train_all_stages(testing::tiny_convnet(3), 3, 2);
  const graph::Graph held = quantize_(*trained.model);
  for (const auto& pipeline : trained.model->weights()) {
    pipeline->squash();
  }
  const graph::Graph squashed = quantize_(*trained.model);
  for (const auto& [name, initializer] : held.initializers) {
    const auto expected = initializer.data.bytes();
    const auto found = squashed.initializer(name).data.bytes();
    EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end())) << name;
    EXPECT_EQ(squashed.initializer(name).quantization, initializer.quantization);
  }
  EXPECT_EQ(held.values, squashed.values);
}

TEST(Quantize, BeforeQatHasFinishedItSaysWhatToDo) {
  Model model(testing::tiny_mlp(4));
  EXPECT_PARE_ERROR(quantize_(model), kState, "call prepare_qat");
  prepare_qat(model);
  EXPECT_PARE_ERROR(quantize_(model), kState, "call finish_qat");
}

TEST(Quantize, FaultyNumbersAreErrorsThatNameTheLayer) {
  for (const float fault : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Trained trained = train_all_stages(testing::tiny_mlp(5), 5, 1);
    const torch::NoGradGuard no_gradient;
    trained.model->bias("fc2")[1] = fault;
    EXPECT_PARE_ERROR(quantize_(*trained.model), kNumeric, "fc2");
    trained.model->bias("fc2")[1] = 0.0F;
    torch::Tensor weight = trained.model->weight("fc1.weight").dense().detach();
    weight.masked_fill_(trained.model->weight("fc1.weight").mask() == 1, fault);
    EXPECT_PARE_ERROR(quantize_(*trained.model), kNumeric, "fc1.weight");
  }
}

TEST(Sparsify, PacksMaskedWeightsAndSaysWhyOthersStayDense) {
  Trained trained = train_all_stages(testing::tiny_convnet(6), 6, 1);
  graph::Graph graph = quantize_(*trained.model);
  const graph::Graph dense = graph;
  const std::vector<LayerDecision> decisions = sparsify_(graph, {}, trained.masked);
  ASSERT_EQ(decisions.size(), 5U);
  EXPECT_EQ(decisions[0].weight, "conv1.weight");
  EXPECT_EQ(decisions[0].pattern, "dense");
  EXPECT_EQ(decisions[0].note, "1 input channel: too few for groups of 4");
  for (std::size_t i = 1; i < decisions.size(); ++i) {
    EXPECT_EQ(decisions[i].pattern, "2:4") << decisions[i].weight;
    const graph::Initializer& packed = graph.initializer(decisions[i].weight);
    EXPECT_EQ(packed.encoding, graph::Encoding::kTwoFour);
    const graph::Initializer decoded = graph::decode_dense(packed);
    const auto codes = decoded.data.bytes();
    const auto expected = dense.initializer(decisions[i].weight).data.bytes();
    EXPECT_TRUE(std::equal(codes.begin(), codes.end(), expected.begin(), expected.end())) << decisions[i].weight;
  }
  // Again: nothing left to do.
  const std::vector<LayerDecision> again = sparsify_(graph, {}, trained.masked);
  for (std::size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(again[i].pattern, decisions[i].pattern);
  }
}

TEST(Sparsify, ABrokenPatternIsAnErrorThatNamesTheFirstGroup) {
  graph::Graph graph = converted_mlp();
  // fc1: 17 x 30. Row 3, inputs 28 and 29 are the tail group; row 2, inputs 8 to 11 get three weights.
  set_code(graph, "fc1.weight", {2 * 30 + 8, 2 * 30 + 9, 2 * 30 + 11}, 5);
  EXPECT_PARE_ERROR(sparsify_(graph, {}, {"fc1.weight"}), kVerification,
                    "weight 'fc1.weight': 1 group breaks 2:4, the first in output channel 2, input channels 8 to 11");
  EXPECT_EQ(graph.initializer("fc2.weight").encoding, graph::Encoding::kDense) << "all or nothing";
  const std::vector<LayerDecision> decisions = sparsify_(graph, {}, {"fc2.weight"});
  EXPECT_EQ(decisions[0].pattern, "dense");
  EXPECT_EQ(decisions[0].note, "does not obey 2:4");
  EXPECT_EQ(decisions[1].pattern, "2:4");
}

TEST(Sparsify, ABrokenConvolutionNamesTheKernelPosition) {
  Trained trained = train_all_stages(testing::tiny_convnet(7), 7, 1);
  graph::Graph graph = quantize_(*trained.model);
  // conv2: [7, 10, 3, 2]; output channel 4, kernel position (2, 1), input channels 4, 5, 6.
  const auto at = [](std::size_t channel) { return ((4 * 10 + channel) * 3 + 2) * 2 + 1; };
  set_code(graph, "conv2.weight", {at(4), at(5), at(6)}, -7);
  EXPECT_PARE_ERROR(sparsify_(graph, {}, trained.masked), kVerification,
                    "output channel 4, input channels 4 to 7 at kernel position (2, 1)");
}

// fc1 [17, 30] keeps inputs 0 and 1 of every four in its first 16 rows, 2 and 3 in its last.
graph::Graph mlp_with_shared_masks() {
  graph::Graph graph = converted_mlp();
  std::vector<std::size_t> masked;
  for (std::size_t row = 0; row < 17; ++row) {
    for (std::size_t col = 0; col < 30; ++col) {
      if ((col % 4 < 2) == (row == 16)) {
        masked.push_back(row * 30 + col);
      }
    }
  }
  set_code(graph, "fc1.weight", masked, 0);
  return graph;
}

TEST(Sparsify, PacksMasksThatOutputsShare) {
  graph::Graph graph = mlp_with_shared_masks();
  const graph::Initializer dense = graph.initializer("fc1.weight");
  const std::vector<LayerDecision> decisions = sparsify_(graph, {.pattern = "16:2:4"}, {"fc1.weight"});
  EXPECT_EQ(decisions[0].pattern, "16:2:4");
  EXPECT_EQ(decisions[1].pattern, "dense");
  EXPECT_EQ(decisions[1].note, "does not obey 16:2:4");
  const graph::Initializer& packed = graph.initializer("fc1.weight");
  EXPECT_EQ(packed.vnm, (format::VnmPattern{16, 2, 4}));
  EXPECT_EQ(packed.quantization, dense.quantization);
  const graph::Initializer decoded = graph::decode_dense(packed);
  const auto codes = decoded.data.bytes();
  const auto expected = dense.data.bytes();
  EXPECT_TRUE(std::equal(codes.begin(), codes.end(), expected.begin(), expected.end()));
  // A call for another pattern packs what is left and leaves this.
  const std::vector<LayerDecision> then = sparsify_(graph, {.pattern = "2:4"}, {"fc2.weight"});
  EXPECT_EQ(then[0].pattern, "16:2:4");
  EXPECT_EQ(then[1].pattern, "2:4");
}

TEST(Sparsify, AMaskThatIsNotSharedIsAnErrorThatNamesTheBlock) {
  graph::Graph graph = mlp_with_shared_masks();
  set_code(graph, "fc1.weight", {5 * 30 + 14}, 9);
  EXPECT_PARE_ERROR(sparsify_(graph, {.pattern = "16:2:4"}, {"fc1.weight"}), kVerification,
                    "1 group breaks 16:2:4, the first in output channels 0 to 15, input channels 12 to 15");
}

TEST(Sparsify, TheFilterLeavesUnexpectedWeightsDense) {
  graph::Graph graph = converted_mlp();
  const auto decisions = sparsify_(graph, {}, {"fc1.weight"}, [](const std::string&) { return false; });
  EXPECT_EQ(decisions[0].pattern, "2:4");
  EXPECT_EQ(decisions[1].pattern, "dense");
  EXPECT_EQ(decisions[1].note, "left dense by configuration");
}

TEST(Sparsify, StoresTheBlocksThatAreNotZeroWhereThatIsSmaller) {
  graph::Graph graph = converted_mlp();  // fc1 17 x 30, fc2 5 x 17
  std::vector<std::size_t> masked;
  for (std::size_t i = 0; i < 17 * 30; ++i) {
    if ((i / 30 / 4 + i % 30) % 3 != 0) {  // two of three blocks of 4x1
      masked.push_back(i);
    }
  }
  set_code(graph, "fc1.weight", masked, 0);
  const graph::Initializer dense = graph.initializer("fc1.weight");
  const auto decisions = sparsify_(graph, BlockSparseWeightConfig(4, 1), {"fc1.weight"});
  EXPECT_EQ(decisions[0].pattern, "4x1");
  EXPECT_EQ(decisions[1].pattern, "dense");
  EXPECT_EQ(decisions[1].note, "blocks of 4x1 would save no bytes");
  const graph::Initializer& packed = graph.initializer("fc1.weight");
  EXPECT_EQ(packed.block, (format::BlockPattern{4, 1}));
  EXPECT_LT(packed.stored_bytes(), dense.stored_bytes());
  EXPECT_EQ(graph::codes_in_group_order(packed), graph::codes_in_group_order(dense));
  for (const std::array<std::int64_t, 2> wrong : {std::array<std::int64_t, 2>{0, 4}, {1, 1}, {1, 257}}) {
    EXPECT_PARE_ERROR(sparsify_(graph, BlockSparseWeightConfig(wrong[0], wrong[1]), {}), kInvalidArgument, "1 to 256");
  }
}

TEST(Sparsify, BadRequestsAreErrors) {
  graph::Graph graph = converted_mlp();
  EXPECT_PARE_ERROR(sparsify_(graph, {.pattern = "1:4"}, {}), kInvalidArgument, "1:4");
  EXPECT_PARE_ERROR(sparsify_(graph, {}, {"fc1.wieght"}), kNotFound, "did you mean 'fc1.weight'");
  graph::Graph floats = testing::tiny_mlp(1);
  EXPECT_PARE_ERROR(sparsify_(floats, {}, {}), kState, "quantize_");
}

TEST(MakeArtifact, PromisesHoldWhenVerifiedFromTheFile) {
  Trained trained = train_all_stages(testing::tiny_convnet(8), 8, 1);
  graph::Graph graph = quantize_(*trained.model);
  const std::vector<LayerDecision> decisions = sparsify_(graph, {}, trained.masked);
  const graph::Artifact artifact = make_artifact(graph, decisions, {.mean = {0.25F}, .std = {0.5F}},
                                                 {"a", "b", "c", "d", "e"}, {{"recipe", "test"}});
  ASSERT_EQ(artifact.promises.size(), 5U);
  EXPECT_EQ(artifact.promises[0].note, decisions[0].note);
  for (const graph::LayerPromise& promise : artifact.promises) {
    const torch::Tensor codes = trained.model->weight(promise.weight).codes();
    EXPECT_EQ(promise.zeros, (codes == 0).sum().item<std::int64_t>()) << promise.weight;
    EXPECT_EQ(promise.pattern, promise.weight == "conv1.weight" ? "dense" : "2:4");
  }
  const pare::testing::TempDir folder;
  graph::write_artifact(folder / "model.pare", artifact);
  const graph::VerifyReport report = graph::verify_artifact(folder / "model.pare");
  EXPECT_TRUE(report.ok()) << (report.findings.empty() ? "" : report.findings[0].problem);
  EXPECT_EQ(graph::read_artifact(folder / "model.pare").provenance.at("recipe"), "test");
}

// Contract 6: what QAT's exact evaluation computes and what the runtime computes from the file are the same integers.
TEST(TrainToDeploy, TheRuntimeGivesTheSameIntegersAndLogits) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const graph::Graph& source : {testing::tiny_convnet(seed), testing::tiny_mlp(seed),
                                       graph::builtin("convnet", seed, 1, 12, 12, testing::kTinyClasses)}) {
      Trained trained = train_all_stages(source, seed, 8);
      graph::Graph graph = quantize_(*trained.model);
      const std::vector<LayerDecision> decisions = sparsify_(graph, {}, trained.masked);
      const std::int64_t channels = source.values.at("input").shape[1];
      const std::vector<float> mean(static_cast<std::size_t>(channels), testing::kPixelMean);
      const std::vector<float> std(static_cast<std::size_t>(channels), testing::kPixelStd);
      const pare::testing::TempDir folder;
      graph::write_artifact(folder / "model.pare",
                            make_artifact(graph, decisions, {.mean = mean, .std = std}, {"a", "b", "c", "d", "e"}));
      runtime::Session session = runtime::Session::load(folder / "model.pare", {.threads = 2, .max_batch = 64});

      const testing::Images images = testing::random_images(source.values.at("input").shape, 37, seed);
      std::map<std::string, torch::Tensor> shown;
      const torch::Tensor expected = exact_forward(
          *trained.model, images.normalized,
          [&](const std::string& value, const torch::Tensor& codes) { shown[value] = codes.contiguous(); });
      testing::expect_runtime_gives(session, images, shown, expected);
    }
  }
}

}  // namespace
}  // namespace pare::quant
