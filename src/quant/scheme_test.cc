#include "pare/quant/scheme.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/format/half.h"
#include "pare/graph/weights.h"
#include "pare/kernels/quantize_rows/quantize_rows.h"
#include "pare/quant/calibrate.h"
#include "pare/quant/convert.h"
#include "pare/quant/exact.h"
#include "pare/quant/integer_plan.h"
#include "pare/quant/qat.h"
#include "pare/quant/scheme_fake_quantize.h"
#include "pare/quant/testing/deployed.h"
#include "pare/quant/testing/networks.h"
#include "pare/runtime/session.h"
#include "pare/runtime/testing/integer_reference.h"

namespace pare::quant {
namespace {

using testing::NetworkBuilder;
using train::Model;

constexpr LayerScheme kStatic{};
constexpr LayerScheme kDynamic{.activation = ActivationScheme::kDynamicInt8};
constexpr LayerScheme int4(std::int64_t group, format::Int4Scale rule = format::Int4Scale::kAmaxOver7) {
  return {.activation = ActivationScheme::kDynamicInt8, .int4_group = group, .int4_scale = rule};
}

// Dense, masked 2:4, then quantization-aware: a few steps each.
std::unique_ptr<Model> trained(const graph::Graph& graph, const QATConfig& config, std::uint64_t seed,
                               std::vector<std::string>* masked = nullptr, int steps = 3) {
  auto model = std::make_unique<Model>(graph);
  const testing::Labelled data = testing::synthetic_data(graph, 32, seed);
  (void)testing::train_steps(*model, data, steps);
  if (masked != nullptr) {
    *masked = testing::mask_two_four(*model);
  }
  prepare_qat(*model, config);
  (void)testing::train_steps(*model, data, steps);
  finish_qat(*model);
  return model;
}

// ---- which layer gets which ----

TEST(PlanSchemes, TheLastExceptionThatMatchesDecides) {
  const graph::Graph graph = testing::odd_mlp(1);
  const auto planned = plan_schemes(graph, kDynamic, {{"fc*.weight", int4(64)}, {"fc3.weight", kStatic}});
  EXPECT_EQ(planned.at("fc1.weight").scheme, int4(64));
  EXPECT_EQ(planned.at("fc2.weight").scheme, int4(64));
  EXPECT_EQ(planned.at("fc3.weight").scheme, kStatic);
  EXPECT_EQ(plan_schemes(graph, kDynamic, {}).at("fc2.weight").scheme, kDynamic);
}

TEST(PlanSchemes, ConvolutionsStayStaticWithTheReason) {
  const graph::Graph graph = testing::tiny_convnet(1);
  for (const auto& planned :
       {plan_schemes(graph, int4(32), {}), plan_schemes(graph, kStatic, {{"*.weight", int4(32)}})}) {
    EXPECT_EQ(planned.at("conv2.weight").scheme, kStatic);
    EXPECT_NE(planned.at("conv2.weight").note.find("convolutions have kernels for uint8"), std::string::npos);
    EXPECT_EQ(planned.at("fc1.weight").scheme, int4(32));
    EXPECT_EQ(planned.at("fc1.weight").note, "");
  }
  EXPECT_EQ(plan_schemes(graph, kStatic, {}).at("conv1.weight").note, "");
  EXPECT_PARE_ERROR(plan_schemes(graph, kStatic, {{"conv2.weight", int4(32)}}), kUnsupported,
                    "a convolution cannot be dynamic int8 x int4 group 32");
}

TEST(PlanSchemes, BadRequestsAreErrors) {
  const graph::Graph graph = testing::odd_mlp(1);
  EXPECT_PARE_ERROR(plan_schemes(graph, int4(48), {}), kInvalidArgument, "groups of 48");
  EXPECT_PARE_ERROR(plan_schemes(graph, kStatic, {{"fc1.weight", int4(-32)}}), kInvalidArgument, "32, 64, 128 or 256");
  EXPECT_PARE_ERROR(plan_schemes(graph, {.int4_group = 32}, {}), kUnsupported, "dynamic_int8");
  EXPECT_PARE_ERROR(plan_schemes(graph, kStatic, {{"fc1.wieght", kDynamic}}), kNotFound, "did you mean 'fc1.weight'");
}

TEST(PlanSchemes, SchemesHaveNames) {
  EXPECT_EQ(to_string(kStatic), "uint8 x int8");
  EXPECT_EQ(to_string(kDynamic), "dynamic int8 x int8");
  EXPECT_EQ(to_string(int4(128)), "dynamic int8 x int4 group 128");
}

// ---- where codes and float32 meet ----

struct ExpectedNode {
  std::string name, op_type;
  std::vector<std::string> values;  // that it reads
  std::string output;
};

void expect_nodes(const graph::Graph& graph, const std::vector<ExpectedNode>& expected) {
  ASSERT_EQ(graph.nodes.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(expected[i].name);
    const graph::Node& node = graph.nodes[i];
    EXPECT_EQ(node.name, expected[i].name);
    EXPECT_EQ(node.op_type, expected[i].op_type);
    EXPECT_EQ(node.output, expected[i].output);
    std::vector<std::string> values;
    for (const std::string& input : node.inputs) {
      if (graph.values.contains(input)) {
        values.push_back(input);
      }
    }
    EXPECT_EQ(values, expected[i].values);
  }
}

TEST(QuantizeSchemes, AnImageIsCodesAndDynamicLayersReadFloat32) {
  const auto model = trained(testing::odd_mlp(1), {.scheme = kDynamic}, 1);
  const graph::Graph graph = quantize_(*model);
  expect_nodes(graph, {{"quantize_input", "QuantizeLinear", {"input"}, "quantize_input.out"},
                       {"flatten", "Flatten", {"quantize_input.out"}, "flatten.out"},
                       {"flatten.out.dequantize", "DequantizeLinear", {"flatten.out"}, "flatten.out.dequantized"},
                       {"fc1", "DynamicQuantizeMatMul", {"flatten.out.dequantized"}, "relu1.out"},
                       {"fc2", "DynamicQuantizeMatMul", {"relu1.out"}, "relu2.out"},
                       {"fc3", "DynamicQuantizeMatMul", {"relu2.out"}, "logits"}});
  EXPECT_EQ(graph.node("fc1").string_attribute("fused_activation", ""), "Relu");
  EXPECT_EQ(graph.node("fc2").inputs.size(), 2U);  // no bias
  EXPECT_EQ(graph.node("fc3").string_attribute("fused_activation", ""), "");
  EXPECT_EQ(graph.values.at("relu1.out").dtype, DType::kF32);
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc3")), to_string(kDynamic));
  EXPECT_EQ(model->activation_quantizers().size(), 1U);  // the input's
}

TEST(QuantizeSchemes, StaticAndDynamicLayersMeetInFloat32) {
  const auto model = trained(testing::odd_mlp(2), {.layers = {{"fc2.weight", int4(32)}}}, 2);
  const graph::Graph graph = quantize_(*model);
  expect_nodes(graph, {{"quantize_input", "QuantizeLinear", {"input"}, "quantize_input.out"},
                       {"flatten", "Flatten", {"quantize_input.out"}, "flatten.out"},
                       {"fc1", "QGemm", {"flatten.out"}, "relu1.out"},
                       {"fc2", "MatMulNBits", {"relu1.out"}, "relu2.out.unquantized"},
                       {"relu2.out.quantize", "QuantizeLinear", {"relu2.out.unquantized"}, "relu2.out"},
                       {"fc3", "QGemm", {"relu2.out"}, "logits"}});
  EXPECT_EQ(graph.values.at("relu1.out").dtype, DType::kF32);
  EXPECT_EQ(graph.values.at("relu2.out").dtype, DType::kU8);
  EXPECT_EQ(graph.initializer("fc2.weight").encoding, graph::Encoding::kInt4);
  EXPECT_EQ(graph.initializer("fc2.weight").group, 32);
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc2")), to_string(int4(32)));
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc1")), to_string(kStatic));
}

TEST(QuantizeSchemes, WhatReadersOfBothKindsReadIsCodesForAll) {
  graph::Graph source = NetworkBuilder(3, {1, 4, 5})
                            .flatten("flatten")
                            .gemm("fc1", {20, 20})
                            .relu("relu1")
                            .gemm("fc2", {20, 20})
                            .add("add", "relu1.out")
                            .gemm("fc3", {testing::kTinyClasses, 20})
                            .finish();
  const IntegerPlan plan = plan_integer_graph(source, {"fc1", "fc2"});
  std::vector<std::string> order;
  for (const IntegerLayer& layer : plan.layers) {
    order.push_back(layer.node + ": " + layer.inputs[0] + " -> " + layer.output);
  }
  EXPECT_EQ(order,
            (std::vector<std::string>{
                "quantize_input: input -> quantize_input.out", "flatten: quantize_input.out -> flatten.out",
                "flatten.out.dequantize: flatten.out -> flatten.out.dequantized",
                "fc1: flatten.out.dequantized -> relu1.out.unquantized",
                "relu1.out.quantize: relu1.out.unquantized -> relu1.out",
                "relu1.out.dequantize: relu1.out -> relu1.out.dequantized",
                "fc2: relu1.out.dequantized -> fc2.out.unquantized", "fc2.out.quantize: fc2.out.unquantized -> fc2.out",
                "add: fc2.out -> add.out", "fc3: add.out -> logits"}));
  EXPECT_EQ(plan.quantized_values, (std::vector<std::string>{"input", "relu1.out", "fc2.out", "add.out"}));
  source.nodes[1].name = "fc1.quantize";
  EXPECT_PARE_ERROR(plan_integer_graph(source, {"fc2"}), kUnsupported, "'.quantize'");
}

// ---- fake-quantizers ----

TEST(RowFakeQuantizer, GivesWhatTheRuntimesRowsStandFor) {
  Rng rng(11);
  RowFakeQuantizer quantizer("fc1");
  for (const std::int64_t k : {1, 3, 8, 33, 200}) {
    const std::int64_t rows = 7;
    torch::Tensor x = torch::empty({rows, k});
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const float magnitude = std::ldexp(1.0F, static_cast<int>(i / k) * 12 - 40);  // down to scales below the least
      x.data_ptr<float>()[i] = rng.below(5) == 0 ? 0.0F : magnitude * rng.normal();
    }
    x[6].zero_();
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * k));
    std::vector<float> scales(static_cast<std::size_t>(rows));
    kernels::QuantizeRowsArgs args;
    args.x = x.data_ptr<float>();
    args.x_stride_elems = args.k = args.codes_stride_bytes = args.k_padded = k;
    args.codes = codes.data();
    args.scale = scales.data();
    kernels::reference_quantize_rows(args, rows);
    const torch::Tensor y = quantizer.forward(x);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const float expected = static_cast<float>(static_cast<std::int8_t>(codes[static_cast<std::size_t>(i)])) *
                             scales[static_cast<std::size_t>(i / k)];
      ASSERT_EQ(y.data_ptr<float>()[i], expected) << "k " << k << ", element " << i;
    }
  }
}

