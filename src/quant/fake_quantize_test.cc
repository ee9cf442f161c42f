#include "pare/quant/fake_quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/quant/range_search.h"

namespace pare::quant {
namespace {

using nlohmann::json;

json read_goldens(const std::string& name) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
  return json::parse(file);
}

// Shortest decimals that identify float32 values.
std::vector<float> floats(const json& list) {
  std::vector<float> values;
  for (const json& item : list) {
    values.push_back(item.get<float>());
  }
  return values;
}

torch::Tensor tensor_of(const json& encoded) {
  return torch::tensor(floats(encoded.at("data"))).view(encoded.at("shape").get<std::vector<std::int64_t>>());
}

// Same shape and the same bits, the sign of zero included.
void expect_same_bits(const torch::Tensor& found, const torch::Tensor& expected, const std::string& what) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  const torch::Tensor a = found.detach().contiguous().flatten();
  const torch::Tensor b = expected.detach().contiguous().flatten();
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const float x = a.data_ptr<float>()[i];
    const float y = b.data_ptr<float>()[i];
    ASSERT_TRUE(x == y && std::signbit(x) == std::signbit(y)) << what << ", element " << i << ": " << x << " and " << y;
  }
}

torch::Tensor random_tensor(std::vector<std::int64_t> shape, std::uint64_t seed, float factor = 1.0F) {
  Rng rng(seed);
  torch::Tensor x = torch::empty(shape);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data_ptr<float>()[i] = rng.normal() * factor;
  }
  return x;
}

std::string gradient_bits(const torch::Tensor& x) {
  std::string bits;
  const torch::Tensor grad = x.grad().contiguous().flatten();
  for (std::int64_t i = 0; i < grad.numel(); ++i) {
    bits += grad.data_ptr<float>()[i] == 1.0F ? '1' : '0';
  }
  return bits;
}

TEST(FakeQuantize, PerTensorGoldensOfTorchAreMet) {
  const json goldens = read_goldens("fake_quant.json");
  ASSERT_GT(goldens.at("per_tensor").size(), 5U);
  for (const json& c : goldens.at("per_tensor")) {
    torch::Tensor x = torch::tensor(floats(c.at("x"))).requires_grad_(true);
    const format::AffineParams params{c.at("scale").get<float>(), c.at("zero_point")};
    const torch::Tensor y = fake_quantize_per_tensor(x, params, {c.at("qmin"), c.at("qmax")});
    y.sum().backward();
    EXPECT_TRUE(torch::equal(y, torch::tensor(floats(c.at("y"))))) << c.at("name");
    EXPECT_EQ(gradient_bits(x), c.at("grad_x_for_ones").get<std::string>()) << c.at("name");
  }
}

// One scale and zero point a channel: the per-tensor operation, channel by channel.
TEST(FakeQuantize, PerChannelGoldensOfTorchAreMet) {
  const json goldens = read_goldens("fake_quant.json");
  ASSERT_GT(goldens.at("per_channel").size(), 3U);
  for (const json& c : goldens.at("per_channel")) {
    torch::Tensor x = tensor_of(c.at("x")).requires_grad_(true);
    const std::int64_t axis = c.at("axis");
    std::vector<torch::Tensor> channels;
    for (std::int64_t i = 0; i < x.size(axis); ++i) {
      const format::AffineParams params{c.at("scales").at(static_cast<std::size_t>(i)).get<float>(),
                                        c.at("zero_points").at(static_cast<std::size_t>(i))};
      channels.push_back(fake_quantize_per_tensor(x.select(axis, i), params, {c.at("qmin"), c.at("qmax")}));
    }
    const torch::Tensor y = torch::stack(channels, axis);
    y.sum().backward();
    EXPECT_TRUE(torch::equal(y.flatten(), torch::tensor(floats(c.at("y"))))) << c.at("name");
    EXPECT_EQ(gradient_bits(x), c.at("grad_x_for_ones").get<std::string>()) << c.at("name");
  }
}

