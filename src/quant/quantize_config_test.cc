#include "pare/quant/quantize_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/testing.h"
#include "pare/format/half.h"
#include "pare/graph/weights.h"
#include "pare/quant/convert.h"
#include "pare/quant/scheme_fake_quantize.h"
#include "pare/quant/testing/networks.h"

namespace pare::quant {
namespace {

using train::Model;

constexpr LayerScheme kStatic{};
constexpr LayerScheme kDynamic{.activation = ActivationScheme::kDynamicInt8};
constexpr LayerScheme int4(std::int64_t group) {
  return {.activation = ActivationScheme::kDynamicInt8, .int4_group = group};
}

TEST(QuantizeApi, ConfigsByTorchAosNames) {
  EXPECT_EQ(scheme_of(Int8StaticActivationInt8WeightConfig{}), kStatic);
  EXPECT_EQ(scheme_of(Int8DynamicActivationInt8WeightConfig{}), kDynamic);
  EXPECT_EQ(scheme_of(Int8DynamicActivationInt4WeightConfig{}), int4(32));
  EXPECT_EQ(scheme_of(Int8DynamicActivationInt4WeightConfig{.group_size = 256}), int4(256));
  EXPECT_EQ(scheme_of(Int4WeightOnlyConfig{}), int4(128));
  EXPECT_EQ(scheme_of(Int8WeightOnlyConfig{}), kDynamic);
  EXPECT_PARE_ERROR(scheme_of(Int4WeightOnlyConfig{.group_size = 48}), kInvalidArgument, "32, 64, 128 or 256");
  EXPECT_PARE_ERROR(scheme_of(Int4WeightOnlyConfig{.group_size = 0}), kInvalidArgument, "32, 64, 128 or 256");
  EXPECT_PARE_ERROR(scheme_of(Int8WeightOnlyConfig{.accuracy_level = 0}), kUnsupported, "accuracy_level = 4");
  using Type = IntxFakeQuantizeConfig::Type;
  const IntxFakeQuantizeConfig rows{};
  const IntxFakeQuantizeConfig tensor{.dtype = Type::kUint8, .is_symmetric = false, .is_dynamic = false};
  EXPECT_EQ(scheme_of(rows, IntxFakeQuantizeConfig{}), kDynamic);
  EXPECT_EQ(scheme_of(tensor, IntxFakeQuantizeConfig{}), kStatic);
  EXPECT_EQ(scheme_of(rows, {.dtype = Type::kInt4, .group_size = 64}), int4(64));
  EXPECT_PARE_ERROR(scheme_of(tensor, {.dtype = Type::kInt4, .group_size = 64}), kUnsupported, "row by row");
  EXPECT_PARE_ERROR(scheme_of(rows, {.dtype = Type::kInt4}), kUnsupported, "in groups of");
  EXPECT_PARE_ERROR(scheme_of(rows, {.is_symmetric = false}), kUnsupported, "symmetric");
  EXPECT_PARE_ERROR(scheme_of({.is_symmetric = false}, IntxFakeQuantizeConfig{}), kUnsupported, "per row");
}

TEST(QuantizeApi, CallsWithFiltersAddUpUntilDataWereSeen) {
  const graph::Graph source = testing::odd_mlp(21);
  Model model(source);
  const auto is = [](const std::string& wanted) {
    return [wanted](const std::string& name) { return name == wanted; };
  };
  quantize_(model, Int8DynamicActivationInt8WeightConfig{});
  quantize_(model, Int4WeightOnlyConfig{.group_size = 32}, is("fc2.weight"));
  quantize_(model, Int8StaticActivationInt8WeightConfig{}, is("fc3.weight"));
  EXPECT_PARE_ERROR(quantize_(model, Int8WeightOnlyConfig{}, is("fc9.weight")), kNotFound,
                    "the filter accepts no weight");
  const testing::Labelled data = testing::synthetic_data(source, 16, 21);
  (void)testing::train_steps(model, data, 2);
  EXPECT_PARE_ERROR(quantize_(model, Int8WeightOnlyConfig{}), kState, "before training or calibrating");
  finish_qat(model);
  const graph::Graph graph = quantize_(model);
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc1")), "dynamic int8 x int8");
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc2")), "dynamic int8 x int4 group 32");
  EXPECT_EQ(graph::scheme_of(graph, graph.node("fc3")), "uint8 x int8");

  Model images(testing::tiny_convnet(22));
  quantize_(images, Int8DynamicActivationInt4WeightConfig{});
  EXPECT_EQ(images.weight("conv1.weight").fake_quantizer()->group(), 0);
  EXPECT_EQ(images.weight("fc1.weight").fake_quantizer()->group(), 32);
}

// torchao_groupwise.json: what TorchAO 0.18 makes of two weights, dense and 2:4.
TEST(TorchAoGoldens, GroupScalesAndCodesAreTheirsUpToTheFloat16Scale) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/torchao_groupwise.json");
  const nlohmann::json goldens = nlohmann::json::parse(file);
  ASSERT_EQ(goldens.at("cases").size(), 2U);
  for (const nlohmann::json& item : goldens.at("cases")) {
    SCOPED_TRACE(item.at("weight_name").get<std::string>());
    const auto numbers = [&](const char* key, const char* part) {
      return item.at(key).at(part).at("data").get<std::vector<float>>();
    };
    const auto weight = item.at("weight").at("data").get<std::vector<float>>();
    const torch::Tensor w = torch::tensor(weight).view({4, 64}).requires_grad_();
    GroupFakeQuantizer quantizer("w", 4, 64, 32, format::Int4Scale::kAmaxOver7p5);
    const torch::Tensor used = quantizer.forward(w);
    const torch::Tensor codes = quantizer.quantize(w.detach());
    used.sum().backward();
    const std::vector<float> scales = numbers("get_group_qparams_symmetric_n4_g32", "scale");
    const std::vector<float> their_codes = numbers("Int8DynamicActivationIntxWeightConfig_int4_g32_symmetric", "qdata");
    const std::vector<float> converted = numbers("8da4w_convert", "weight");
    std::int64_t blocked = 0;
    const auto their_used = item.at("8da4w_QAT_fake_quant_weight").get<std::vector<float>>();
    for (std::size_t group = 0; group < 8; ++group) {
      const float own = quantizer.scale().data_ptr<float>()[group];
      // Theirs of a group of zeros is 0 or the least float32; in float16 both are 0.
      EXPECT_EQ(own, format::float_from_half(format::half_from_float(scales[group])));
      for (std::size_t i = group * 32; i < group * 32 + 32; ++i) {
        const double code = codes.data_ptr<double>()[i];
        // Float16 moves a scale by 2^-11, 8 steps by 2^-8: only what lies that near a tie may round the other way.
        const double steps = own == 0.0F ? 0.0 : static_cast<double>(weight[i]) / static_cast<double>(own);
        const bool near_tie = std::fabs(std::fabs(steps - std::trunc(steps)) - 0.5) < 0x1p-8;
        if (!near_tie) {
          EXPECT_EQ(code, their_codes[i]) << i;
          EXPECT_EQ(code, converted[i]) << i;
          EXPECT_NEAR(used.data_ptr<float>()[i], their_used[i], std::fabs(their_used[i]) * 0x1.1p-11) << i;
        }
        EXPECT_LE(std::fabs(code - static_cast<double>(their_codes[i])), near_tie ? 1.0 : 0.0);
        // As theirs, the gradient passes where the rounded code is within the bounds: not where 7.5 steps clip.
        const bool passes =
            own == 0.0F || format::fake_quantize_passes_gradient(weight[i], {own, 0}, format::kInt4Range);
        EXPECT_EQ(w.grad().data_ptr<float>()[i], passes ? 1.0F : 0.0F) << i << " at " << steps;
        blocked += passes ? 0 : 1;
      }
    }
    EXPECT_GT(blocked, 0);
    // By default nothing clips: the largest weight of each group is a code 7 or -7.
    GroupFakeQuantizer own("w", 4, 64, 32);
    const torch::Tensor largest = own.quantize(w.detach()).view({4, 2, 32}).abs().amax(2);
    EXPECT_TRUE(((largest == 7) | (own.scale() == 0)).all().item<bool>());
  }
}

// Per channel: TorchAO divides by 127.5 where pare divides by 127 (no code of either is -128); else the formula is one.
TEST(TorchAoGoldens, Int8CodesAreTheirsWithTheirScales) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/torchao_groupwise.json");
  const nlohmann::json goldens = nlohmann::json::parse(file);
  for (const nlohmann::json& item : goldens.at("cases")) {
    const auto weight = item.at("weight").at("data").get<std::vector<float>>();
    WeightFakeQuantizer quantizer("w", 4);
    (void)quantizer.forward(torch::tensor(weight).view({4, 64}));
    for (const char* name :
         {"Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "IntxWeightOnly_int8_axis0_symmetric"}) {
      SCOPED_TRACE(name);
      const auto scales = item.at(name).at("scale").at("data").get<std::vector<float>>();
      const auto codes = item.at(name).at("qdata").at("data").get<std::vector<int>>();
      for (std::size_t i = 0; i < weight.size(); ++i) {
        EXPECT_EQ(format::quantize(weight[i], {scales[i / 64], 0}, format::kInt8Range), codes[i]) << i;
      }
      for (std::size_t channel = 0; channel < 4; ++channel) {
        // Two roundings of float32.
        EXPECT_NEAR(quantizer.scale().data_ptr<float>()[channel], scales[channel] * (127.5 / 127.0),
                    scales[channel] * 0x1p-22);
      }
    }
  }
}

}  // namespace
}  // namespace pare::quant