TEST(RowFakeQuantizer, HandsGradientsThroughAndCanBeSwitchedOff) {
  RowFakeQuantizer quantizer("fc1");
  const torch::Tensor x = torch::randn({2, 3, 5}).requires_grad_();
  const torch::Tensor factors = torch::randn({2, 3, 5});
  (quantizer.forward(x) * factors).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), factors));
  quantizer.enable_fake_quant(false);
  EXPECT_TRUE(quantizer.forward(x).is_same(x));
}

TEST(RowFakeQuantizer, RefusesWhatIsNotFinite) {
  RowFakeQuantizer quantizer("fc1");
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    torch::Tensor x = torch::ones({2, 9});
    x[1][4] = bad;
    EXPECT_PARE_ERROR(quantizer.forward(x), kNumeric, "fc1");
  }
  EXPECT_PARE_ERROR(quantizer.forward(torch::ones({2, 2}, torch::kFloat64)), kInvalidArgument, "float32");
}

torch::Tensor odd_weights(Rng& rng, std::int64_t n, std::int64_t k) {
  torch::Tensor w = torch::empty({n, k});
  for (std::int64_t i = 0; i < w.numel(); ++i) {
    const std::uint64_t kind = rng.below(40);
    // Now and then what rounds to subnormal float16 scales, to 0, or past the largest.
    const float magnitude = kind == 0 ? 1e6F : 0.1F;
    w.data_ptr<float>()[i] = rng.below(4) == 0 ? 0.0F : magnitude * rng.normal();
  }
  w.slice(1, 0, std::min<std::int64_t>(k, 32)).slice(0, 0, 1).mul_(1e-6F);
  w.slice(0, n - 1, n).mul_(1e-9F);
  return w;
}

