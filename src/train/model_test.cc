#include "pare/train/model.h"

#include <gtest/gtest.h>

#include <limits>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/graph/builtin.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using testing::copy_of_state;
using testing::first_difference;
using testing::GridQuantizer;
using testing::half_mask;
using testing::random_images;
using testing::same_bits;
using testing::tiny_graph;

torch::Tensor parameter(const Model& model, const std::string& name) { return model.named_parameters()[name]; }
torch::Tensor buffer(const Model& model, const std::string& name) { return model.named_buffers()[name]; }

std::vector<std::string> names_of(const Model& model) {
  std::vector<std::string> names;
  for (const auto& entry : model.state()) {
    names.push_back(entry.first);
  }
  return names;
}

// The tiny network, written down by hand.
torch::Tensor tiny_forward(const Model& model, const torch::Tensor& images, torch::Tensor mean, torch::Tensor var,
                           bool training) {
  torch::Tensor x = torch::conv2d(images, parameter(model, "conv1.weight"), parameter(model, "conv1.bias"), 1, 1);
  if (training) {
    mean = x.mean({0, 2, 3});
    var = x.var({0, 2, 3}, /*unbiased=*/false);
  }
  const auto channels = [](const torch::Tensor& t) { return t.view({1, -1, 1, 1}); };
  x = (x - channels(mean)) / torch::sqrt(channels(var) + 1e-3) * channels(parameter(model, "bn1.weight")) +
      channels(parameter(model, "bn1.bias"));
  x = torch::clamp_min(x, 0.0);
  x = x.view({x.size(0), 5, 3, 2, 3, 2}).amax({3, 5}).reshape({x.size(0), 45});
  return torch::matmul(x, parameter(model, "fc1.weight").t()) + parameter(model, "fc1.bias");
}

TEST(Model, ForwardEqualsTheNetworkWrittenByHand) {
  for (const std::int64_t batch : {1, 2, 7}) {
    for (const bool training : {false, true}) {
      Model model(tiny_graph(4));
      model.train(training);
      const torch::Tensor images = random_images(batch, 9);
      const torch::Tensor mean = buffer(model, "bn1.running_mean").clone();
      const torch::Tensor var = buffer(model, "bn1.running_var").clone();
      const torch::Tensor expected = tiny_forward(model, images, mean, var, training);
      const torch::Tensor logits = model.forward(images);
      EXPECT_EQ(logits.sizes(), (std::vector<std::int64_t>{batch, 3}));
      // Sums of 45 products of size 1, after sums of 18.
      EXPECT_TRUE(torch::allclose(logits, expected, 1e-4, 1e-5)) << (logits - expected).abs().max();
    }
  }
}

TEST(Model, GradientsEqualThoseOfTheNetworkWrittenByHand) {
  Model model(tiny_graph(4));
  const torch::Tensor images = random_images(6, 10);
  const torch::Tensor factors = torch::randn({6, 3});
  const auto gradients = [&](const torch::Tensor& logits) {
    model.zero_grad();
    (logits * factors).sum().backward();
    std::map<std::string, torch::Tensor> result;
    for (const auto& item : model.named_parameters()) {
      result[item.key()] = item.value().grad().clone();
    }
    return result;
  };
  const auto ours = gradients(model.forward(images));
  const auto expected = gradients(tiny_forward(model, images, {}, {}, true));
  ASSERT_EQ(ours.size(), 6U);
  for (const auto& [name, gradient] : ours) {
    EXPECT_TRUE(torch::allclose(gradient, expected.at(name), 1e-3, 1e-4))
        << name << " " << (gradient - expected.at(name)).abs().max();
  }
}

TEST(Model, TrainingMovesRunningStatisticsByATenth) {
  Model model(tiny_graph(4));
  const torch::Tensor images = random_images(5, 3);
  const torch::Tensor mean = buffer(model, "bn1.running_mean").clone();
  const torch::Tensor x = torch::conv2d(images, parameter(model, "conv1.weight"), parameter(model, "conv1.bias"), 1, 1);
  model.forward(images);
  EXPECT_TRUE(torch::allclose(buffer(model, "bn1.running_mean"), 0.9 * mean + 0.1 * x.mean({0, 2, 3}), 1e-5, 1e-6));
  const torch::Tensor moved = buffer(model, "bn1.running_mean").clone();
  model.eval();
  model.forward(images);
  EXPECT_TRUE(same_bits(buffer(model, "bn1.running_mean"), moved)) << "evaluation moves nothing";
}