TEST(FakeQuantize, MemoryOrderDoesNotMatter) {
  const torch::Tensor plain = random_tensor({3, 5, 7, 11}, 1, 4.0F);
  const torch::Tensor grad = random_tensor({3, 5, 7, 11}, 2);
  const format::AffineParams params{0.037F, 91};
  const auto run = [&](torch::Tensor x, const torch::Tensor& grad_y) {
    x = x.detach().requires_grad_(true);
    const torch::Tensor y = fake_quantize_per_tensor(x, params, format::kUint8Range);
    y.backward(grad_y);
    return std::pair{y, x.grad()};
  };
  const auto [y, grad_x] = run(plain, grad);
  const auto channels_last = [](const torch::Tensor& x) { return x.contiguous(torch::MemoryFormat::ChannelsLast); };
  const torch::Tensor gaps = torch::empty({3, 5, 7, 22}).slice(3, 0, torch::nullopt, 2).copy_(plain);
  for (const torch::Tensor& x :
       {plain, channels_last(plain), gaps, plain.transpose(0, 3).contiguous().transpose(0, 3)}) {
    for (const torch::Tensor& g : {grad, channels_last(grad), torch::ones({1, 1, 1, 1}).expand_as(grad)}) {
      const auto [y2, grad_x2] = run(x, g);
      expect_same_bits(y2, y, "values");
      if (g.stride(0) != 0) {
        expect_same_bits(grad_x2, grad_x, "gradients");
      }
    }
  }
}

TEST(FakeQuantize, BlocksOfThreadsDoNotShow) {
  const torch::Tensor x = random_tensor({1, 200001}, 3, 6.0F);
  const format::AffineParams params{0.041F, 130};
  const torch::Tensor y = fake_quantize_per_tensor(x, params, format::kUint8Range);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    ASSERT_EQ(y.data_ptr<float>()[i], format::fake_quantize(x.data_ptr<float>()[i], params, format::kUint8Range)) << i;
  }
}

TEST(FakeQuantize, EmptyTensorsPass) {
  torch::Tensor x = torch::empty({0, 3}).requires_grad_(true);
  const torch::Tensor y = fake_quantize_per_tensor(x, {0.1F, 3}, format::kUint8Range);
  y.sum().backward();
  EXPECT_EQ(y.numel(), 0);
}

// What runs on other devices, here on the CPU.
TEST(FakeQuantize, TensorOperationsEqualTheLoops) {
  for (const format::QuantRange range : {format::kUint8Range, format::kInt8WeightRange}) {
    const format::AffineParams params{0.0371F, range.qmin < 0 ? 0 : 117};
    torch::Tensor x =
        torch::cat({random_tensor({5000}, 4, 4.0F), torch::arange(-700, 700) * (0.5F * 0.0371F),
                    torch::tensor({0.0F, -0.0F, 1e30F, -1e30F, -1e-30F, std::numeric_limits<float>::infinity(),
                                   -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})});
    const torch::Tensor reciprocal = torch::tensor(1.0F / params.scale);
    const double lo = range.qmin - params.zero_point;
    const double hi = range.qmax - params.zero_point;
    expect_same_bits(internal::rounded_by_tensor_ops(x, reciprocal, lo, hi) * params.scale,
                     fake_quantize_per_tensor(x, params, range), "values");
    x.requires_grad_(true);
    fake_quantize_per_tensor(x, params, range).sum().backward();
    EXPECT_TRUE(torch::equal(internal::passes_by_tensor_ops(x.detach(), reciprocal, lo, hi), x.grad() == 1.0F));
  }
}