TEST(GroupFakeQuantizer, EqualsTheFormatBitForBit) {
  Rng rng(12);
  for (const format::Int4Scale rule : {format::Int4Scale::kAmaxOver7, format::Int4Scale::kAmaxOver7p5}) {
    for (const std::int64_t group : {32, 64, 128, 256}) {
      for (const std::int64_t k : {1, 31, 32, 33, 100, 257}) {
        const std::int64_t n = 5;
        const torch::Tensor w = odd_weights(rng, n, k);
        const format::Int4Codes expected = format::quantize_int4(
            {w.data_ptr<float>(), static_cast<std::size_t>(w.numel())}, {format::Int4Form::kDense, n, k, group}, rule);
        GroupFakeQuantizer quantizer("fc1.weight", n, k, group, rule);
        const torch::Tensor codes = quantizer.quantize(w);
        const torch::Tensor scales = quantizer.scale().clone();
        const torch::Tensor used = quantizer.forward(w);
        ASSERT_EQ(scales.numel(), static_cast<std::int64_t>(expected.scales.size()));
        for (std::int64_t i = 0; i < scales.numel(); ++i) {
          ASSERT_EQ(scales.data_ptr<float>()[i], format::float_from_half(expected.scales[static_cast<std::size_t>(i)]));
        }
        const std::int64_t groups = scales.size(1);
        for (std::int64_t i = 0; i < w.numel(); ++i) {
          const auto code = static_cast<float>(expected.codes[static_cast<std::size_t>(i)]);
          ASSERT_EQ(codes.data_ptr<double>()[i], static_cast<double>(code)) << i;
          ASSERT_EQ(used.data_ptr<float>()[i], code * scales.data_ptr<float>()[i / k * groups + i % k / group]) << i;
        }
      }
    }
  }
}

