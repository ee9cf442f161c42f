#include "pare/quant/range_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "pare/base/rng.h"

namespace pare::quant {
namespace {

using Json = nlohmann::json;

Json load_golden(const std::string& name) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
  return Json::parse(file);
}

std::vector<float> floats_of(const Json& batch) {
  std::vector<float> values;
  for (const double v : batch.at("data").get<std::vector<double>>()) {
    values.push_back(static_cast<float>(v));
  }
  return values;
}

std::vector<float> normals(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& v : values) {
    v = rng.normal();
  }
  return values;
}

Histogram histogram_of(const std::vector<float>& values) {
  Histogram histogram;
  histogram.add(values.data(), static_cast<std::int64_t>(values.size()));
  return histogram;
}

double squared_error(const std::vector<float>& values, ValueRange range, format::QuantRange codes) {
  const format::AffineParams params = format::choose_qparams_affine(range.min, range.max, codes);
  return std::accumulate(values.begin(), values.end(), 0.0, [&](double sum, float v) {
    const double difference = static_cast<double>(format::fake_quantize(v, params, codes)) - v;
    return sum + difference * difference;
  });
}

TEST(Histogram, CountsEveryValueOnceWhateverTheRangeGrowsTo) {
  Histogram histogram;
  double expected = 0.0;
  for (const float scale : {1.0F, 0.5F, 7.0F, 3.0F}) {
    std::vector<float> values = normals(500, 3);
    for (float& v : values) {
      v = v * scale + scale;
    }
    histogram.add(values.data(), 500);
    expected += 500.0;
    const double total = std::accumulate(histogram.counts().begin(), histogram.counts().end(), 0.0);
    EXPECT_NEAR(total, expected, 1e-2);  // sixteenths of counts in float32
  }
  histogram.add(nullptr, 0);
  EXPECT_FALSE(histogram.empty());
}

TEST(Histogram, EqualsTorchsObserver) {
  const Json golden = load_golden("observers.json");
  int replayed = 0;
  for (const Json& entry : golden.at("cases")) {
    const std::string observer = entry.at("observer");
    if (!observer.starts_with("HistogramObserver") || entry.contains("error")) {
      continue;
    }
    SCOPED_TRACE(entry.at("seq").get<std::string>() + " " + entry.at("dtype").get<std::string>() + " " +
                 entry.at("qscheme").get<std::string>());
    Histogram histogram;
    for (const std::string name : entry.at("batches")) {
      const std::vector<float> values = floats_of(golden.at("batches").at(name));
      histogram.add(values.data(), static_cast<std::int64_t>(values.size()));
    }
    const ValueRange range = search_least_error_inwards(histogram);
    const std::string dtype = entry.at("dtype");
    const format::QuantRange codes = dtype == "quint8_0_255"     ? format::kUint8Range
                                     : dtype == "qint8_-128_127" ? format::kInt8Range
                                     : dtype == "qint8_-127_127" ? format::kInt8WeightRange
                                                                 : format::kInt4Range;
    const bool symmetric = entry.at("qscheme") == "pt_sym";
    if (symmetric && dtype == "quint8_0_255") {
      continue;  // torch centres unsigned symmetric codes on 128; no such scheme here
    }
    const format::AffineParams params = symmetric ? format::choose_qparams_symmetric(range.min, range.max, codes)
                                                  : format::choose_qparams_affine(range.min, range.max, codes);
    const double expected = entry.at("scale").at(0);
    // Torch adds counts up in float32 where this is double, so that a search may stop a bin or two apart: 2 of 2048.
    EXPECT_NEAR(params.scale / expected, 1.0, 2.0 / 2048.0);
    EXPECT_NEAR(params.zero_point, entry.at("zero_point").at(0).get<int>(), 1);
    ++replayed;
  }
  EXPECT_GE(replayed, 20);
}

TEST(SearchPercentile, LeavesTheFractionOutside) {
  const std::vector<float> values = normals(20000, 5);
  const Histogram histogram = histogram_of(values);
  for (const double outside : {0.0, 0.001, 0.02, 0.3}) {
    const ValueRange range = search_percentile(histogram, outside);
    const auto beyond =
        std::count_if(values.begin(), values.end(), [&](float v) { return v < range.min || v > range.max; });
    // Whole bins stay inside, so it is less by at most the two bins at the ends, a few values each.
    EXPECT_LE(static_cast<double>(beyond) / 20000.0, outside);
    EXPECT_GE(static_cast<double>(beyond) / 20000.0, outside - 0.003) << outside;
  }
}

TEST(SearchPercentile, OfPositiveValuesCutsTheFarEndOnly) {
  std::vector<float> values = normals(10000, 6);
  for (float& v : values) {
    v = std::fabs(v);
  }
  const ValueRange range = search_percentile(histogram_of(values), 0.01);
  EXPECT_EQ(range.min, *std::min_element(values.begin(), values.end()));
  std::sort(values.begin(), values.end());
  EXPECT_NEAR(range.max, values[9900], 0.02);
}

TEST(SearchLeastSquares, LosesLessThanTheWholeRangeWhereThereAreOutliers) {
  std::vector<float> values = normals(5000, 7);
  values[17] = 80.0F;
  const Histogram histogram = histogram_of(values);
  for (const format::QuantRange codes : {format::kUint8Range, format::kInt4Range}) {
    const ValueRange found = search_least_squares(histogram, codes);
    const double error = squared_error(values, found, codes);
    EXPECT_LE(error, squared_error(values, histogram.range(), codes));
    // No other factor of the grid does better by more than what bins hide: middles instead of values.
    for (int step = 1; step <= 100; ++step) {
      const float factor = static_cast<float>(step) / 100.0F;
      const ValueRange other{histogram.range().min * factor, histogram.range().max * factor};
      EXPECT_LE(error, 1.05 * squared_error(values, other, codes)) << step;
    }
  }
  EXPECT_LT(search_least_squares(histogram, format::kInt4Range).max, 60.0F);
}

TEST(Searches, OfAConstantKeepIt) {
  const std::vector<float> values(100, 0.75F);
  const Histogram histogram = histogram_of(values);
  EXPECT_EQ(search_least_error_inwards(histogram), (ValueRange{0.75F, 0.75F}));
  EXPECT_EQ(search_percentile(histogram, 0.1), (ValueRange{0.75F, 0.75F}));
  EXPECT_GT(search_least_squares(histogram, format::kUint8Range).max, 0.74F);
}

}  // namespace
}  // namespace pare::quant