TEST(Observer, PerTensorGoldensOfTorchAreMet) {
  const json goldens = read_goldens("observers.json");
  int cases = 0;
  for (const json& c : goldens.at("cases")) {
    const std::string name = c.at("observer");
    if (c.at("qscheme") != "pt_aff" || name.starts_with("Histogram")) {
      continue;
    }
    const bool moving = name.starts_with("MovingAverage");
    const double constant = name.find("0.01") != std::string::npos ? 0.01 : 0.1;
    static const std::map<std::string, format::QuantRange> ranges = {{"quint8_0_255", {0, 255}},
                                                                     {"qint8_-128_127", {-128, 127}},
                                                                     {"qint8_-127_127", {-127, 127}},
                                                                     {"int4_-8_7", {-8, 7}}};
    ActivationFakeQuantizer quantizer(
        "x",
        {.kind = moving ? ObserverKind::kMovingAverageMinMax : ObserverKind::kMinMax, .averaging_constant = constant},
        ranges.at(c.at("dtype")));
    quantizer.train();
    EXPECT_FALSE(quantizer.calibrated());
    for (const json& batch : c.at("batches")) {
      (void)quantizer.forward(tensor_of(goldens.at("batches").at(batch.get<std::string>())));
    }
    EXPECT_TRUE(quantizer.calibrated());
    EXPECT_EQ(quantizer.scale().item<float>(), floats(c.at("scale")).at(0)) << c.dump();
    EXPECT_EQ(quantizer.zero_point(), c.at("zero_point").at(0).get<int>()) << c.dump();
    EXPECT_EQ(quantizer.min_val().item<float>(), floats(c.at("min")).at(0)) << c.dump();
    EXPECT_EQ(quantizer.max_val().item<float>(), floats(c.at("max")).at(0)) << c.dump();
    ++cases;
  }
  EXPECT_GT(cases, 15);
}

TEST(Observer, PerChannelSymmetricGoldensOfTorchAreMet) {
  const json goldens = read_goldens("observers.json");
  int cases = 0;
  for (const json& c : goldens.at("cases")) {
    const bool narrow = c.at("dtype") == "qint8_-127_127";
    const bool full = c.at("dtype") == "qint8_-128_127";
    if (c.at("qscheme") != "pc_sym" || c.at("observer") != "PerChannelMinMaxObserver(ch_axis=0)" || !(narrow || full)) {
      continue;
    }
    // The weight quantizer has no memory: what the observer saw in turn, it sees at once.
    std::vector<torch::Tensor> batches;
    for (const json& batch : c.at("batches")) {
      batches.push_back(tensor_of(goldens.at("batches").at(batch.get<std::string>())));
    }
    const torch::Tensor weight = torch::cat(batches, 1);
    WeightFakeQuantizer quantizer("w", weight.size(0), narrow ? format::kInt8WeightRange : format::kInt8Range);
    (void)quantizer.forward(weight);
    EXPECT_TRUE(torch::equal(quantizer.min_val(), torch::tensor(floats(c.at("min"))))) << c.dump();
    EXPECT_TRUE(torch::equal(quantizer.max_val(), torch::tensor(floats(c.at("max"))))) << c.dump();
    EXPECT_EQ(quantizer.zero_point(), 0);
    if (c.at("seq") != "zeros") {  // on purpose another scale: see fake_quantize.h
      EXPECT_TRUE(torch::equal(quantizer.scale(), torch::tensor(floats(c.at("scale"))))) << c.dump();
    }
    ++cases;
  }
  EXPECT_GT(cases, 7);
}

TEST(Observer, FirstBatchSetsTheRangeAndLaterOnesMoveIt) {
  ActivationFakeQuantizer quantizer("x", {.averaging_constant = 0.25});
  (void)quantizer.forward(torch::tensor({-1.0F, 3.0F}));
  EXPECT_EQ(quantizer.min_val().item<float>(), -1.0F);
  EXPECT_EQ(quantizer.max_val().item<float>(), 3.0F);
  (void)quantizer.forward(torch::tensor({1.0F, 7.0F}));
  EXPECT_EQ(quantizer.min_val().item<float>(), -0.5F);
  EXPECT_EQ(quantizer.max_val().item<float>(), 4.0F);
}

TEST(Observer, RangeStandsStillInEvaluationAndWhenDisabled) {
  ActivationFakeQuantizer quantizer("x", {.kind = ObserverKind::kMinMax});
  (void)quantizer.forward(torch::tensor({-1.0F, 3.0F}));
  quantizer.eval();
  (void)quantizer.forward(torch::tensor({-10.0F, 30.0F}));
  EXPECT_EQ(quantizer.max_val().item<float>(), 3.0F);
  quantizer.train();
  quantizer.enable_observer(false);
  (void)quantizer.forward(torch::tensor({-10.0F, 30.0F}));
  EXPECT_EQ(quantizer.max_val().item<float>(), 3.0F);
  quantizer.enable_observer(true);
  (void)quantizer.forward(torch::tensor({-10.0F, 30.0F}));
  EXPECT_EQ(quantizer.max_val().item<float>(), 30.0F);
}