TEST(GroupFakeQuantizer, TheGradientIsBlockedWhereACodeClips) {
  // amax / 7.5: 7.5 steps round to 8, which clips; -7.5 to -8, which does not.
  torch::Tensor w = torch::tensor({{7.5F, -7.5F, 7.4F, 1.0F}}).requires_grad_();
  GroupFakeQuantizer torchao("fc1.weight", 1, 4, 32, format::Int4Scale::kAmaxOver7p5);
  const torch::Tensor y = torchao.forward(w);
  EXPECT_TRUE(torch::equal(y, torch::tensor({{7.0F, -8.0F, 7.0F, 1.0F}})));
  y.sum().backward();
  EXPECT_TRUE(torch::equal(w.grad(), torch::tensor({{0.0F, 1.0F, 1.0F, 1.0F}})));
  w.mutable_grad() = torch::Tensor();
  GroupFakeQuantizer own("fc1.weight", 1, 4, 32);
  own.forward(w).sum().backward();
  EXPECT_TRUE(torch::equal(w.grad(), torch::ones({1, 4})));
  // A group that rounds to 0 as a whole can still learn.
  torch::Tensor tiny = torch::full({1, 4}, 1e-9F).requires_grad_();
  const torch::Tensor zeros = own.forward(tiny);
  EXPECT_TRUE(torch::equal(zeros, torch::zeros({1, 4})));
  zeros.sum().backward();
  EXPECT_TRUE(torch::equal(tiny.grad(), torch::ones({1, 4})));
}

