// Graphs of codes and float32 side by side.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "pare/graph/builtin.h"
#include "pare/graph/graph.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/mutations.h"

namespace pare::graph {
namespace {

using testing::attribute;
using testing::expect_refused;
using testing::kCorrupt;
using testing::kUnsupported;
using testing::node_named;

TEST(ShapeInference, NamesTheNodeOfAMixedGraphThatIsWrong) {
  expect_refused(testing::mixed_rows_artifact(3).graph,
                 {{"codes where float32 is read", "add", kCorrupt,
                   [](Graph& g) { node_named(g, "add").inputs[1] = "up.out"; }, "'up.out' is U8 and must be F32"},
                  {"float32 where codes are read", "back", kCorrupt,
                   [](Graph& g) { node_named(g, "back").inputs[0] = "add.out"; }, "'add.out' is F32 and must be U8"},
                  {"codes quantized again", "again", kCorrupt,
                   [](Graph& g) { node_named(g, "again").inputs[0] = "up.out"; }, "must be F32"},
                  {"a sum of codes and float32", "add", kCorrupt,
                   [](Graph& g) { node_named(g, "add").op_type = "QLinearAdd"; }, "must be U8"},
                  {"float32 with a scale", "back", kCorrupt,
                   [](Graph& g) {
                     g.values["back.out"] = {
                         .dtype = DType::kF32, .shape = {}, .quantization = g.values["up.out"].quantization};
                   },
                   "quantization that differs"},
                  {"a weight for other features", "down", kCorrupt,
                   [](Graph& g) { node_named(g, "down").inputs[0] = "quantize.out"; }, "[any, 12]"}});
  Graph rows = testing::mixed_rows_artifact(3).graph;
  EXPECT_EQ(rows.values.at("up.out").shape, (Shape{kBatch, 5, 70}));
  EXPECT_EQ(rows.values.at("down.out").dtype, DType::kF32);
}

TEST(ShapeInference, NamesTheNodeOfAnEncoderThatIsWrong) {
  const auto scale = [](const std::string& value, float to) {
    return [=](Graph& g) { g.values[value].quantization->scales = {to}; };
  };
  expect_refused(
      testing::encoder_artifact(3).graph,
      {{"heads that do not divide", "attention0", kCorrupt, attribute("attention0", "q_num_heads", std::int64_t{5}),
        "kv_num_heads heads"},
       {"other heads of keys", "attention0", kCorrupt, attribute("attention0", "kv_num_heads", std::int64_t{4}), ""},
       {"no heads", "attention0", kCorrupt, attribute("attention0", "q_num_heads", std::int64_t{0}), ""},
       {"a mask", "attention0", kUnsupported, attribute("attention0", "is_causal", std::int64_t{1}), "is_causal"},
       {"float32 keys", "attention0", kCorrupt, [](Graph& g) { node_named(g, "attention0").inputs[1] = "input"; },
        "must be U8"},
       {"an operator of float graphs", "attention0", kUnsupported,
        [](Graph& g) { node_named(g, "attention0").op_type = "Attention"; }, "float graphs"},
       {"scores beyond float32", "attention0", kCorrupt,
        [](Graph& g) {
          for (const char* value : {"q0.out", "k0.out"}) g.values[value].quantization->scales = {1e15F};
        },
        "more than float32 holds"},
       {"the approximation", "gelu0", kUnsupported, attribute("gelu0", "approximate", std::string("tanh")), "tanh"},
       {"Gelu of codes", "gelu0", kCorrupt, [](Graph& g) { node_named(g, "gelu0").inputs[0] = "wide0.out"; },
        "must be F32"},
       {"scale 0 of an activation", "gelu0", kCorrupt, scale("gelu0.out", 0.0F)},
       {"epsilon 0", "norm_a0", kCorrupt, attribute("norm_a0", "epsilon", 0.0F), "epsilon"},
       {"another axis", "norm_a0", kUnsupported, attribute("norm_a0", "axis", std::int64_t{1}), "axis"},
       {"weights of other features", "norm_a0", kCorrupt,
        [](Graph& g) {
          g.initializers["norm_a0.weight"] = Initializer::f32({2}, {1.0F, 1.0F});
        },
        "[24]"},
       {"a weight that is no number", "norm_a0", kCorrupt,
        [](Graph& g) {
          g.initializers["norm_a0.bias"] = Initializer::f32({24}, std::vector<float>(24, std::nanf("")));
        },
        "entry 0"}});
}

TEST(ShapeInference, FloatGraphsHaveNoCodes) {
  Graph graph = encoder(1, {.layers = 1, .length = 4, .features = 8, .hidden = 8, .heads = 2});
  graph.values["layer0.gelu.out"].quantization = Quantization{.scales = {1.0F}, .zero_point = 0, .axis = -1};
  expect_refused(encoder(1, {.layers = 1, .length = 4, .features = 8, .hidden = 8, .heads = 2}),
                 {{"codes", "layer0.gelu", kCorrupt, [&](Graph& g) { g = graph; }, "computes in float32"}});
}

TEST(ShapeInference, NamesTheProductOfFloat32ThatIsWrong) {
  expect_refused(
      testing::dynamic_artifact(3).graph,
      {{"int8 where int4 belongs", "dynamic", kCorrupt,
        [](Graph& g) { node_named(g, "dynamic").op_type = "MatMulNBits"; }, "must be stored int4"},
       {"int4 where int8 belongs", "up", kCorrupt,
        [](Graph& g) { node_named(g, "up").op_type = "DynamicQuantizeMatMul"; },
        "is stored int4, which only MatMulNBits"},
       {"groups of 48", "up", kCorrupt, [](Graph& g) { g.initializers["up.weight"].group = 48; }, "groups of 48"},
       {"groups of 64 with the scales of 32", "up", kCorrupt, [](Graph& g) { g.initializers["up.weight"].group = 64; },
        "300 of scales"},
       {"a scale that is not finite", "up", kCorrupt,
        [](Graph& g) {
          Initializer& weight = g.initializers["up.weight"];
          std::vector<std::uint16_t> scales(weight.scales.as<std::uint16_t>().begin(),
                                            weight.scales.as<std::uint16_t>().end());
          scales[3] = 0x7C00;
          weight.scales = Buffer::copy_of(scales);
        },
        "row 1 group 1: the scale is negative or not finite"},
       {"a bias that is not finite", "up", kCorrupt,
        [](Graph& g) {
          std::vector<float> bias(150);
          bias[7] = std::numeric_limits<float>::infinity();
          g.initializers["up.bias"] = Initializer::f32({150}, bias);
        },
        "entry 7 of 'up.bias' is inf"},
       {"a bias of codes", "up", kCorrupt, [](Graph& g) { g.initializers["up.bias"].dtype = DType::kS32; },
        "is I32 and must be F32"},
       {"a scale beyond measure", "dynamic", kCorrupt,
        [](Graph& g) { g.initializers["dynamic.weight"].quantization->scales[5] = 1e33F; }, "the scales of channel 5"},
       {"8 bits", "up", kUnsupported, [](Graph& g) { node_named(g, "up").attributes["bits"] = std::int64_t{8}; },
        "'bits' must be 4"},
       {"another activation", "dynamic", kUnsupported,
        [](Graph& g) { node_named(g, "dynamic").attributes["fused_activation"] = std::string("Gelu"); }, "'Gelu'"},
       {"a weight of other features", "sparse", kCorrupt, [](Graph& g) { node_named(g, "sparse").inputs[0] = "input"; },
        "[any, 37]"}});
}

}  // namespace
}  // namespace pare::graph