TEST(Observer, AnEmptyBatchChangesNothing) {
  ActivationFakeQuantizer quantizer("x", {.kind = ObserverKind::kMinMax});
  quantizer.observe(torch::empty({0}));
  EXPECT_FALSE(quantizer.calibrated());
}

TEST(ActivationFakeQuantizer, FaultyValuesAreAnErrorThatNamesTheValue) {
  for (const float fault : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    for (const bool frozen : {false, true}) {
      ActivationFakeQuantizer quantizer("relu1.out", {});
      (void)quantizer.forward(torch::ones({3}));
      quantizer.enable_observer(!frozen);
      const torch::Tensor before = quantizer.scale().clone();
      torch::Tensor x = random_tensor({70000}, 5);
      x.data_ptr<float>()[69999] = fault;
      EXPECT_PARE_ERROR(quantizer.forward(x), kNumeric, "relu1.out");
      EXPECT_PARE_ERROR(quantizer.forward(x.requires_grad_(true)), kNumeric, "relu1.out");
      EXPECT_TRUE(torch::equal(quantizer.scale(), before));
    }
  }
}

TEST(ActivationFakeQuantizer, BeforeAnyDataItRefuses) {
  ActivationFakeQuantizer quantizer("relu1.out", {});
  quantizer.eval();
  EXPECT_PARE_ERROR(quantizer.forward(torch::ones({3})), kState, "relu1.out");
  EXPECT_PARE_ERROR(quantizer.quantize(torch::ones({3})), kState, "seen no data");
}

TEST(ActivationFakeQuantizer, OnlyFloat32IsTaken) {
  ActivationFakeQuantizer quantizer("relu1.out", {.kind = ObserverKind::kMinMax});
  EXPECT_PARE_ERROR(quantizer.forward(torch::ones({3}, torch::kFloat64)), kInvalidArgument, "float32");
}

TEST(ActivationFakeQuantizer, CodesTimesScaleAreTheFakeQuantizedValues) {
  ActivationFakeQuantizer quantizer("x", {.kind = ObserverKind::kMinMax});
  const torch::Tensor x = random_tensor({4, 3, 5, 5}, 6, 3.0F);
  const torch::Tensor y = quantizer.forward(x);
  const torch::Tensor codes = quantizer.quantize(x);
  EXPECT_EQ(codes.scalar_type(), torch::kFloat64);
  EXPECT_EQ(codes.min().item<double>(), 0.0);
  EXPECT_EQ(codes.max().item<double>(), 255.0);
  expect_same_bits((codes - quantizer.zero_point()).to(torch::kFloat32) * quantizer.scale(), y, "values");
}

TEST(ActivationFakeQuantizer, SwitchedOffItObservesOnly) {
  ActivationFakeQuantizer quantizer("x", {.kind = ObserverKind::kMinMax});
  quantizer.enable_fake_quant(false);
  const torch::Tensor x = random_tensor({100}, 7);
  EXPECT_TRUE(torch::equal(quantizer.forward(x), x));
  EXPECT_TRUE(quantizer.calibrated());
}