TEST(GroupFakeQuantizer, BadWeightsAreErrors) {
  EXPECT_PARE_ERROR(GroupFakeQuantizer("fc1.weight", 2, 4, 48), kInvalidArgument, "groups of 48");
  GroupFakeQuantizer quantizer("fc1.weight", 2, 40, 32);
  torch::Tensor w = torch::ones({2, 40});
  EXPECT_PARE_ERROR(quantizer.forward(torch::ones({40, 2})), kInvalidArgument, "2 x 40");
  w[1][39] = std::nanf("");
  EXPECT_PARE_ERROR(quantizer.forward(w), kNumeric, "fc1.weight");
  EXPECT_PARE_ERROR(quantizer.quantize(w), kNumeric, "fc1.weight");
}

// Any mask, any scheme: what is masked is exactly +0, as a code and as used.
TEST(Schemes, AMaskedWeightStaysExactlyZeroUnderEveryScheme) {
  const std::uint64_t seed = 13;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  const std::vector<LayerScheme> schemes = {kStatic,
                                            kDynamic,
                                            int4(32),
                                            int4(64, format::Int4Scale::kAmaxOver7p5),
                                            int4(128),
                                            int4(256),
                                            int4(32, format::Int4Scale::kAmaxOver7p5)};
  for (int round = 0; round < 60; ++round) {
    const LayerScheme& scheme = schemes[static_cast<std::size_t>(round) % schemes.size()];
    Model model(testing::odd_mlp(seed + static_cast<std::uint64_t>(round)));
    const double share = rng.uniform();
    for (const auto& weight : model.weights()) {
      const torch::NoGradGuard no_gradient;
      torch::Tensor mask = (torch::rand(weight->dense().sizes()) < share).to(torch::kFloat32);
      weight->dense().copy_(odd_weights(rng, weight->dense().size(0), weight->dense().size(1)));
      // What lies under a mask may be anything.
      weight->dense().masked_fill_(mask == 0, rng.below(2) == 0 ? std::nanf("") : -1e30F);
      weight->set_mask(mask);
    }
    prepare_qat(model, {.scheme = scheme});
    for (const auto& weight : model.weights()) {
      const torch::Tensor masked = weight->mask() == 0;
      const torch::Tensor used = weight->used().detach();
      EXPECT_FALSE((used.masked_select(masked) != 0).any().item<bool>()) << to_string(scheme);
      EXPECT_FALSE(torch::signbit(used.masked_select(masked)).any().item<bool>()) << to_string(scheme);
      EXPECT_FALSE((weight->codes().masked_select(masked) != 0).any().item<bool>()) << to_string(scheme);
    }
  }
}

// ---- the same numbers everywhere ----

graph::Artifact artifact_of(const graph::Graph& graph, const std::vector<LayerDecision>& decisions) {
  const auto channels = static_cast<std::size_t>(graph.values.at(graph.input).shape[1]);
  return make_artifact(graph, decisions,
                       {.mean = std::vector<float>(channels, testing::kPixelMean),
                        .std = std::vector<float>(channels, testing::kPixelStd)},
                       {"a", "b", "c", "d", "e"});
}

