#include "pare/format/affine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/rng.h"

namespace pare::format {
namespace {

using nlohmann::json;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kFloatMax = std::numeric_limits<float>::max();

json load_golden(const std::string& name) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
  return json::parse(file);
}

// What the goldens compare: torch gives -0.0 where pare's dequantize gives 0.0, which are equal.
void expect_fake_quantize(float x, AffineParams params, QuantRange range, float expected, char gradient_bit) {
  EXPECT_EQ(fake_quantize(x, params, range), expected) << "x = " << x;
  EXPECT_EQ(fake_quantize_passes_gradient(x, params, range), gradient_bit == '1') << "x = " << x;
}

TEST(FakeQuantize, EqualsTorchPerTensor) {
  const json goldens = load_golden("fake_quant.json");
  EXPECT_EQ(goldens["per_tensor"].size(), 8U);
  for (const json& item : goldens["per_tensor"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const AffineParams params{item["scale"].get<float>(), item["zero_point"].get<std::int32_t>()};
    const QuantRange range{item["qmin"].get<std::int32_t>(), item["qmax"].get<std::int32_t>()};
    const auto x = item["x"].get<std::vector<float>>();
    const auto y = item["y"].get<std::vector<float>>();
    const auto gradient = item["grad_x_for_ones"].get<std::string>();
    ASSERT_EQ(x.size(), y.size());
    ASSERT_EQ(x.size(), gradient.size());
    ASSERT_FALSE(x.empty());
    for (std::size_t i = 0; i < x.size(); ++i) expect_fake_quantize(x[i], params, range, y[i], gradient[i]);
  }
}

TEST(FakeQuantize, EqualsTorchPerChannel) {
  const json goldens = load_golden("fake_quant.json");
  EXPECT_EQ(goldens["per_channel"].size(), 4U);
  for (const json& item : goldens["per_channel"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const QuantRange range{item["qmin"].get<std::int32_t>(), item["qmax"].get<std::int32_t>()};
    const auto shape = item["x"]["shape"].get<std::vector<std::size_t>>();
    const auto x = item["x"]["data"].get<std::vector<float>>();
    const auto y = item["y"].get<std::vector<float>>();
    const auto gradient = item["grad_x_for_ones"].get<std::string>();
    const auto axis = item["axis"].get<std::size_t>();
    std::size_t inner = 1;
    for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    ASSERT_FALSE(x.empty());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t channel = i / inner % shape[axis];
      const AffineParams params{item["scales"][channel].get<float>(), item["zero_points"][channel].get<std::int32_t>()};
      expect_fake_quantize(x[i], params, range, y[i], gradient[i]);
    }
  }
}

TEST(Quantize, RoundsHalfToEvenBeforeTheZeroPointIsAdded) {
  // 0.5 + 113 rounded as one number would go to 114, the even one; the rule rounds 0.5 to 0 first.
  EXPECT_EQ(quantize(0.5F, {1.0F, 113}, kUint8Range), 113);
  EXPECT_EQ(quantize(1.5F, {1.0F, 113}, kUint8Range), 115);
  EXPECT_EQ(quantize(-0.5F, {1.0F, 113}, kUint8Range), 113);
  EXPECT_EQ(quantize(2.5F, {1.0F, 0}, kInt8Range), 2);
}

TEST(Quantize, MultipliesByTheFloatReciprocal) {
  // Found by search: the quotient x / scale rounds to another float than x * (1 / scale) does, on both sides of a half.
  const float scale = 0.037F;
  int differences = 0;
  Rng rng(8);
  for (int i = 0; i < 2'000'000 && differences == 0; ++i) {
    const float x = (static_cast<float>(rng.below(255)) + 0.5F) * scale;
    const auto by_division = static_cast<std::int32_t>(std::nearbyintf(x / scale));
    const auto by_reciprocal = static_cast<std::int32_t>(std::nearbyintf(x * (1.0F / scale)));
    if (by_division == by_reciprocal) continue;
    ++differences;
    EXPECT_EQ(quantize(x, {scale, 0}, {-1000, 1000}), by_reciprocal);
  }
  EXPECT_GT(differences, 0);
}

TEST(Quantize, AnyFloatIsSafe) {
  for (const QuantRange range : {kUint8Range, kInt8Range, kInt8WeightRange, kInt4Range}) {
    for (const float scale : {kMinScale, 0.037F, 1e30F, std::numeric_limits<float>::denorm_min(), kInfinity}) {
      for (const std::int32_t zero_point : {range.qmin, range.qmin + 3, range.qmax}) {
        const AffineParams params{scale, zero_point};
        for (const float x : {0.0F, -0.0F, kFloatMax, -kFloatMax, kInfinity, -kInfinity, kNaN, 1e-45F}) {
          const std::int32_t q = quantize(x, params, range);
          EXPECT_GE(q, range.qmin);
          EXPECT_LE(q, range.qmax);
        }
        EXPECT_EQ(quantize(kNaN, params, range), zero_point);
        EXPECT_EQ(quantize(0.0F, params, range), zero_point);
      }
    }
    EXPECT_EQ(quantize(kInfinity, {1.0F, range.qmin}, range), range.qmax);
    EXPECT_EQ(quantize(-kInfinity, {1.0F, range.qmax}, range), range.qmin);
  }
  EXPECT_FALSE(fake_quantize_passes_gradient(kNaN, {1.0F, 0}, kInt8Range));
  EXPECT_FALSE(fake_quantize_passes_gradient(kInfinity, {1.0F, 0}, kInt8Range));
}

TEST(Quantize, EveryCodeSurvivesARoundTrip) {
  Rng rng(9);
  for (const QuantRange range : {kUint8Range, kInt8Range, kInt8WeightRange, kInt4Range}) {
    for (int trial = 0; trial < 200; ++trial) {
      const float scale = std::exp2(rng.uniform() * 40.0F - 20.0F);
      const auto width = static_cast<std::uint64_t>(range.qmax - range.qmin + 1);
      const AffineParams params{scale, range.qmin + static_cast<std::int32_t>(rng.below(width))};
      for (std::int32_t q = range.qmin; q <= range.qmax; ++q) {
        ASSERT_EQ(quantize(dequantize(q, params), params, range), q)
            << "scale " << scale << " zp " << params.zero_point;
      }
    }
  }
}

TEST(Quantize, ZeroIsExactWhateverTheParameters) {
  Rng rng(10);
  for (int trial = 0; trial < 1000; ++trial) {
    const AffineParams params{std::exp2(rng.uniform() * 40.0F - 20.0F), static_cast<std::int32_t>(rng.below(256))};
    EXPECT_EQ(fake_quantize(0.0F, params, kUint8Range), 0.0F);
  }
}

TEST(QuantizeBias, RoundsHalfToEvenInDouble) {
  EXPECT_EQ(quantize_bias(2.5F, 1.0F), 2);
  EXPECT_EQ(quantize_bias(-3.5F, 1.0F), -4);
  EXPECT_EQ(quantize_bias(0.0F, 0.25F), 0);
  // 16777217 needs 25 bits: a float32 quotient would lose the last one.
  const float bias = 16777216.0F;
  const float scale = std::nextafter(1.0F, 0.0F);
  EXPECT_EQ(quantize_bias(bias, scale), static_cast<std::int32_t>(std::nearbyint(double{bias} / double{scale})));
  EXPECT_EQ(quantize_bias(bias, scale), 16777217);
}

TEST(QuantizeBias, IsLimitedAndSafe) {
  EXPECT_EQ(quantize_bias(1e30F, 1e-7F), 1 << 30);
  EXPECT_EQ(quantize_bias(-1e30F, 1e-7F), -(1 << 30));
  EXPECT_EQ(quantize_bias(kInfinity, 1.0F), 1 << 30);
  EXPECT_EQ(quantize_bias(kNaN, 1.0F), 0);
  EXPECT_EQ(quantize_bias(1.0F, 0.0F), 1 << 30);
  EXPECT_EQ(quantize_bias(0.0F, 0.0F), 0);
}

// clamp(rint(float(acc) * multiplier) + zp) with the clamp at the end and in wide integers.
std::int32_t requantize_late_clamp(std::int32_t acc, float multiplier, std::int32_t zero_point, QuantRange range) {
  const float scaled = static_cast<float>(acc) * multiplier;
  const double rounded = std::nearbyint(static_cast<double>(scaled)) + zero_point;
  return static_cast<std::int32_t>(
      std::clamp(rounded, static_cast<double>(range.qmin), static_cast<double>(range.qmax)));
}

TEST(Requantize, ClampBeforeRoundingEqualsClampAfter) {
  Rng rng(11);
  for (int trial = 0; trial < 200'000; ++trial) {
    const auto acc = static_cast<std::int32_t>(static_cast<std::uint32_t>(rng.next() >> 32)) >> rng.below(31);
    const float multiplier = std::exp2(rng.uniform() * 40.0F - 30.0F);
    const auto zero_point = static_cast<std::int32_t>(rng.below(256));
    const QuantRange range{rng.below(2) == 0 ? 0 : zero_point, 255};
    ASSERT_EQ(requantize(acc, multiplier, zero_point, range), requantize_late_clamp(acc, multiplier, zero_point, range))
        << acc << " * " << multiplier << " + " << zero_point;
  }
}

TEST(Requantize, RoundsHalfToEvenAndKeepsTheEnds) {
  EXPECT_EQ(requantize(1, 0.5F, 10, kUint8Range), 10);
  EXPECT_EQ(requantize(3, 0.5F, 10, kUint8Range), 12);
  EXPECT_EQ(requantize(-1, 0.5F, 10, kUint8Range), 10);
  constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min();
  constexpr std::int32_t kHighest = std::numeric_limits<std::int32_t>::max();
  EXPECT_EQ(requantize(kHighest, 1.0F, 128, kUint8Range), 255);
  EXPECT_EQ(requantize(kLowest, 1.0F, 128, kUint8Range), 0);
  // ReLU fused: nothing below the code of real 0.
  EXPECT_EQ(requantize(kLowest, 1.0F, 128, {128, 255}), 128);
  EXPECT_EQ(requantize(0, 1.0F, 128, {128, 255}), 128);
}

TEST(Requantize, MultiplierIsRoundedInTwoSteps) {
  const float input_scale = 0.0123F;
  const float weight_scale = 0.00371F;
  const float output_scale = 0.0456F;
  const float product = input_scale * weight_scale;
  EXPECT_EQ(accumulator_scale(input_scale, weight_scale), product);
  EXPECT_EQ(requantize_multiplier(product, output_scale), product / output_scale);
}

struct ObserverDtype {
  const char* name;
  QuantRange range;
  bool is_signed;
};
constexpr ObserverDtype kObserverDtypes[] = {{"quint8_0_255", kUint8Range, false},
                                             {"qint8_-128_127", kInt8Range, true},
                                             {"qint8_-127_127", kInt8WeightRange, true},
                                             {"int4_-8_7", kInt4Range, true}};

TEST(ChooseQparams, EqualsTorchObservers) {
  int compared = 0;
  const json goldens = load_golden("observers.json");
  for (const json& item : goldens["cases"]) {
    const auto observer = item["observer"].get<std::string>();
    // The histogram observer searches other bounds than the minimum and maximum that it reports.
    if (observer.starts_with("Histogram")) continue;
    const auto dtype_name = item["dtype"].get<std::string>();
    SCOPED_TRACE(observer + " " + item["qscheme"].get<std::string>() + " " + dtype_name + " " +
                 item["seq"].get<std::string>());
    const auto* const dtype = std::find_if(std::begin(kObserverDtypes), std::end(kObserverDtypes),
                                           [&](const ObserverDtype& d) { return d.name == dtype_name; });
    ASSERT_NE(dtype, std::end(kObserverDtypes));
    const bool symmetric = item["qscheme"].get<std::string>().ends_with("sym");
    const auto lows = item["min"].get<std::vector<float>>();
    const auto highs = item["max"].get<std::vector<float>>();
    ASSERT_EQ(item["scale"].size(), lows.size());
    for (std::size_t i = 0; i < lows.size(); ++i) {
      const AffineParams params = symmetric ? choose_qparams_symmetric(lows[i], highs[i], dtype->range)
                                            : choose_qparams_affine(lows[i], highs[i], dtype->range);
      EXPECT_EQ(params.scale, item["scale"][i].get<float>());
      // For unsigned types torch's symmetric scheme sets 128, which pare does not offer.
      const auto zero_point = item["zero_point"][i].get<std::int32_t>();
      EXPECT_EQ(params.zero_point, symmetric && !dtype->is_signed ? 0 : zero_point) << i;
      ++compared;
    }
  }
  EXPECT_GE(compared, 100);
}

TEST(ChooseQparams, RangeAlwaysHoldsZero) {
  EXPECT_EQ(choose_qparams_affine(2.0F, 4.0F, kUint8Range), (AffineParams{4.0F / 255.0F, 0}));
  EXPECT_EQ(choose_qparams_affine(-4.0F, -2.0F, kUint8Range), (AffineParams{4.0F / 255.0F, 255}));
  EXPECT_EQ(choose_qparams_affine(0.0F, 0.0F, kUint8Range), (AffineParams{kMinScale, 0}));
}

TEST(ChooseQparams, ExtremesStayFiniteAndRepresentable) {
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  for (const QuantRange range : {kUint8Range, kInt8Range, kInt4Range}) {
    for (const float lo : {-kFloatMax, -1.0F, -kTiny, 0.0F, kTiny, 1.0F}) {
      for (const float hi : {-1.0F, -kTiny, 0.0F, kTiny, 1.0F, kFloatMax}) {
        if (lo > hi) continue;
        for (const AffineParams params :
             {choose_qparams_affine(lo, hi, range), choose_qparams_symmetric(lo, hi, range)}) {
          EXPECT_TRUE(std::isfinite(params.scale)) << lo << " " << hi;
          EXPECT_GE(params.scale, kMinScale);
          EXPECT_GE(params.zero_point, range.qmin);
          EXPECT_LE(params.zero_point, range.qmax);
        }
      }
    }
  }
}

TEST(ChooseQparams, SymmetricWeightsReachBothEnds) {
  const AffineParams params = choose_qparams_symmetric(-0.5F, 0.25F, kInt8WeightRange);
  EXPECT_EQ(params, (AffineParams{0.5F / 127.0F, 0}));
  EXPECT_EQ(quantize(-0.5F, params, kInt8WeightRange), -127);
  EXPECT_EQ(quantize(0.5F, params, kInt8WeightRange), 127);
}

TEST(NormalizePixel, RoundsAfterEachOperation) {
  for (int pixel = 0; pixel <= 255; ++pixel) {
    volatile float value = static_cast<float>(pixel);
    value = value / 255.0F;
    value = value - 0.2860F;
    value = value / 0.3530F;
    EXPECT_EQ(normalize_pixel(static_cast<std::uint8_t>(pixel), 0.2860F, 0.3530F), value);
  }
}

}  // namespace
}  // namespace pare::format