TEST(ActivationFakeQuantizer, TakesTheRangeOfItsHistogramWhenItIsNeeded) {
  for (const ObserverKind kind : {ObserverKind::kHistogram, ObserverKind::kPercentile, ObserverKind::kMse}) {
    ActivationFakeQuantizer watching("x", {.kind = kind, .outside = 0.02});
    ActivationFakeQuantizer at_once("x", {.kind = kind, .outside = 0.02});
    watching.enable_fake_quant(false);
    Histogram expected;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const torch::Tensor x = random_tensor({400}, i, 1.0F + static_cast<float>(i));
      EXPECT_TRUE(torch::equal(watching.forward(x), x));
      (void)at_once.forward(x);
      expected.add(x.data_ptr<float>(), x.numel());
    }
    watching.enable_observer(false);
    const ValueRange range = kind == ObserverKind::kHistogram    ? search_least_error_inwards(expected)
                             : kind == ObserverKind::kPercentile ? search_percentile(expected, 0.02)
                                                                 : search_least_squares(expected, format::kUint8Range);
    EXPECT_EQ(watching.min_val().item<float>(), range.min);
    EXPECT_EQ(watching.max_val().item<float>(), range.max);
    EXPECT_EQ(watching.params(), format::choose_qparams_affine(range.min, range.max, format::kUint8Range));
    EXPECT_EQ(at_once.params(), watching.params());
    EXPECT_LE(range.max - range.min, expected.range().max - expected.range().min);
    EXPECT_TRUE(kind != ObserverKind::kPercentile || range.max < expected.range().max);
  }
}

TEST(ActivationFakeQuantizer, BuffersCarryAllState) {
  for (const ObserverKind kind : {ObserverKind::kMovingAverageMinMax, ObserverKind::kPercentile}) {
    ActivationFakeQuantizer one("x", {.kind = kind, .averaging_constant = 0.1});
    ActivationFakeQuantizer two("x", {.kind = kind, .averaging_constant = 0.1});
    for (int i = 0; i < 3; ++i) {
      (void)one.forward(random_tensor({50}, static_cast<std::uint64_t>(i)));
    }
    const torch::NoGradGuard no_gradient;
    for (const auto& buffer : one.named_buffers()) {
      two.named_buffers()[buffer.key()].copy_(buffer.value());
    }
    const torch::Tensor x = random_tensor({50}, 9, 2.0F);
    expect_same_bits(two.forward(x), one.forward(x), "values");
    EXPECT_TRUE(torch::equal(one.min_val(), two.min_val()));
    std::vector<std::string> names = one.named_buffers().keys();
    std::sort(names.begin(), names.end());
    std::vector<std::string> expected = {"fake_quant_enabled", "max_val", "min_val",
                                         "observer_enabled",   "scale",   "zero_point"};
    if (keeps_histogram(kind)) {
      expected.insert(expected.begin() + 1, {"histogram", "histogram_range"});
    }
    EXPECT_EQ(names, expected);
  }
}

TEST(WeightFakeQuantizer, HeldScalesStayAndGradientsPassWithinTheRange) {
  torch::manual_seed(8);
  const torch::Tensor weight = torch::randn({3, 2, 3, 3});
  WeightFakeQuantizer quantizer("w", 3);
  const torch::Tensor codes = quantizer.quantize(weight);
  const torch::Tensor scale = quantizer.scale().clone();
  quantizer.enable_observer(false);
  const torch::Tensor smaller = quantizer.quantize(0.5 * weight);
  EXPECT_TRUE(torch::equal(quantizer.scale(), scale));
  EXPECT_LE(smaller.abs().max().item<double>(), 64.0);
  torch::Tensor larger = (2.0 * weight).requires_grad_(true);
  const torch::Tensor y = quantizer.forward(larger);
  EXPECT_LE((y.detach() / scale.view({-1, 1, 1, 1})).abs().max().item<double>(), 127.001);
  y.sum().backward();
  for (std::int64_t i = 0; i < weight.numel(); ++i) {
    const float s = scale[i / 18].item<float>();
    const bool passes = format::fake_quantize_passes_gradient(larger.detach().view({-1})[i].item<float>(), {s, 0},
                                                              format::kInt8WeightRange);
    EXPECT_EQ(larger.grad().view({-1})[i].item<float>(), passes ? 1.0F : 0.0F);
  }
  quantizer.enable_observer(true);
  EXPECT_TRUE(torch::equal(quantizer.quantize(0.5 * weight), codes)) << "scales follow the weight again";
}