void expect_reference(const std::map<std::string, torch::Tensor>& shown, const graph::Artifact& artifact,
                      const torch::Tensor& inputs, std::int64_t first, std::int64_t last) {
  const runtime::testing::IntegerReference reference(artifact);
  for (std::int64_t image = first; image < last; ++image) {
    const torch::Tensor one = inputs[image].contiguous();
    const auto values =
        reference.run_reals(std::vector<float>(one.data_ptr<float>(), one.data_ptr<float>() + one.numel()));
    ASSERT_EQ(values.size(), shown.size());
    for (const auto& [name, value] : values) {
      ASSERT_TRUE(shown.contains(name)) << name;
      const torch::Tensor own = shown.at(name)[image].contiguous();
      ASSERT_EQ(own.numel(), static_cast<std::int64_t>(value.codes.size() + value.reals.size())) << name;
      for (std::int64_t i = 0; i < own.numel(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (value.reals.empty()) {
          ASSERT_EQ(own.data_ptr<double>()[i], static_cast<double>(value.codes[at])) << name << ", element " << i;
        } else {
          ASSERT_EQ(std::memcmp(own.data_ptr<float>() + i, &value.reals[at], sizeof(float)), 0)
              << name << ", element " << i << ": " << own.data_ptr<float>()[i] << " and " << value.reals[at];
        }
      }
    }
  }
}

struct Case {
  std::string name;
  graph::Graph graph;
  QATConfig config;
};

std::vector<Case> scheme_cases(std::uint64_t seed) {
  const LayerScheme torchao = int4(32, format::Int4Scale::kAmaxOver7p5);
  return {{"dynamic mlp", testing::odd_mlp(seed), {.scheme = kDynamic}},
          {"int4 mlp", testing::odd_mlp(seed), {.scheme = int4(32)}},
          {"mixed mlp", testing::odd_mlp(seed), {.scheme = int4(64), .layers = {{"fc2.weight", kStatic}}}},
          {"mixed mlp the other way", testing::odd_mlp(seed), {.layers = {{"fc2.weight", torchao}}}},
          {"dynamic convnet", testing::tiny_convnet(seed), {.scheme = kDynamic}},
          {"int4 convnet", testing::tiny_convnet(seed), {.scheme = int4(32)}},
          {"int4 resnet", testing::tiny_resnet(seed), {.scheme = int4(256)}}};
}

// What exact_forward says, a converted graph in scalars, dense and packed, and the runtime from the file: bit for bit.
TEST(Schemes, ExactForwardScalarsAndRuntimeAgreeForEveryScheme) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    for (const Case& item : scheme_cases(seed)) {
      SCOPED_TRACE(item.name + ", seed " + std::to_string(seed));
      std::vector<std::string> masked;
      const auto model = trained(item.graph, item.config, seed, &masked);

      const testing::Images images = testing::random_images(item.graph.values.at("input").shape, 21, seed);
      std::map<std::string, torch::Tensor> shown;
      const torch::Tensor logits =
          exact_forward(*model, images.normalized, [&](const std::string& value, const torch::Tensor& tensor) {
            EXPECT_TRUE(shown.emplace(value, tensor.contiguous()).second) << value << " is shown twice";
          });
      graph::Graph graph = quantize_(*model);
      expect_reference(shown, artifact_of(graph, {}), images.normalized, 0, 3);
      const std::vector<LayerDecision> decisions = sparsify_(graph, {}, masked);
      const graph::Artifact artifact = artifact_of(graph, decisions);
      expect_reference(shown, artifact, images.normalized, 3, 5);
      for (const LayerDecision& decision : decisions) {
        const graph::Initializer& weight = graph.initializer(decision.weight);
        if (item.config.scheme.is_int4() && weight.is_int4()) {
          EXPECT_EQ(weight.encoding, graph::Encoding::kInt4TwoFour);
          EXPECT_EQ(decision.pattern, "2:4");
        }
      }

      const pare::testing::TempDir folder;
      graph::write_artifact(folder / "model.pare", artifact);
      const graph::VerifyReport report = graph::verify_artifact(folder / "model.pare");
      EXPECT_TRUE(report.ok()) << (report.findings.empty() ? "" : report.findings[0].problem);
      runtime::Session session = runtime::Session::load(folder / "model.pare", {.threads = 2, .max_batch = 32});
      testing::expect_runtime_gives(session, images, shown, logits);
    }
  }
}