TEST(Model, WindowsWithUnevenPaddingStridesAndDilations) {
  using Ints = std::vector<std::int64_t>;
  graph::Graph graph = tiny_graph();
  graph.nodes[0].attributes["pads"] = Ints{0, 1, 2, 0};  // top, left, bottom, right
  graph.nodes[0].attributes["dilations"] = Ints{2, 1};
  graph.nodes[3].attributes["pads"] = Ints{1, 0, 1, 1};
  // Convolution: height 6 + 2 - 5 + 1 = 4, width 6 + 1 - 3 + 1 = 5. Pool: (4 + 2 - 2) / 2 + 1 = 3, (5 + 1 - 2) / 2 + 1
  // = 3.
  Model model(graph);
  model.eval();
  const torch::Tensor images = random_images(2);
  torch::Tensor x = torch::constant_pad_nd(images, {1, 0, 0, 2}, 0);
  x = torch::conv2d(x, parameter(model, "conv1.weight"), parameter(model, "conv1.bias"), Ints{1, 1}, Ints{0, 0},
                    Ints{2, 1});
  x = torch::batch_norm(x, parameter(model, "bn1.weight"), parameter(model, "bn1.bias"),
                        buffer(model, "bn1.running_mean"), buffer(model, "bn1.running_var"), false, 0.1, 1e-3, false);
  // After a Relu, padding with 0 is padding with minus infinity.
  x = torch::max_pool2d(torch::constant_pad_nd(torch::relu(x), {0, 1, 1, 1}, 0), 2, 2).flatten(1);
  const torch::Tensor expected = torch::linear(x, parameter(model, "fc1.weight"), parameter(model, "fc1.bias"));
  EXPECT_TRUE(torch::allclose(model.forward(images), expected, 1e-5, 1e-5));
}

TEST(Model, PaddingNeverWinsAMaxPool) {
  graph::Graph graph = tiny_graph();
  graph.nodes.erase(graph.nodes.begin() + 2);  // no Relu: what is pooled may be negative
  graph.nodes[2].inputs[0] = "bn1.out";
  graph.values.erase("relu1.out");
  graph.nodes[2].attributes["pads"] = std::vector<std::int64_t>{1, 0, 0, 1};
  graph.nodes[2].attributes["kernel_shape"] = std::vector<std::int64_t>{3, 3};
  graph.initializers["bn1.bias"] = graph::Initializer::f32({5}, std::vector<float>(5, -100.0F));
  Model model(graph);
  model.eval();
  class Watch : public GridQuantizer {
   public:
    torch::Tensor forward(const torch::Tensor& x) override {
      largest = x.max().item<float>();
      return x;
    }
    float largest = 0.0F;
  };
  const auto watch = std::make_shared<Watch>();
  model.set_activation_quantizer("pool1.out", watch);
  model.forward(random_images(2));
  EXPECT_LT(watch->largest, -50.0F);
}

TEST(Model, InputsOfAnotherShapeOrTypeAreRefused) {
  Model model(tiny_graph());
  EXPECT_PARE_ERROR(model.forward(torch::zeros({0, 2, 6, 6})), kInvalidArgument, "[0, 2, 6, 6]");
  EXPECT_PARE_ERROR(model.forward(torch::zeros({1, 2, 6, 5})), kInvalidArgument, "[1, 2, 6, 5]");
  EXPECT_PARE_ERROR(model.forward(torch::zeros({2, 6, 6})), kInvalidArgument, "[2, 6, 6]");
  EXPECT_PARE_ERROR(model.forward(torch::zeros({1, 2, 6, 6}, torch::kFloat64)), kInvalidArgument, "");
  EXPECT_PARE_ERROR(model.forward(torch::Tensor()), kInvalidArgument, "none");
}

