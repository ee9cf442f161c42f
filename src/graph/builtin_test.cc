#include "pare/graph/builtin.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"

namespace pare::graph {
namespace {

std::int64_t parameter_count(const Graph& graph) {
  std::int64_t count = 0;
  for (const auto& [name, item] : graph.initializers) {
    if (name.find("running_") == std::string::npos) {
      count += element_count(item.shape);
    }
  }
  return count;
}

TEST(Builtin, ConvnetHasTheShapesOfTheRecipe) {
  const Graph net = builtin("convnet");
  const std::vector<std::pair<std::string, Shape>> expected{{"input", {kBatch, 1, 28, 28}},
                                                            {"conv1.out", {kBatch, 32, 28, 28}},
                                                            {"bn1.out", {kBatch, 32, 28, 28}},
                                                            {"relu1.out", {kBatch, 32, 28, 28}},
                                                            {"pool1.out", {kBatch, 32, 14, 14}},
                                                            {"conv2.out", {kBatch, 64, 14, 14}},
                                                            {"bn2.out", {kBatch, 64, 14, 14}},
                                                            {"relu2.out", {kBatch, 64, 14, 14}},
                                                            {"pool2.out", {kBatch, 64, 7, 7}},
                                                            {"flatten.out", {kBatch, 3136}},
                                                            {"fc1.out", {kBatch, 256}},
                                                            {"relu3.out", {kBatch, 256}},
                                                            {"logits", {kBatch, 10}}};
  ASSERT_EQ(net.values.size(), expected.size());
  for (const auto& [name, shape] : expected) {
    EXPECT_EQ(net.values.at(name).shape, shape) << name;
  }
  EXPECT_EQ(net.weight_names(), (std::vector<std::string>{"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"}));
  EXPECT_EQ(net.initializer("fc1.weight").shape, (Shape{256, 3136}));
  // conv + bn + fc, weights and biases.
  EXPECT_EQ(parameter_count(net), (32 * 9 + 32) + 64 + (64 * 32 * 9 + 64) + 128 + (256 * 3136 + 256) + (10 * 256 + 10));
  EXPECT_EQ(dense_fp32_bytes(net), 4 * (parameter_count(net) + 2 * 32 + 2 * 64));
}

TEST(Builtin, MlpHasTheShapesOfTheRecipe) {
  const Graph net = builtin("mlp", 3);
  EXPECT_EQ(net.values.at("relu1.out").shape, (Shape{kBatch, 512}));
  EXPECT_EQ(net.values.at("logits").shape, (Shape{kBatch, 10}));
  EXPECT_EQ(parameter_count(net), 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10);
}

TEST(Builtin, EncoderIsTheOneOfItsComment) {
  const Graph net = encoder(5);
  EXPECT_EQ(net.values.at("layer0.attention.query.out").shape, (Shape{kBatch, 128, 512}));
  EXPECT_EQ(net.values.at("layer3.gelu.out").shape, (Shape{kBatch, 128, 2048}));
  EXPECT_EQ(net.values.at("logits").shape, (Shape{kBatch, 128, 512}));
  EXPECT_EQ(net.nodes.size(), 4U * 12);
  EXPECT_EQ(net.weight_names().size(), 4U * 6);
  constexpr std::int64_t kLayer = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512;
  EXPECT_EQ(parameter_count(net), 4 * kLayer);
  EXPECT_THROW((void)encoder(5, {.features = 10, .heads = 4}), Error);
  EXPECT_THROW((void)encoder(5, {.layers = 0}), Error);
}

TEST(Builtin, SmallCnnAveragesAllPixels) {
  const Graph net = builtin("small_cnn");
  const std::vector<std::pair<std::string, Shape>> expected{
      {"relu1.out", {kBatch, 32, 28, 28}}, {"relu2.out", {kBatch, 64, 28, 28}},
      {"pool2.out", {kBatch, 64, 14, 14}}, {"pool3.out", {kBatch, 128, 7, 7}},
      {"relu4.out", {kBatch, 128, 7, 7}},  {"average.out", {kBatch, 128, 1, 1}},
      {"flatten.out", {kBatch, 128}},      {"logits", {kBatch, 10}}};
  for (const auto& [name, shape] : expected) {
    EXPECT_EQ(net.values.at(name).shape, shape) << name;
  }
  const std::int64_t convs = 32 * 9 + 64 * 32 * 9 + 128 * 64 * 9 + 128 * 128 * 9;
  EXPECT_EQ(parameter_count(net), convs + 3 * (32 + 64 + 128 + 128) + 10 * 128 + 10);
}

TEST(Builtin, Resnet18IsTheNetworkOfItsPaper) {
  const Graph net = builtin("resnet18", 0, 3, 32, 32);
  const auto count = [&](const std::string& op_type) {
    return std::count_if(net.nodes.begin(), net.nodes.end(), [&](const Node& node) { return node.op_type == op_type; });
  };
  EXPECT_EQ(count("Conv"), 20);  // stem, 16 in blocks, 3 that change the shape
  EXPECT_EQ(count("Relu"), 17);
  EXPECT_EQ(count("Add"), 8);
  EXPECT_EQ(count("MaxPool"), 0);
  const std::vector<std::pair<std::string, Shape>> expected{{"relu1.out", {kBatch, 64, 32, 32}},
                                                            {"layer1.1.relu2.out", {kBatch, 64, 32, 32}},
                                                            {"layer2.0.downsample.1.out", {kBatch, 128, 16, 16}},
                                                            {"layer2.0.add.out", {kBatch, 128, 16, 16}},
                                                            {"layer3.1.relu2.out", {kBatch, 256, 8, 8}},
                                                            {"layer4.1.relu2.out", {kBatch, 512, 4, 4}},
                                                            {"average.out", {kBatch, 512, 1, 1}},
                                                            {"logits", {kBatch, 10}}};
  for (const auto& [name, shape] : expected) {
    EXPECT_EQ(net.values.at(name).shape, shape) << name;
  }
  // A block's input is read twice, and the sum adds what the second convolution made of it.
  EXPECT_EQ(net.consumers_of("relu1.out").size(), 2U);
  EXPECT_EQ(net.node("layer1.0.add").inputs, (std::vector<std::string>{"layer1.0.bn2.out", "relu1.out"}));
  EXPECT_EQ(net.node("layer2.0.add").inputs,
            (std::vector<std::string>{"layer2.0.bn2.out", "layer2.0.downsample.1.out"}));
  // torchvision's resnet18 with a 3x3 stem for ten classes has 11,173,962 parameters; here each of the 4,800 channels
  // of its convolutions has a bias besides.
  EXPECT_EQ(parameter_count(net), 11173962 + 4800);
}

// The paper's 0.27M, by hand: convolutions 16 * 27 + 6 * 16^2 * 9 + 16 * 32 * 9 + 5 * 32^2 * 9 + 32 * 64 * 9 + 5 * 64^2
// * 9 and the two 1x1 beside them, each channel of a convolution with batch norm's four numbers and a bias, the
// classifier.
TEST(Builtin, ResNet20HasThePapersWeights) {
  const Graph net = builtin("resnet20", 0, 3, 32, 32);
  std::int64_t weights = 0;
  for (const std::string& name : net.weight_names()) {
    weights += element_count(net.initializer(name).shape);
  }
  EXPECT_EQ(weights, 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864 + 16 * 32 + 32 * 64 + 640);
  EXPECT_EQ(net.weight_names().size(), 22U);
  EXPECT_EQ(net.values.at("layer3.2.relu2.out").shape, (Shape{kBatch, 64, 8, 8}));
}

TEST(Builtin, ResidualNetworksFoldTheirBatchNorms) {
  Graph net = builtin("resnet18", 1, 3, 8, 8, 4);
  EXPECT_EQ(fold_batch_norm(net).size(), 20U);
  EXPECT_EQ(net.node("layer2.0.add").inputs,
            (std::vector<std::string>{"layer2.0.bn2.out", "layer2.0.downsample.1.out"}));
}

TEST(Builtin, HasFiveNetworks) {
  EXPECT_EQ(builtin_names(), (std::vector<std::string>{"convnet", "mlp", "small_cnn", "resnet20", "resnet18"}));
}

TEST(Builtin, OtherImagesChangeTheFirstLinearLayer) {
  const Graph net = builtin("convnet", 0, 3, 33, 18, 7);
  EXPECT_EQ(net.initializer("conv1.weight").shape, (Shape{32, 3, 3, 3}));
  EXPECT_EQ(net.initializer("fc1.weight").shape, (Shape{256, 64 * 8 * 4}));
  EXPECT_EQ(net.values.at("logits").shape, (Shape{kBatch, 7}));
}

TEST(Builtin, WeightsFollowTheSeedAndStayWithinTheirBound) {
  const Graph a = builtin("convnet", 5);
  const Graph again = builtin("convnet", 5);
  const Graph other = builtin("convnet", 6);
  for (const std::string& name : a.weight_names()) {
    const auto values = a.initializer(name).data.as<float>();
    const auto same = again.initializer(name).data.as<float>();
    const auto different = other.initializer(name).data.as<float>();
    EXPECT_TRUE(std::equal(values.begin(), values.end(), same.begin())) << name;
    EXPECT_FALSE(std::equal(values.begin(), values.end(), different.begin())) << name;
    const Shape& shape = a.initializer(name).shape;
    const double fan_in = static_cast<double>(values.size()) / static_cast<double>(shape[0]);
    const double bound = 1.0 / std::sqrt(fan_in);
    double sum = 0.0;
    double squares = 0.0;
    for (const float value : values) {
      ASSERT_LE(std::abs(value), bound) << name;
      sum += value;
      squares += static_cast<double>(value) * value;
    }
    const auto count = static_cast<double>(values.size());
    // Five standard errors of a uniform distribution's mean and of its second moment.
    EXPECT_LE(std::abs(sum / count), 5.0 * bound / std::sqrt(3.0 * count)) << name;
    EXPECT_LE(std::abs(squares / count - bound * bound / 3.0), 5.0 * bound * bound * std::sqrt(4.0 / 45.0 / count))
        << name;
  }
  const auto conv1 = a.initializer("conv1.weight").data.as<float>();
  const auto fc2 = a.initializer("fc2.weight").data.as<float>();
  EXPECT_NE(conv1[0] * 3.0F, fc2[0] * 16.0F) << "layers must not share a stream";
}

TEST(Builtin, RefusesWhatItCannotMake) {
  const auto message = [](auto&& make) -> std::string {
    try {
      (void)make();
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument) << error.what();
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message([] { return builtin("convnt"); }).find("'convnet'"), std::string::npos);
  EXPECT_NE(message([] { return builtin("convnet", 0, 1, 3, 28); }).find("at least 4"), std::string::npos);
  EXPECT_NE(message([] { return builtin("small_cnn", 0, 1, 28, 3); }).find("at least 4"), std::string::npos);
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()}) {
    EXPECT_NE(message([&] { return builtin("mlp", 0, bad, 28, 28); }), "no error") << bad;
    EXPECT_NE(message([&] { return builtin("mlp", 0, 1, bad, 28); }), "no error") << bad;
    EXPECT_NE(message([&] { return builtin("mlp", 0, 1, 28, bad); }), "no error") << bad;
    EXPECT_NE(message([&] { return builtin("mlp", 0, 1, 28, 28, bad); }), "no error") << bad;
  }
}

}  // namespace
}  // namespace pare::graph
