#include "pare/graph/graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/builtin.h"
#include "pare/graph/testing/mutations.h"
#include "pare/graph/testing/random_artifact.h"

namespace pare::graph {
namespace {

using testing::attribute;
using testing::expect_refused;
using testing::kCorrupt;
using testing::kUnsupported;
using testing::node_named;

std::vector<std::int64_t> ints(std::vector<std::int64_t> values) { return values; }

TEST(ShapeInference, FillsInWhatIsMissing) {
  const Graph complete = builtin("convnet", 0, 3, 21, 22, 5);
  Graph graph = complete;
  for (auto& [name, value] : graph.values) {
    if (name != graph.input) {
      value.shape.clear();
    }
  }
  infer_shapes(graph);
  EXPECT_EQ(graph.values, complete.values);
  const Value input = complete.values.at("input");
  graph.values.clear();
  graph.values["input"] = input;
  infer_shapes(graph);
  EXPECT_EQ(graph.values, complete.values);
}

Graph one_conv(const Shape& image, const Shape& weight_shape, std::map<std::string, Attribute> attributes) {
  Graph graph;
  graph.name = "one";
  graph.input = "input";
  graph.output = "out";
  graph.values["input"] = {.dtype = DType::kF32, .shape = {kBatch, image[0], image[1], image[2]}, .quantization = {}};
  graph.initializers["w"] =
      Initializer::f32(weight_shape, std::vector<float>(static_cast<std::size_t>(element_count(weight_shape)), 1.0F));
  graph.nodes.push_back({.name = "conv",
                         .op_type = "Conv",
                         .inputs = {"input", "w"},
                         .output = "out",
                         .attributes = std::move(attributes)});
  return graph;
}

TEST(ShapeInference, ConvolutionsFollowOnnx) {
  // (13 + 3 - 2 * 2 - 1) / 2 + 1 = 6 and (11 + 4 - 3 * 1 - 1) / 3 + 1 = 4.
  Graph graph = one_conv({3, 13, 11}, {2, 3, 3, 2},
                         {{"strides", ints({2, 3})},
                          {"dilations", ints({2, 3})},
                          {"pads", ints({1, 0, 2, 4})},
                          {"group", std::int64_t{1}}});
  infer_shapes(graph);
  EXPECT_EQ(graph.values.at("out").shape, (Shape{kBatch, 2, 6, 4}));
  const Window window = window_of(graph, graph.nodes[0]);
  EXPECT_EQ(window.kernel_h, 3);
  EXPECT_EQ(window.kernel_w, 2);
  EXPECT_EQ(window.pad_bottom, 2);
  EXPECT_EQ(window.pad_right, 4);
}

TEST(ShapeInference, DepthwiseConvolutionsKeepTheirChannels) {
  Graph graph = one_conv({6, 8, 9}, {6, 1, 3, 3}, {{"group", std::int64_t{6}}, {"strides", ints({2, 1})}});
  infer_shapes(graph);
  EXPECT_EQ(graph.values.at("out").shape, (Shape{kBatch, 6, 3, 7}));
  EXPECT_TRUE(graph.nodes[0].is_depthwise());
  graph = one_conv({6, 8, 9}, {12, 1, 3, 3}, {{"group", std::int64_t{6}}});
  EXPECT_THROW(infer_shapes(graph), Error) << "two filters a channel";
}

TEST(ShapeInference, RefusesOutputsAndKernelsOfAbsurdSize) {
  Graph graph = one_conv({1, 2048, 2048}, {16, 1, 1, 1}, {});
  EXPECT_NO_THROW(infer_shapes(graph));
  graph = one_conv({1, 2048, 2048}, {17, 1, 1, 1}, {});
  EXPECT_THROW(infer_shapes(graph), Error);
  graph = one_conv({1, 1100, 1}, {1, 1, kMaxWindowAttribute, 1}, {});
  EXPECT_NO_THROW(infer_shapes(graph));
  graph = one_conv({1, 1100, 1}, {1, 1, kMaxWindowAttribute + 1, 1}, {});
  EXPECT_THROW(infer_shapes(graph), Error);
  graph = one_conv({1, 8, 8}, {1, 1, 3, 3}, {});
  graph.initializers["w"] = Initializer::f32({1, 9}, std::vector<float>(9));
  EXPECT_THROW((void)window_of(graph, graph.nodes[0]), Error);
}

TEST(ShapeInference, NamesTheNodeOfAFloatGraphThatIsWrong) {
  const Graph sound = builtin("convnet", 0, 1, 8, 8, 3);
  const auto set_value = [](const std::string& name, Value value) {
    return [=](Graph& graph) { graph.values[name] = value; };
  };
  expect_refused(
      sound,
      {{"unknown operator", "relu1", kUnsupported, [](Graph& g) { node_named(g, "relu1").op_type = "Rellu"; }},
       {"operator without name", "relu1", kUnsupported, [](Graph& g) { node_named(g, "relu1").op_type = ""; }},
       {"two nodes of one name", "bn1", kCorrupt, [](Graph& g) { node_named(g, "relu1").name = "bn1"; }},
       {"node without name", "", kCorrupt, [](Graph& g) { node_named(g, "relu1").name = ""; }},
       {"unprintable name", "", kCorrupt, [](Graph& g) { node_named(g, "relu1").name = "a\nb"; }},
       {"endless name", "", kCorrupt, [](Graph& g) { node_named(g, "relu1").name.assign(201, 'x'); }},
       {"output that exists", "relu1", kCorrupt, [](Graph& g) { node_named(g, "relu1").output = "bn1.out"; }},
       {"output named as an initializer", "relu1", kCorrupt,
        [](Graph& g) { node_named(g, "relu1").output = "fc1.weight"; }},
       {"nodes out of order", "relu1", kCorrupt, [](Graph& g) { std::swap(g.nodes[1], g.nodes[2]); }},
       {"a cycle", "conv1", kCorrupt, [](Graph& g) { node_named(g, "conv1").inputs[0] = "logits"; }},
       {"no such input", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").inputs[0] = "nothing"; }},
       {"no inputs", "relu1", kCorrupt, [](Graph& g) { node_named(g, "relu1").inputs.clear(); }},
       {"an input too many", "relu1", kCorrupt,
        [](Graph& g) { node_named(g, "relu1").inputs.push_back("conv1.weight"); }},
       {"a weight too few", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").inputs.resize(1); }},
       {"no such weight", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").inputs[1] = "fc9.weight"; }},
       {"a value as a weight", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").inputs[1] = "flatten.out"; }},
       {"a shared bias", "bn1", kUnsupported, [](Graph& g) { node_named(g, "bn1").inputs[2] = "conv1.bias"; }},
       {"unknown attribute", "conv1", kUnsupported, attribute("conv1", "stride", ints({1, 1}))},
       {"attribute of another type", "conv1", kCorrupt, attribute("conv1", "strides", std::int64_t{1})},
       {"strides of one", "conv1", kCorrupt, attribute("conv1", "strides", ints({1})), "must have 2"},
       {"stride 0", "conv1", kCorrupt, attribute("conv1", "strides", ints({0, 1}))},
       {"absurd stride", "conv1", kCorrupt, attribute("conv1", "strides", ints({1, std::int64_t{1} << 62})),
        "outside 1 to 1024"},
       {"negative pad", "conv1", kCorrupt, attribute("conv1", "pads", ints({0, -1, 0, 0}))},
       {"two pads", "conv1", kCorrupt, attribute("conv1", "pads", ints({1, 1})), "must have 4"},
       {"dilation 0", "conv1", kCorrupt, attribute("conv1", "dilations", ints({1, 0}))},
       {"window larger than the image", "conv1", kCorrupt, attribute("conv1", "dilations", ints({9, 1})),
        "does not fit"},
       {"kernel_shape unlike the weight's", "conv1", kCorrupt, attribute("conv1", "kernel_shape", ints({3, 5})),
        "contradicts the weight"},
       {"groups", "conv2", kUnsupported, attribute("conv2", "group", std::int64_t{2}), "neither 1 nor"},
       {"no groups", "conv2", kUnsupported, attribute("conv2", "group", std::int64_t{0})},
       {"a dense weight in groups", "conv2", kCorrupt, attribute("conv2", "group", std::int64_t{32}),
        "must have [32, 1, any, any]"},
       {"pool without kernel", "pool1", kCorrupt,
        [](Graph& g) { node_named(g, "pool1").attributes.erase("kernel_shape"); }},
       {"pool that sees padding only", "pool1", kCorrupt, attribute("pool1", "pads", ints({0, 0, 2, 0})),
        "smaller than its kernel_shape"},
       {"pool larger than the image", "pool1", kCorrupt, attribute("pool1", "kernel_shape", ints({9, 2})),
        "does not fit"},
       {"Flatten along another axis", "flatten", kUnsupported, attribute("flatten", "axis", std::int64_t{2})},
       {"Gemm without transB", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").attributes.erase("transB"); }},
       {"Gemm with transB = 0", "fc1", kUnsupported, attribute("fc1", "transB", std::int64_t{0})},
       {"Gemm with alpha", "fc1", kUnsupported, attribute("fc1", "alpha", 0.5F)},
       {"Gemm on an image", "fc1", kCorrupt, [](Graph& g) { node_named(g, "fc1").inputs[0] = "pool2.out"; },
        "needs 2 or 3 dimensions"},
       {"epsilon 0", "bn1", kCorrupt, attribute("bn1", "epsilon", 0.0F)},
       {"epsilon NaN", "bn1", kCorrupt, attribute("bn1", "epsilon", std::nanf(""))},
       {"weight of other features", "fc1", kCorrupt,
        [](Graph& g) {
          g.initializers["fc1.weight"] = Initializer::f32({2, 3}, std::vector<float>(6));
        }},
       {"weight of rank 2 in Conv", "conv1", kCorrupt,
        [](Graph& g) {
          g.initializers["conv1.weight"] = Initializer::f32({32, 9}, std::vector<float>(288));
        }},
       {"bias of another length", "conv1", kCorrupt,
        [](Graph& g) { g.initializers["conv1.bias"] = Initializer::f32({31}, std::vector<float>(31)); }},
       {"variance of another length", "bn2", kCorrupt,
        [](Graph& g) { g.initializers["bn2.running_var"] = Initializer::f32({1}, {1.0F}); }},
       {"buffer shorter than its shape", "fc2", kCorrupt, [](Graph& g) { g.initializers["fc2.bias"].data = {}; }},
       {"empty weight", "fc2", kCorrupt,
        [](Graph& g) {
          g.initializers["fc2.weight"] = Initializer::f32({0, 256}, {});
        }},
       {"weight of absurd size", "fc2", kCorrupt,
        [](Graph& g) {
          g.initializers["fc2.weight"].shape = {std::int64_t{1} << 40, std::int64_t{1} << 40};
        }},
       {"negative extent", "fc2", kCorrupt,
        [](Graph& g) {
          g.initializers["fc2.weight"].shape = {-3, -256};
        }},
       {"codes in a float graph", "fc2", kCorrupt, [](Graph& g) { g.initializers["fc2.bias"].dtype = DType::kS32; }},
       {"float weight with a scale", "fc2", kCorrupt,
        [](Graph& g) {
          g.initializers["fc2.weight"].quantization = Quantization{{1.0F}, 0, -1};
        }},
       {"shape that contradicts", "pool1", kCorrupt,
        set_value("pool1.out", {.dtype = DType::kF32, .shape = {kBatch, 32, 5, 4}, .quantization = {}})},
       {"type that contradicts", "pool1", kCorrupt,
        set_value("pool1.out", {.dtype = DType::kU8, .shape = {kBatch, 32, 4, 4}, .quantization = {}})},
       {"quantization in a float graph", "pool1", kCorrupt,
        set_value("pool1.out", {.dtype = DType::kF32, .shape = {}, .quantization = Quantization{{1.0F}, 0, -1}})},
       {"unknown value", "", kCorrupt, set_value("nobody", {})},
       {"unknown initializer", "", kCorrupt, [](Graph& g) { g.initializers["x"] = Initializer::f32({1}, {1.0F}); }},
       {"output that nobody reads", "", kCorrupt,
        [](Graph& g) {
          g.nodes.push_back(
              {.name = "more", .op_type = "Relu", .inputs = {"bn1.out"}, .output = "m", .attributes = {}});
        }},
       {"no such output", "", kCorrupt, [](Graph& g) { g.output = "nothing"; }, "no node produces the graph's output"},
       {"output in the middle", "", kCorrupt, [](Graph& g) { g.output = "relu1.out"; }, "nothing reads the value"},
       {"input as output", "", kCorrupt, [](Graph& g) { g.output = g.input; }, "no node produces the graph's output"},
       {"no input value", "", kCorrupt, [](Graph& g) { g.values.erase("input"); }, "no name or no value"},
       {"no nodes", "", kCorrupt, [](Graph& g) { g.nodes.clear(); }},
       {"input without batch", "", kCorrupt,
        [](Graph& g) {
          g.values["input"].shape = {1, 1, 8, 8};
        }},
       {"image of no pixels", "", kCorrupt,
        [](Graph& g) {
          g.values["input"].shape = {kBatch, 1, 0, 8};
        }},
       {"image of absurd size", "", kCorrupt,
        [](Graph& g) {
          g.values["input"].shape = {kBatch, 1, kMaxExtent, kMaxExtent};
        }},
       {"input of integers", "", kCorrupt, [](Graph& g) { g.values["input"].dtype = DType::kU8; }, "must be float32"},
       {"quantized input", "", kCorrupt,
        [](Graph& g) {
          g.values["input"].quantization = Quantization{{1.0F}, 0, -1};
        }},
       {"input without name", "", kCorrupt,
        [](Graph& g) {
          node_named(g, "conv1").inputs[0] = g.input = "";
          g.values[""] = g.values["input"];
          g.values.erase("input");
        }},
       {"input named as a weight", "", kCorrupt,
        [](Graph& g) {
          node_named(g, "conv1").inputs[0] = g.input = "conv1.weight";
          g.values["conv1.weight"] = g.values["input"];
          g.values.erase("input");
        }},
       {"a name of the graph that cannot be printed", "", kCorrupt, [](Graph& g) { g.name = "\x1b[2J"; }},
       {"an integer operator", "conv1", kUnsupported, [](Graph& g) { node_named(g, "fc2").op_type = "QGemm"; }}});
}

void edit_codes(Graph& graph, const std::string& name, const std::function<void(std::vector<std::int8_t>&)>& edit) {
  Initializer& item = graph.initializers.at(name);
  std::vector<std::int8_t> codes(item.data.as<std::int8_t>().begin(), item.data.as<std::int8_t>().end());
  edit(codes);
  item.data = Buffer::copy_of(codes);
}

void set_bias(Graph& graph, const std::string& name, std::int32_t value) {
  Initializer& item = graph.initializers.at(name);
  std::vector<std::int32_t> values(item.data.as<std::int32_t>().begin(), item.data.as<std::int32_t>().end());
  values.back() = value;
  item.data = Buffer::copy_of(values);
}

TEST(ShapeInference, AcceptsEveryRandomIntegerGraph) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (const bool two_four : {false, true}) {
      SCOPED_TRACE(str_cat("seed ", seed, two_four ? " 2:4" : " dense"));
      for (const auto& options :
           {testing::small_options(two_four), testing::odd_options(two_four), testing::mlp_options(two_four),
            testing::residual_options(two_four), testing::depthwise_options(two_four)}) {
        const Graph graph = testing::random_integer_graph(seed, options);
        EXPECT_TRUE(is_integer_graph(graph));
        EXPECT_EQ(graph.values.at("logits").dtype, DType::kF32);
        EXPECT_EQ(graph.values.at("logits").shape, (Shape{kBatch, options.classes}));
      }
    }
  }
  EXPECT_FALSE(is_integer_graph(builtin("mlp")));
}

TEST(ShapeInference, NamesTheNodeOfAnIntegerGraphThatIsWrong) {
  const Graph sound = testing::random_integer_graph(7, testing::small_options(true));
  const auto scale = [](const std::string& value, float to) {
    return [=](Graph& g) {
      g.values[value].quantization->scales = {to};
      if (value == "conv1.out") {
        g.values.erase("pool1.out");  // takes over conv1's
      }
    };
  };
  const auto weight_scale = [](const std::string& name, float to) {
    return [=](Graph& g) { g.initializers[name].quantization->scales.back() = to; };
  };
  expect_refused(
      sound,
      {{"scale 0", "conv1", kCorrupt, scale("conv1.out", 0.0F)},
       {"scale below the smallest", "conv1", kCorrupt, scale("conv1.out", 1e-7F)},
       {"negative scale", "conv1", kCorrupt, scale("conv1.out", -0.1F)},
       {"scale NaN", "quantize_input", kCorrupt, scale("quantize_input.out", std::nanf(""))},
       {"infinite scale", "fc1", kCorrupt, scale("fc1.out", INFINITY)},
       {"two scales for codes", "fc1", kCorrupt,
        [](Graph& g) {
          g.values["fc1.out"].quantization->scales = {1, 1};
        }},
       {"no scales for codes", "fc1", kCorrupt, [](Graph& g) { g.values["fc1.out"].quantization->scales.clear(); }},
       {"codes per channel", "fc1", kCorrupt, [](Graph& g) { g.values["fc1.out"].quantization->axis = 1; }},
       {"zero point 256", "conv1", kCorrupt,
        [](Graph& g) {
          g.values["conv1.out"].quantization->zero_point = 256;
          g.values.erase("pool1.out");
        }},
       {"zero point -1", "fc1", kCorrupt, [](Graph& g) { g.values["fc1.out"].quantization->zero_point = -1; }},
       {"pool that changes the scale", "pool1", kCorrupt, scale("pool1.out", 0.5F)},
       {"Flatten that changes the zero point", "flatten", kCorrupt,
        [](Graph& g) { g.values["flatten.out"].quantization->zero_point ^= 1; }},
       {"quantizer without quantization", "quantize_input", kCorrupt,
        [](Graph& g) { g.values["quantize_input.out"].quantization.reset(); }},
       {"float value where codes are read", "pool1", kCorrupt, [](Graph& g) { g.values["conv1.out"] = {}; },
        "'conv1.out' is F32 and must be U8"},
       {"weight scale 0", "conv2", kCorrupt, weight_scale("conv2.weight", 0.0F)},
       {"weight scale NaN", "conv2", kCorrupt, weight_scale("conv2.weight", std::nanf(""))},
       {"a weight scale too few", "fc2", kCorrupt,
        [](Graph& g) { g.initializers["fc2.weight"].quantization->scales.pop_back(); }},
       {"weight without quantization", "fc2", kCorrupt,
        [](Graph& g) { g.initializers["fc2.weight"].quantization.reset(); }, "has no quantization"},
       {"weight scales along another axis", "fc2", kCorrupt,
        [](Graph& g) { g.initializers["fc2.weight"].quantization->axis = 1; }},
       {"weight with a zero point", "fc2", kCorrupt,
        [](Graph& g) { g.initializers["fc2.weight"].quantization->zero_point = 1; }},
       {"scales whose product overflows", "conv2", kCorrupt,
        [](Graph& g) {
          g.values["conv1.out"].quantization->scales = g.values["pool1.out"].quantization->scales = {1e25F};
          g.initializers["conv2.weight"].quantization->scales.assign(16, 1e25F);
          g.initializers["conv1.weight"].quantization->scales.assign(8, 1e25F);
        }},
       {"scales whose quotient vanishes", "fc1", kCorrupt, scale("fc1.out", 3e38F)},
       {"logits that overflow", "fc2", kCorrupt, weight_scale("fc2.weight", 3e38F)},
       {"dense code -128", "conv1", kCorrupt,
        [](Graph& g) { edit_codes(g, "conv1.weight", [](auto& codes) { codes[5] = -128; }); }},
       {"packed code -128", "fc1", kCorrupt,
        [](Graph& g) { edit_codes(g, "fc1.weight", [](auto& codes) { codes.back() = -128; }); }},
       {"indices that do not ascend", "fc1", kCorrupt,
        [](Graph& g) {
          std::vector<std::uint8_t> indices(g.initializers["fc1.weight"].indices.bytes().size(), 0);
          g.initializers["fc1.weight"].indices = Buffer::copy_of(indices);
        }},
       {"indices missing", "fc1", kCorrupt, [](Graph& g) { g.initializers["fc1.weight"].indices = {}; }},
       {"values missing", "fc1", kCorrupt, [](Graph& g) { g.initializers["fc1.weight"].data = {}; }},
       {"2:4 said to be dense", "fc1", kCorrupt,
        [](Graph& g) { g.initializers["fc1.weight"].encoding = Encoding::kDense; }},
       {"a bias stored 2:4", "fc1", kCorrupt,
        [](Graph& g) { g.initializers["fc1.bias"].encoding = Encoding::kTwoFour; }},
       {"bias beyond 2^30", "fc1", kCorrupt, [](Graph& g) { set_bias(g, "fc1.bias", kMaxBias + 1); }},
       {"bias -2^31", "fc1", kCorrupt,
        [](Graph& g) { set_bias(g, "fc1.bias", std::numeric_limits<std::int32_t>::min()); }},
       {"bias with a scale of its own", "fc1", kCorrupt,
        [](Graph& g) {
          g.initializers["fc1.bias"].quantization = Quantization{{1.0F}, 0, -1};
        }},
       {"float bias", "fc1", kCorrupt, [](Graph& g) { g.initializers["fc1.bias"].dtype = DType::kF32; }},
       {"no bias", "fc2", kCorrupt,
        [](Graph& g) {
          node_named(g, "fc2").inputs.pop_back();
          g.initializers.erase("fc2.bias");
        }},
       {"unknown activation", "conv1", kUnsupported, attribute("conv1", "fused_activation", std::string("Gelu"))},
       {"an operator of float graphs", "pool1", kUnsupported,
        [](Graph& g) {
          node_named(g, "pool1") = {
              .name = "pool1", .op_type = "Relu", .inputs = {"conv1.out"}, .output = "pool1.out", .attributes = {}};
        }},
       {"codes quantized again", "pool1", kCorrupt,
        [](Graph& g) {
          node_named(g, "pool1").op_type = "QuantizeLinear";
          node_named(g, "pool1").attributes.clear();
        }},
       {"float input of a product", "conv1", kCorrupt, [](Graph& g) { node_named(g, "conv1").inputs[0] = "input"; }}});
}

TEST(ShapeInference, NamesTheNodeOfAFloatGraphWhoseSumIsWrong) {
  const Graph sound = builtin("resnet18", 0, 1, 8, 8, 3);
  expect_refused(
      sound,
      {{"a sum of two shapes", "layer2.0.add", kCorrupt,
        [](Graph& g) { node_named(g, "layer2.0.add").inputs[1] = "layer1.1.relu2.out"; }, "one shape"},
       {"a sum of one", "layer1.0.add", kCorrupt, [](Graph& g) { node_named(g, "layer1.0.add").inputs.pop_back(); },
        "1 inputs and must have 2"},
       {"a sum of three", "layer1.0.add", kCorrupt,
        [](Graph& g) { node_named(g, "layer1.0.add").inputs.emplace_back("relu1.out"); }, "3 inputs and must have 2"},
       {"a sum with what comes later", "layer1.0.add", kCorrupt,
        [](Graph& g) { node_named(g, "layer1.0.add").inputs[1] = "layer1.1.relu1.out"; }, "no node before it"},
       {"a sum with a weight", "layer1.0.add", kCorrupt,
        [](Graph& g) { node_named(g, "layer1.0.add").inputs[1] = "conv1.weight"; }, "no node before it"},
       {"a sum with an activation", "layer1.0.add", kUnsupported,
        attribute("layer1.0.add", "fused_activation", std::string("Relu"))},
       {"an average of features", "average", kCorrupt,
        [](Graph& g) { std::swap(node_named(g, "average").op_type, node_named(g, "flatten").op_type); }},
       {"an average of a window", "average", kUnsupported, attribute("average", "kernel_shape", ints({2, 2}))},
       {"an integer sum", "conv1", kUnsupported,
        [](Graph& g) { node_named(g, "layer1.0.add").op_type = "QLinearAdd"; }}});
}

TEST(ShapeInference, RefusesAveragesOfTooManyPixels) {
  Graph graph;
  graph.input = "input";
  graph.output = "out";
  graph.values["input"] = {.dtype = DType::kF32, .shape = {kBatch, 1, 1 << 12, 1 << 11}, .quantization = {}};
  graph.nodes.push_back(
      {.name = "average", .op_type = "GlobalAveragePool", .inputs = {"input"}, .output = "out", .attributes = {}});
  EXPECT_NO_THROW(infer_shapes(graph));
  graph.values["input"].shape = {kBatch, 1, 1 << 12, (1 << 11) + 1};
  graph.values.erase("out");
  EXPECT_THROW(infer_shapes(graph), Error);
}

TEST(ShapeInference, NamesTheNodeOfAnIntegerGraphWhoseSumIsWrong) {
  const Graph sound = testing::random_integer_graph(7, testing::residual_options(true));
  expect_refused(
      sound,
      {{"a sum without quantization", "add2", kCorrupt, [](Graph& g) { g.values["add2.out"].quantization.reset(); },
        "no quantization"},
       {"an average without quantization", "average", kCorrupt,
        [](Graph& g) { g.values["average.out"].quantization.reset(); }, "no quantization"},
       {"scale 0", "add3", kCorrupt, [](Graph& g) { g.values["add3.out"].quantization->scales = {0.0F}; }},
       {"zero point 256", "average", kCorrupt,
        [](Graph& g) {
          g.values["average.out"].quantization->zero_point = 256;
          g.values.erase("flatten.out");
        }},
       {"values whose sum overflows", "add2", kCorrupt,
        [](Graph& g) {
          for (const char* value : {"conv1.out", "conv2.out"}) {
            g.values[value].quantization->scales = {1e36F};
          }
          for (const char* weight : {"conv1.weight", "conv2.weight", "conv3.weight", "skip3.weight"}) {
            auto& scales = g.initializers[weight].quantization->scales;
            std::fill(scales.begin(), scales.end(), 1.0F);
          }
        },
        "more than float32 holds"},
       {"a sum with an image", "add2", kCorrupt, [](Graph& g) { node_named(g, "add2").inputs[1] = "input"; },
        "'input' is F32 and must be U8"},
       {"unknown activation", "add2", kUnsupported, attribute("add2", "fused_activation", std::string("Gelu"))}});
}

TEST(ShapeInference, DepthwiseConvolutionsGiveCodes) {
  const Graph sound = testing::random_integer_graph(7, testing::depthwise_options(false));
  expect_refused(sound, {{"float32", "conv2", kCorrupt, [](Graph& g) { g.values["conv2.out"].quantization.reset(); },
                          "has no quantization"}});
}

TEST(ShapeInference, BiasMayReachItsBound) {
  Graph graph = testing::random_integer_graph(7, testing::small_options(false));
  set_bias(graph, "fc1.bias", kMaxBias);
  EXPECT_NO_THROW(infer_shapes(graph));
  set_bias(graph, "fc1.bias", -kMaxBias);
  EXPECT_NO_THROW(infer_shapes(graph));
}

TEST(ShapeInference, RefusesMoreProductsThanAnAccumulatorHolds) {
  static_assert(255LL * 127 * kMaxReductionElems + kMaxBias <= std::numeric_limits<std::int32_t>::max());
  static_assert(255LL * 127 * (kMaxReductionElems + 1) + kMaxBias > std::numeric_limits<std::int32_t>::max());
  testing::GraphOptions options = testing::mlp_options(false);
  options.hidden.clear();
  options.image = {1, 1, kMaxReductionElems};
  EXPECT_NO_THROW((void)testing::random_integer_graph(1, options));
  options.image = {1, 1, kMaxReductionElems + 1};
  EXPECT_THROW((void)testing::random_integer_graph(1, options), Error);
}

TEST(ShapeInference, RefusesTooManyNodes) {
  Graph graph = builtin("mlp", 0, 1, 2, 2, 2);
  graph.values.erase("logits");
  graph.nodes.back().output = "fc3.out";
  for (std::int64_t i = static_cast<std::int64_t>(graph.nodes.size()); i < kMaxNodes; ++i) {
    const std::string name = str_cat("extra", i);
    const std::string last = graph.nodes.back().output;
    graph.nodes.push_back(
        {.name = name, .op_type = "Relu", .inputs = {last}, .output = name + ".out", .attributes = {}});
  }
  graph.output = graph.nodes.back().output;
  EXPECT_NO_THROW(infer_shapes(graph));
  graph.nodes.push_back(
      {.name = "straw", .op_type = "Relu", .inputs = {graph.output}, .output = "s", .attributes = {}});
  graph.output = "s";
  EXPECT_THROW(infer_shapes(graph), Error);
}

}  // namespace
}  // namespace pare::graph