TEST(Model, ParametersAndBuffersCarryTheGraphsNames) {
  Model model(tiny_graph());
  model.set_mask("fc1.weight", torch::ones({3, 45}));
  model.set_weight_quantizer("fc1.weight", std::make_shared<GridQuantizer>());
  model.set_activation_quantizer("relu1.out", std::make_shared<GridQuantizer>());
  model.set_activation_quantizer("input", std::make_shared<GridQuantizer>());
  const std::vector<std::string> expected = {"conv1.weight",
                                             "conv1.bias",
                                             "bn1.weight",
                                             "bn1.bias",
                                             "fc1.weight",
                                             "fc1.bias",
                                             "qat_state",
                                             "conv1.weight_mask_gradient",
                                             "bn1.running_mean",
                                             "bn1.running_var",
                                             "relu1.activation_post_process.calls",
                                             "fc1.weight_mask_gradient",
                                             "fc1.weight_mask",
                                             "fc1.weight_fake_quant.calls",
                                             "input_post_process.calls"};
  EXPECT_EQ(names_of(model), expected);
}

TEST(Model, DotsInNamesNestModules) {
  graph::Graph graph = tiny_graph();
  graph.nodes[0].name = "features.0.conv";
  graph.nodes[1].name = "features.0";  // a layer that holds another
  Model model(graph);
  const auto names = names_of(model);
  for (const char* name : {"features.0.conv.weight", "features.0.weight", "features.0.running_var"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  model.set_mask("features.0.conv.weight", half_mask(model.weight("features.0.conv.weight").dense()));
  model.set_activation_quantizer("bn1.out", std::make_shared<GridQuantizer>());
  EXPECT_EQ(names_of(model).size(), names.size() + 2);
  Model plain(tiny_graph());
  plain.set_mask("conv1.weight", half_mask(plain.weight("conv1.weight").dense()));
  plain.set_activation_quantizer("bn1.out", std::make_shared<GridQuantizer>());
  const torch::Tensor images = random_images(3);
  EXPECT_TRUE(same_bits(model.forward(images), plain.forward(images)));
}

TEST(Model, InitializersAreNamedAfterTheirNodes) {
  graph::Graph graph = tiny_graph();
  graph.initializers["onnx::Conv_12"] = graph.initializers.at("conv1.weight");
  graph.initializers.erase("conv1.weight");
  graph.nodes[0].inputs[1] = "onnx::Conv_12";
  Model model(graph);
  EXPECT_EQ(model.weights().front()->fqn(), "conv1.weight");
  EXPECT_TRUE(model.to_graph(Model::Weights::kDense).initializers.contains("conv1.weight"));
  EXPECT_TRUE(same_bits(model.forward(random_images(2)), Model(tiny_graph()).forward(random_images(2))));
}

TEST(Model, GraphsThatCannotBeTrainedAreRefused) {
  graph::Graph reserved = tiny_graph();
  reserved.nodes[0].name = "weight_fake_quant";
  EXPECT_PARE_ERROR(Model(reserved), kUnsupported, "weight_fake_quant");
  graph::Graph nameless = tiny_graph();
  nameless.nodes[0].name = "a..b";
  EXPECT_PARE_ERROR(Model(nameless), kUnsupported, "a..b");
  graph::Graph unknown = tiny_graph();
  unknown.nodes[2].op_type = "Softplus";
  EXPECT_PARE_ERROR(Model(unknown), kUnsupported, "Softplus");
  EXPECT_PARE_ERROR(Model(graph::Graph()), kCorruptData, "");
}

TEST(Model, UnknownNamesComeWithTheNearest) {
  Model model(tiny_graph());
  EXPECT_PARE_ERROR(model.weight("conv1.wieght"), kNotFound, "conv1.weight");
  EXPECT_PARE_ERROR(model.weights_matching("fc*.weights"), kNotFound, "fc1.weight");
  EXPECT_PARE_ERROR(model.bias("fcl"), kNotFound, "fc1");
  EXPECT_PARE_ERROR(model.set_activation_quantizer("relu.out", std::make_shared<GridQuantizer>()), kNotFound,
                    "relu1.out");
  EXPECT_PARE_ERROR(model.set_mask("fc2.weight", torch::ones({1})), kNotFound, "fc1.weight");
}

TEST(Model, WeightsAreFoundByNameAndByGlob) {
  Model model(tiny_graph());
  EXPECT_EQ(model.weights().size(), 2U);
  EXPECT_EQ(model.weights_matching("*.weight").size(), 2U);
  ASSERT_EQ(model.weights_matching("fc?.weight").size(), 1U);
  EXPECT_EQ(model.weights_matching("fc1.weight").front()->fqn(), "fc1.weight");
  EXPECT_TRUE(model.bias("fc1").is_same(parameter(model, "fc1.bias")));
  EXPECT_FALSE(model.bias("relu1").defined());
}

TEST(Model, MasksAndQuantizersChangeWhatTheLayerComputesWith) {
  Model model(tiny_graph());
  model.eval();
  const torch::Tensor images = random_images(4);
  WeightPipeline& fc = model.weight("fc1.weight");
  const torch::Tensor mask = half_mask(fc.dense());
  fc.set_mask(mask);
  const auto relu = std::make_shared<GridQuantizer>();
  const auto input = std::make_shared<GridQuantizer>();
  model.set_activation_quantizer("relu1.out", relu);
  model.set_activation_quantizer("input", input);
  EXPECT_FALSE(relu->is_training()) << "a quantizer takes over the model's mode";

  torch::Tensor x = torch::round(images * 8) / 8;
  x = torch::conv2d(x, parameter(model, "conv1.weight"), parameter(model, "conv1.bias"), 1, 1);
  x = torch::batch_norm(x, parameter(model, "bn1.weight"), parameter(model, "bn1.bias"),
                        buffer(model, "bn1.running_mean"), buffer(model, "bn1.running_var"), false, 0.1, 1e-3, false);
  x = torch::max_pool2d(torch::round(torch::relu(x) * 8) / 8, 2, 2).flatten(1);
  const torch::Tensor expected = torch::linear(x, fc.dense() * mask, parameter(model, "fc1.bias"));
  EXPECT_TRUE(torch::equal(model.forward(images), expected));
  EXPECT_EQ(relu->calls(), 1);
  EXPECT_EQ(input->calls(), 1);
  EXPECT_EQ(model.activation_quantizers().size(), 2U);

  model.train();
  EXPECT_TRUE(relu->is_training() && input->is_training());
  model.set_activation_quantizer("relu1.out", nullptr);
  model.set_activation_quantizer("input", nullptr);
  model.forward(images);
  EXPECT_EQ(relu->calls() + input->calls(), 2) << "quantizers that were taken off are not called";
}

TEST(Model, AQuantizerBetweenBatchNormAndReluSeesWhatReluDoesNotOverwrite) {
  // Relu works in place where it may; a quantizer's output is not such a place.
  Model model(tiny_graph());
  Model plain(tiny_graph());
  class Identity : public GridQuantizer {
   public:
    torch::Tensor forward(const torch::Tensor& x) override {
      seen = x;
      return x;
    }
    torch::Tensor seen;
  };
  const auto quantizer = std::make_shared<Identity>();
  model.set_activation_quantizer("bn1.out", quantizer);
  const torch::Tensor images = random_images(2);
  EXPECT_TRUE(same_bits(model.forward(images), plain.forward(images)));
  EXPECT_LT(quantizer->seen.min().item<float>(), 0.0F);
}

TEST(Model, FoldingBatchNormKeepsTheFunctionAndTheZeros) {
  Model model(tiny_graph(6));
  model.eval();
  WeightPipeline& before = model.weight("conv1.weight");
  const torch::Tensor mask = half_mask(before.dense());
  before.set_mask(mask);
  before.set_mask_gradient(MaskGradient::kMasked);
  before.set_sr_ste_decay(1e-4);
  const torch::Tensor images = random_images(16);
  const torch::Tensor expected = model.forward(images);
  model.fold_batch_norm();
  const torch::Tensor folded = model.forward(images);

  WeightPipeline& weight = model.weight("conv1.weight");
  EXPECT_TRUE(same_bits(weight.mask(), mask));
  EXPECT_EQ(weight.mask_gradient(), MaskGradient::kMasked);
  EXPECT_EQ(weight.sr_ste_decay(), 1e-4);
  const torch::Tensor out = weight.used().masked_select(mask == 0);
  EXPECT_TRUE(same_bits(out, torch::zeros_like(out)));
  EXPECT_NE(weight.dense().masked_select(mask == 0).abs().sum().item<float>(), 0.0F)
      << "the dense weight is folded too";
  EXPECT_FALSE(model.is_training());
  for (const std::string& name : names_of(model)) {
    EXPECT_EQ(name.find("bn1"), std::string::npos) << name;
  }
  // A logit sums 45 products; each factor is a convolution of 18 products, rounded at most 22 times on either way, of
  // values below `size` in magnitude. gamma_n = n * eps / (1 - n * eps) of Higham, Accuracy and Stability, 3.1.
  const double eps = std::numeric_limits<float>::epsilon() / 2.0;
  const double size = torch::linear(torch::full({1, 45}, expected.abs().max().item<float>() + 10.0F),
                                    parameter(model, "fc1.weight").abs(), parameter(model, "fc1.bias").abs())
                          .max()
                          .item<double>();
  EXPECT_LE((expected - folded).abs().max().item<double>(), 2.0 * (45 + 22) * eps * size);
  EXPECT_FALSE(torch::equal(expected, folded)) << "a comparison of a thing with itself";
}

TEST(Model, FoldingTwiceOrWithoutBatchNormChangesNothing) {
  Model model(tiny_graph());
  model.fold_batch_norm();
  const auto state = copy_of_state(model);
  const torch::Tensor dense = model.weight("conv1.weight").dense();
  model.fold_batch_norm();
  EXPECT_EQ(first_difference(state, copy_of_state(model)), "");
  EXPECT_TRUE(model.weight("conv1.weight").dense().is_same(dense));
}

// Doubles, so that its place shows.
class Doubling : public RowQuantizer {
 public:
  torch::Tensor forward(const torch::Tensor& x) override { return 2.0 * x; }
  void enable_fake_quant(bool) override {}
};

TEST(Model, ARowQuantizerChangesWhatItsLayerReadsAndNothingElse) {
  Model model(testing::tiny_graph());
  model.eval();
  const torch::NoGradGuard no_gradient;
  const torch::Tensor input = torch::randn({3, 2, 6, 6});
  std::vector<torch::Tensor> before;
  const torch::Tensor logits = model.forward(input, {"flatten"}, before);
  model.set_row_quantizer("fc1", std::make_shared<Doubling>());
  EXPECT_EQ(model.row_quantizers().size(), 1U);
  std::vector<torch::Tensor> after;
  const torch::Tensor changed = model.forward(input, {"flatten"}, after);
  EXPECT_TRUE(torch::equal(before[0], after[0]));
  EXPECT_TRUE(
      torch::equal(changed, torch::linear(2.0 * before[0], model.weight("fc1.weight").dense(), model.bias("fc1"))));
  EXPECT_TRUE(torch::equal(model.layer_input("fc1.weight", input), before[0]));
  // It stays where it is when other parts of its layer change.
  model.set_weight_quantizer("fc1.weight", std::make_shared<GridQuantizer>());
  model.set_weight_quantizer("fc1.weight", nullptr);
  EXPECT_TRUE(torch::equal(model.forward(input), changed));
  EXPECT_PARE_ERROR(model.fold_batch_norm(), kState, "");
  EXPECT_PARE_ERROR(model.rebuild(testing::tiny_graph()), kState, "");
  model.set_row_quantizer("fc1", nullptr);
  EXPECT_TRUE(model.row_quantizers().empty());
  EXPECT_TRUE(torch::equal(model.forward(input), logits));
  EXPECT_PARE_ERROR(model.set_row_quantizer("fc2", std::make_shared<Doubling>()), kNotFound, "fc1");
  EXPECT_PARE_ERROR(model.set_row_quantizer("conv1", std::make_shared<Doubling>()), kInvalidArgument, "only a Gemm");
}

TEST(Model, ARowTransformComesBeforeTheRowQuantizerAndGoesBeforeQat) {
  Model model(testing::tiny_graph());
  model.eval();
  const torch::NoGradGuard no_gradient;
  const torch::Tensor input = torch::randn({3, 2, 6, 6});
  const torch::Tensor logits = model.forward(input);
  const torch::Tensor read = model.layer_input("fc1.weight", input);
  model.set_row_quantizer("fc1", std::make_shared<Doubling>());
  model.set_row_transform("fc1", [](const torch::Tensor& x) { return x + 1.0; });
  EXPECT_EQ(model.row_transforms(), (std::vector<std::string>{"fc1"}));
  EXPECT_TRUE(torch::equal(model.layer_input("fc1.weight", input), read + 1.0));
  EXPECT_TRUE(torch::equal(model.forward(input),
                           torch::linear(2.0 * (read + 1.0), model.weight("fc1.weight").dense(), model.bias("fc1"))));
  model.set_row_quantizer("fc1", nullptr);
  EXPECT_PARE_ERROR(model.fold_batch_norm(), kState, "what 'fc1' reads is still transformed");
  EXPECT_PARE_ERROR(model.rebuild(testing::tiny_graph()), kState, "still transformed");
  model.set_row_transform("fc1", {});
  EXPECT_TRUE(model.row_transforms().empty());
  EXPECT_TRUE(torch::equal(model.forward(input), logits));
  model.set_qat_state(QatState::kPrepared);
  EXPECT_PARE_ERROR(model.set_row_transform("fc1", [](const torch::Tensor& x) { return x; }), kState, "before QAT");
  EXPECT_PARE_ERROR(model.set_row_transform("fc2", {}), kNotFound, "fc1");
  EXPECT_PARE_ERROR(model.set_row_transform("conv1", {}), kInvalidArgument, "only a Gemm");
}

TEST(Model, FoldingAfterQuantizersWereSetIsRefused) {
  Model prepared(tiny_graph());
  prepared.set_qat_state(QatState::kPrepared);
  EXPECT_PARE_ERROR(prepared.fold_batch_norm(), kState, "fold before QAT is prepared");
  Model activation(tiny_graph());
  activation.set_activation_quantizer("relu1.out", std::make_shared<GridQuantizer>());
  EXPECT_PARE_ERROR(activation.fold_batch_norm(), kState, "");
  Model weight(tiny_graph());
  weight.set_weight_quantizer("fc1.weight", std::make_shared<GridQuantizer>());
  EXPECT_PARE_ERROR(weight.fold_batch_norm(), kState, "");
}

TEST(Model, PipelinesThatOutliveTheirModelOrAFoldAreHarmless) {
  std::shared_ptr<WeightPipeline> survivor;
  {
    Model model(tiny_graph());
    survivor = model.weights().front();
    model.fold_batch_norm();
    survivor->set_mask(torch::zeros_like(survivor->dense()));
    EXPECT_FALSE(model.weight("conv1.weight").mask().defined());
    survivor = model.weights().front();
  }
  survivor->set_mask(torch::ones_like(survivor->dense()));
}

TEST(Model, SumsAndAveragesEqualThoseWrittenByHand) {
  // conv1 -> relu1 -> conv2 -> add(conv2, relu1) -> relu2 -> average -> flatten -> fc
  graph::Graph graph;
  graph.name = "residual";
  graph.input = "input";
  graph.output = "logits";
  graph.values["input"] = {.dtype = DType::kF32, .shape = {graph::kBatch, 2, 5, 4}, .quantization = {}};
  Rng rng(3);
  const auto draw = [&](const std::string& name, const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
    for (float& value : values) value = rng.normal();
    graph.initializers[name] = graph::Initializer::f32(shape, values);
  };
  draw("conv1.weight", {3, 2, 1, 1});
  draw("conv2.weight", {3, 3, 1, 1});
  draw("fc.weight", {2, 3});
  const auto append = [&](const char* name, const char* op_type, std::vector<std::string> inputs, const char* output,
                          std::map<std::string, graph::Attribute> attributes = {}) {
    graph.nodes.push_back({.name = name,
                           .op_type = op_type,
                           .inputs = std::move(inputs),
                           .output = output,
                           .attributes = std::move(attributes)});
  };
  append("conv1", "Conv", {"input", "conv1.weight"}, "c1");
  append("relu1", "Relu", {"c1"}, "r1");
  append("conv2", "Conv", {"r1", "conv2.weight"}, "c2");
  append("add", "Add", {"c2", "r1"}, "sum");
  append("twice", "Add", {"sum", "sum"}, "double");
  append("relu2", "Relu", {"double"}, "r2");
  append("average", "GlobalAveragePool", {"r2"}, "mean");
  append("flatten", "Flatten", {"mean"}, "flat");
  append("fc", "Gemm", {"flat", "fc.weight"}, "logits", {{"transB", std::int64_t{1}}});
  Model model(graph);
  const torch::Tensor images = torch::randn({4, 2, 5, 4});
  const torch::Tensor r1 = torch::relu(torch::conv2d(images, parameter(model, "conv1.weight")));
  const torch::Tensor sum = torch::conv2d(r1, parameter(model, "conv2.weight")) + r1;
  const torch::Tensor expected = torch::linear(torch::relu(sum + sum).mean({2, 3}), parameter(model, "fc.weight"));
  const torch::Tensor logits = model.forward(images);
  // The same operations on the same operands.
  EXPECT_TRUE(torch::allclose(logits, expected, 1e-5, 1e-6));
  logits.sum().backward();
  const torch::Tensor ours = parameter(model, "conv1.weight").grad().clone();
  model.zero_grad();
  expected.sum().backward();
  EXPECT_TRUE(torch::allclose(ours, parameter(model, "conv1.weight").grad(), 1e-4, 1e-5));
}

TEST(Model, LayerInputIsTheMatrixThatTheWeightMultiplies) {
  Model model(graph::builtin("convnet", 3, 1, 8, 8, 4));
  model.eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor images = torch::randn({3, 1, 8, 8});
  for (const char* fqn : {"conv1.weight", "conv2.weight"}) {
    const torch::Tensor rows = model.layer_input(fqn, images);
    const torch::Tensor weight = model.weight(fqn).dense();
    const torch::Tensor matrix = weight.permute({0, 2, 3, 1}).flatten(1);  // [O, kh * kw * I]
    ASSERT_EQ(rows.size(1), matrix.size(1)) << fqn;
    const std::int64_t side = std::string(fqn) == "conv1.weight" ? 8 : 4;
    const torch::Tensor product = rows.mm(matrix.t()).view({3, side, side, weight.size(0)}).permute({0, 3, 1, 2});
    torch::Tensor x = images;
    if (side == 4) {
      // Whatever comes before conv2: the taps at the centre are its input.
      x = rows.view({3, side, side, 9, weight.size(1)}).select(3, 4).permute({0, 3, 1, 2});
    }
    EXPECT_TRUE(torch::allclose(product, torch::conv2d(x, weight, {}, 1, 1), 1e-4, 1e-5)) << fqn;
  }
  const torch::Tensor rows = model.layer_input("fc2.weight", images);
  EXPECT_TRUE(torch::allclose(torch::linear(rows, model.weight("fc2.weight").dense(), model.bias("fc2")),
                              model.forward(images), 1e-5, 1e-6));
  EXPECT_THROW(static_cast<void>(model.layer_input("fc9.weight", images)), Error);
}

TEST(Model, BuiltinsTrainToLowerLoss) {
  for (const char* name : {"mlp", "convnet", "small_cnn", "resnet18"}) {
    Model model(graph::builtin(name, 0, 1, 8, 8, 4));
    torch::manual_seed(11);
    const torch::Tensor images = torch::randn({16, 1, 8, 8});
    const torch::Tensor labels = torch::arange(16) % 4;
    torch::optim::SGD optimizer(model.parameters(), torch::optim::SGDOptions(0.05));
    double first = 0.0;
    double last = 0.0;
    for (int step = 0; step < 10; ++step) {
      model.zero_grad();
      const torch::Tensor loss = torch::nn::functional::cross_entropy(model.forward(images), labels);
      loss.backward();
      optimizer.step();
      (step == 0 ? first : last) = loss.item<double>();
    }
    EXPECT_LT(last, 0.8 * first) << name;
  }
}

}  // namespace
}  // namespace pare::train