// Fake-quantized training sees what is deployed, but for the order in which floats are added.
TEST(Schemes, FakeQuantizedEvaluationIsTheExactOneUpToRounding) {
  for (const Case& item : scheme_cases(5)) {
    SCOPED_TRACE(item.name);
    const auto model = trained(item.graph, item.config, 5);
    const torch::NoGradGuard no_gradient;
    model->eval();
    const testing::Labelled data = testing::synthetic_data(item.graph, 100, 9);
    const torch::Tensor fake = model->forward(data.inputs);
    const torch::Tensor exact = exact_forward(*model, data.inputs);
    EXPECT_LT((fake - exact).abs().mean().item<double>(), 0.02 * fake.abs().mean().item<double>());
  }
}

TEST(Schemes, AReloadedModelComputesTheSame) {
  for (const Case& item : scheme_cases(6)) {
    SCOPED_TRACE(item.name);
    const auto model = trained(item.graph, item.config, 6);
    std::map<std::string, torch::Tensor> state;
    for (const auto& [name, tensor] : model->state()) {
      state[name] = tensor.clone();
    }
    Model reloaded(item.graph);
    prepare_qat(reloaded, item.config);
    reloaded.load_state(state);
    const torch::Tensor inputs = testing::synthetic_data(item.graph, 4, 7).inputs;
    EXPECT_TRUE(torch::equal(exact_forward(reloaded, inputs), exact_forward(*model, inputs)));
    // A state of another scheme does not fit.
    Model other(item.graph);
    prepare_qat(other, {.scheme = item.config.scheme.is_int4() ? kDynamic : int4(128)});
    EXPECT_PARE_ERROR(other.load_state(state), kCorruptData, "");
  }
}

TEST(Schemes, CalibrationWorksForEveryScheme) {
  for (const Case& item : scheme_cases(7)) {
    SCOPED_TRACE(item.name);
    Model model(item.graph);
    const testing::Labelled data = testing::synthetic_data(item.graph, 64, 7);
    (void)testing::train_steps(model, data, 30, {.lr = 1e-2});
    model.eval();
    const torch::Tensor real = model.forward(data.inputs).detach();
    prepare_qat(
        model,
        {.observer = {.kind = ObserverKind::kMinMax}, .scheme = item.config.scheme, .layers = item.config.layers});
    calibrate(
        model,
        {.batches = 2, .batch = [&](std::int64_t i) { return data.inputs.narrow(0, 32 * i, 32); }, .progress = {}});
    finish_qat(model);
    const torch::Tensor exact = exact_forward(model, data.inputs);
    // int4 loses up to a 14th of a weight, and errors of many weights average out.
    EXPECT_LT((exact - real).abs().mean().item<double>(), 0.2 * real.abs().mean().item<double>());
  }
}

TEST(Schemes, DivergedBiasesAreErrorsBeforeAnythingIsWritten) {
  const auto model = trained(testing::odd_mlp(8), {.scheme = kDynamic}, 8);
  {
    const torch::NoGradGuard no_gradient;
    model->bias("fc3")[2] = std::nanf("");
  }
  EXPECT_PARE_ERROR(quantize_(*model), kNumeric, "the bias of channel 2");
  EXPECT_PARE_ERROR(exact_forward(*model, torch::zeros({1, 1, 7, 11})), kNumeric, "node 'fc3'");
}

TEST(Sparsify, Int4WeightsHaveNoFormForSharedMasks) {
  std::vector<std::string> masked;
  const auto model = trained(testing::odd_mlp(9), {.scheme = int4(32)}, 9, &masked);
  graph::Graph graph = quantize_(*model);
  const auto decisions = sparsify_(graph, {.pattern = "16:2:4"}, {});
  EXPECT_EQ(decisions[0].pattern, "dense");
  EXPECT_EQ(decisions[0].note, "int4 weights are packed 2:4 or dense, not 16:2:4");
  EXPECT_EQ(graph.initializer("fc1.weight").encoding, graph::Encoding::kInt4);
}

}  // namespace
}  // namespace pare::quant