TEST(WeightFakeQuantizer, EveryElementEqualsTheFormatWithItsChannelsScale) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{1, 1}, {5, 3}, {3, 2, 3, 3}, {7, 1, 1, 1}, {64, 33}, {2, 40000}}) {
    const torch::Tensor w = random_tensor(shape, 8, 0.3F);
    WeightFakeQuantizer quantizer("w", shape[0]);
    const torch::Tensor y = quantizer.forward(w);
    const torch::Tensor codes = quantizer.quantize(w);
    const std::int64_t row = w.numel() / shape[0];
    for (std::int64_t i = 0; i < w.numel(); ++i) {
      const torch::Tensor channel = w[i / row];
      const format::AffineParams params = format::choose_qparams_symmetric(
          channel.min().item<float>(), channel.max().item<float>(), format::kInt8WeightRange);
      const float value = w.data_ptr<float>()[i];
      ASSERT_EQ(quantizer.scale().data_ptr<float>()[i / row], params.scale);
      ASSERT_EQ(codes.data_ptr<double>()[i], format::quantize(value, params, format::kInt8WeightRange));
      ASSERT_EQ(y.data_ptr<float>()[i], format::fake_quantize(value, params, format::kInt8WeightRange));
      if (shape[0] == 2 && i == 300) {
        break;  // one long row is checked well enough by its start
      }
    }
  }
}

TEST(WeightFakeQuantizer, GradientPassesEverywhereAsTheFormatSays) {
  for (const float factor : {1e-38F, 1e-9F, 1e-6F, 0.3F, 1.0F, 1e10F, 3e37F}) {
    torch::Tensor w = random_tensor({16, 500}, 10, factor).requires_grad_(true);
    WeightFakeQuantizer quantizer("w", 16);
    const torch::Tensor grad = random_tensor({16, 500}, 11);
    quantizer.forward(w).backward(grad);
    EXPECT_TRUE(torch::equal(w.grad(), grad));
    for (std::int64_t i = 0; i < w.numel(); ++i) {
      const format::AffineParams params{quantizer.scale().data_ptr<float>()[i / 500], 0};
      ASSERT_TRUE(format::fake_quantize_passes_gradient(w.data_ptr<float>()[i], params, format::kInt8WeightRange));
    }
  }
}

TEST(WeightFakeQuantizer, AChannelOfZerosStaysZeroAndHasAnOrdinaryScale) {
  torch::Tensor w = random_tensor({3, 8}, 12);
  w[1].zero_();
  WeightFakeQuantizer quantizer("w", 3);
  const torch::Tensor y = quantizer.forward(w);
  EXPECT_TRUE(torch::equal(y[1], torch::zeros({8})));
  EXPECT_EQ(quantizer.quantize(w)[1].abs().sum().item<double>(), 0.0);
  EXPECT_EQ(quantizer.scale()[1].item<float>(), 1.0F / 127.0F);
}

TEST(WeightFakeQuantizer, ScalesFollowTheWeightInEveryModeAndWhateverWasSeenBefore) {
  WeightFakeQuantizer fresh("w", 4);
  WeightFakeQuantizer used("w", 4);
  (void)used.forward(random_tensor({4, 9}, 13, 100.0F));
  used.eval();
  const torch::Tensor w = random_tensor({4, 9}, 14);
  const torch::Tensor codes = used.quantize(w);
  EXPECT_TRUE(torch::equal(codes, fresh.quantize(w)));
  EXPECT_TRUE(torch::equal(used.scale(), fresh.scale()));
  expect_same_bits(used.forward(w), fresh.forward(w), "values");
}

TEST(WeightFakeQuantizer, FaultyOrMisshapenWeightsAreErrorsThatNameTheWeight) {
  WeightFakeQuantizer quantizer("conv1.weight", 3);
  torch::Tensor w = torch::ones({3, 5});
  w[2][4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_PARE_ERROR(quantizer.forward(w), kNumeric, "conv1.weight");
  EXPECT_PARE_ERROR(quantizer.quantize(w), kNumeric, "conv1.weight");
  EXPECT_PARE_ERROR(quantizer.forward(torch::ones({4, 5})), kInvalidArgument, "conv1.weight");
}

}  // namespace
}  // namespace pare::quant
