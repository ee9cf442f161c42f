#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/report/report_sample.h"

namespace pare::pipeline {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Every double of a record, in a fixed order.
std::vector<double*> doubles_of(RunRecord& record) {
  std::vector<double*> list;
  for (StageRecord& stage : record.stages) {
    for (double* value : {&stage.epochs, &stage.seconds, &stage.accuracy, &stage.loss, &stage.sparsity, &stage.lr,
                          &stage.ms_per_step}) {
      list.push_back(value);
    }
  }
  list.push_back(&record.runtime.accuracy);
  list.push_back(&record.accepted_drop);
  for (auto& [name, points] : record.series) {
    for (SeriesPoint& point : points) list.push_back(&point.value);
  }
  return list;
}

// Everything but the doubles.
void expect_same_frame(const RunRecord& a, const RunRecord& b) {
  EXPECT_EQ(a.recipe, b.recipe);
  ASSERT_EQ(a.stages.size(), b.stages.size());
  for (std::size_t i = 0; i < a.stages.size(); ++i) {
    EXPECT_EQ(a.stages[i].name, b.stages[i].name);
    EXPECT_EQ(a.stages[i].kind, b.stages[i].kind);
    EXPECT_EQ(a.stages[i].first_step, b.stages[i].first_step);
    EXPECT_EQ(a.stages[i].steps, b.stages[i].steps);
  }
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_EQ(a.layers[i].name, b.layers[i].name);
    EXPECT_EQ(a.layers[i].op, b.layers[i].op);
    EXPECT_EQ(a.layers[i].shape, b.layers[i].shape);
    EXPECT_EQ(a.layers[i].pattern, b.layers[i].pattern);
    EXPECT_EQ(a.layers[i].zeros, b.layers[i].zeros);
    EXPECT_EQ(a.layers[i].scheme, b.layers[i].scheme);
    EXPECT_EQ(a.layers[i].weight_bits, b.layers[i].weight_bits);
    EXPECT_EQ(a.layers[i].bytes, b.layers[i].bytes);
    EXPECT_EQ(a.layers[i].kernel, b.layers[i].kernel);
    EXPECT_EQ(a.layers[i].note, b.layers[i].note);
  }
  EXPECT_EQ(a.artifact.path, b.artifact.path);
  EXPECT_EQ(a.artifact.bytes, b.artifact.bytes);
  EXPECT_EQ(a.artifact.dense_fp32_bytes, b.artifact.dense_fp32_bytes);
  EXPECT_EQ(a.runtime.samples, b.runtime.samples);
  EXPECT_EQ(a.runtime.mismatches, b.runtime.mismatches);
  EXPECT_EQ(a.environment, b.environment);
  EXPECT_EQ(a.class_names, b.class_names);
  EXPECT_EQ(a.confusion, b.confusion);
  EXPECT_EQ(a.accepted, b.accepted);
  EXPECT_EQ(a.warnings, b.warnings);
  ASSERT_EQ(a.series.size(), b.series.size());
  for (const auto& [name, points] : a.series) {
    ASSERT_TRUE(b.series.contains(name)) << name;
    ASSERT_EQ(points.size(), b.series.at(name).size()) << name;
    for (std::size_t i = 0; i < points.size(); ++i) ASSERT_EQ(points[i].step, b.series.at(name)[i].step) << name;
  }
}

void expect_round_trip(RunRecord record) {
  const std::string json = report_json(record);
  RunRecord back = record_from_json(json);
  expect_same_frame(record, back);
  const std::vector<double*> before = doubles_of(record);
  const std::vector<double*> after = doubles_of(back);
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint64_t>(*before[i]), std::bit_cast<std::uint64_t>(*after[i]))
        << "double " << i << ": " << *before[i] << " became " << *after[i];
  }
  EXPECT_EQ(report_json(back), json);
}

ErrorCategory category_of(const std::string& json) {
  try {
    static_cast<void>(record_from_json(json));
  } catch (const Error& error) {
    return error.category();
  }
  ADD_FAILURE() << "was read: " << json.substr(0, 200);
  return ErrorCategory::kUsage;
}

std::string problem_of(const Json& json) {
  try {
    static_cast<void>(record_from_json(json.dump()));
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), ErrorCategory::kCorruptData);
    return error.problem();
  }
  return "";
}

TEST(ReportJson, HoldsTheDocumentedKeys) {
  const Json json = Json::parse(report_json(sample_record()));
  for (const char* key :
       {"format", "version", "recipe", "summary", "stages", "layers", "artifact", "runtime", "accepted",
        "accepted_drop", "warnings", "environment", "class_names", "confusion", "series"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  for (const char* key : {"name", "kind", "epochs", "seconds", "accuracy", "loss", "sparsity", "lr", "ms_per_step",
                          "first_step", "steps"}) {
    EXPECT_TRUE(json["stages"][1].contains(key)) << key;
  }
  for (const char* key :
       {"name", "op", "scheme", "shape", "pattern", "zeros", "weight_bits", "bytes", "kernel", "note"}) {
    EXPECT_TRUE(json["layers"][1].contains(key)) << key;
  }
  for (const char* key : {"path", "bytes", "dense_fp32_bytes"}) EXPECT_TRUE(json["artifact"].contains(key)) << key;
  for (const char* key : {"accuracy", "samples", "mismatches"}) EXPECT_TRUE(json["runtime"].contains(key)) << key;
  for (const char* key : {"verdict", "reference_accuracy", "accuracy_drop", "size_ratio", "zero_fraction"}) {
    EXPECT_TRUE(json["summary"].contains(key)) << key;
  }
  EXPECT_EQ(json["series"]["loss"][3].size(), 2u);
}

TEST(ReportJson, RoundTripsASampleBitForBit) { expect_round_trip(sample_record()); }

TEST(ReportJson, ReadsLayersOfBeforeThereWereSchemes) {
  Json json = Json::parse(report_json(sample_record()));
  json["layers"][1].erase("scheme");
  EXPECT_EQ(record_from_json(json.dump()).layers[1].scheme, "");
}

TEST(ReportJson, RoundTripsAnEmptyRecord) { expect_round_trip(RunRecord{}); }

TEST(ReportJson, RoundTripsAwkwardDoublesBitForBit) {
  RunRecord record;
  using Limits = std::numeric_limits<double>;
  std::vector<double> values{0.0,
                             -0.0,
                             0.1,
                             1.0 / 3.0,
                             -2.5,
                             Limits::min(),
                             Limits::max(),
                             -Limits::max(),
                             Limits::denorm_min(),
                             Limits::epsilon(),
                             1e22,
                             1e23,
                             std::nextafter(1.0, 2.0),
                             5e-324,
                             9007199254740993.0};
  constexpr std::uint64_t kSeed = 20231;
  std::mt19937_64 random(kSeed);
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  while (values.size() < 20000) {
    const double value = std::bit_cast<double>(random());
    if (std::isfinite(value)) values.push_back(value);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    record.series["loss"].push_back({static_cast<std::int64_t>(i), values[i]});
  }
  expect_round_trip(record);
}

TEST(ReportJson, RoundTripsExtremeIntegersAndOddTexts) {
  RunRecord record = sample_record();
  record.artifact.bytes = INT64_MAX;
  record.stages[0].first_step = INT64_MIN;
  record.layers[0].shape = {};
  record.layers[1].shape = {0, INT64_MAX};
  record.confusion = {{}, {1}, {INT64_MAX, 0}};
  record.recipe = std::string("quote \" backslash \\ newline \n nul \0 end", 40);
  record.environment[""] = "\xE2\x9C\x93 \xF0\x9F\x90\x8E";
  record.series["a.b[0] \"c\""] = {{-1, 1.0}};
  record.series["empty"] = {};
  record.warnings = {"</script>", ""};
  record.accepted = false;
  expect_round_trip(record);
}

TEST(ReportJson, WritesNanAndInfinityAsNullAndReadsThemAsNan) {
  RunRecord record = sample_record();
  record.stages[0].loss = kNan;
  record.runtime.accuracy = kInfinity;
  record.series["loss"] = {{0, 1.0}, {1, -kInfinity}};
  const std::string text = report_json(record);
  const Json json = Json::parse(text);
  EXPECT_TRUE(json["stages"][0]["loss"].is_null());
  EXPECT_TRUE(json["runtime"]["accuracy"].is_null());
  EXPECT_TRUE(json["series"]["loss"][1][1].is_null());
  const RunRecord back = record_from_json(text);
  EXPECT_TRUE(std::isnan(back.stages[0].loss));
  EXPECT_TRUE(std::isnan(back.runtime.accuracy));
  EXPECT_TRUE(std::isnan(back.series.at("loss")[1].value));
  EXPECT_EQ(back.series.at("loss")[0].value, 1.0);
}

TEST(ReportJson, ReplacesBytesThatAreNotUtf8) {
  RunRecord record;
  record.recipe = "a\xFF z";
  record.environment["b\xC0"] = "c";
  const RunRecord back = record_from_json(report_json(record));
  EXPECT_EQ(back.recipe, "a\xEF\xBF\xBD z");
  EXPECT_EQ(back.environment.begin()->first, "b\xEF\xBF\xBD");
}

TEST(ReportJson, RefusesEveryTruncation) {
  RunRecord record = sample_record();
  for (auto& [name, points] : record.series) points.resize(2);
  std::string text = report_json(record);
  while (text.back() == '\n') text.pop_back();
  for (std::size_t length = 0; length < text.size(); ++length) {
    ASSERT_EQ(category_of(text.substr(0, length)), ErrorCategory::kCorruptData) << length;
  }
}

// Few points, because the tests below copy the document for each of its values.
Json short_document() {
  RunRecord record = sample_record();
  for (auto& [name, points] : record.series) points.resize(5);
  return Json::parse(report_json(record));
}

// Walks all values of a document and hands each out to be changed in a copy.
void for_each_value(const Json& root, const Json& value, const Json::json_pointer& at,
                    const std::function<void(const Json::json_pointer&, const Json&)>& visit) {
  if (!at.empty()) visit(at, value);
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) for_each_value(root, inner, at / key, visit);
  } else if (value.is_array() && !value.empty()) {
    for_each_value(root, value[0], at / std::size_t{0}, visit);
  }
}

TEST(ReportJson, RefusesAMissingKeyAndNamesIt) {
  const Json whole = short_document();
  int tried = 0;
  for_each_value(whole, whole, Json::json_pointer(), [&](const Json::json_pointer& at, const Json&) {
    const std::string path = at.to_string();
    // Derived, or free to be absent.
    if (path.starts_with("/summary") || path.starts_with("/environment/") || path.starts_with("/series/")) return;
    if (path.ends_with("/scheme")) return;  // reports of before there were schemes
    Json broken = whole;
    Json& parent = broken[at.parent_pointer()];
    if (!parent.is_object()) return;
    parent.erase(at.back());
    const std::string problem = problem_of(broken);
    EXPECT_NE(problem.find("'" + at.back() + "'"), std::string::npos) << path << ": " << problem;
    ++tried;
  });
  EXPECT_GT(tried, 35);
}

TEST(ReportJson, RefusesAWrongTypeAnywhereAndNamesThePlace) {
  const Json whole = short_document();
  int tried = 0;
  for_each_value(whole, whole, Json::json_pointer(), [&](const Json::json_pointer& at, const Json& value) {
    const std::string path = at.to_string();
    if (path.starts_with("/summary")) return;
    for (const Json& wrong :
         {Json("x"), Json(1.5), Json(Json::object()), Json(Json::array({Json::array({"x"})})), Json(true)}) {
      const bool fits = wrong.type() == value.type() ||
                        (value.is_number() && !value.is_number_integer() && wrong.is_number()) ||
                        (value.is_object() && wrong.is_object());
      if (fits) continue;
      Json broken = whole;
      broken[at] = wrong;
      EXPECT_NE(problem_of(broken), "") << path << " = " << wrong;
      ++tried;
    }
  });
  EXPECT_GT(tried, 150);

  Json broken = whole;
  broken["stages"][2]["loss"] = "low";
  EXPECT_EQ(problem_of(broken), "'stages[2].loss' is not a number");
  broken = whole;
  broken["layers"][1]["bytes"] = std::uint64_t{1} << 63;
  EXPECT_EQ(problem_of(broken), "'layers[1].bytes' does not fit 64 bits");
  broken = whole;
  broken["series"]["loss"][4] = Json::array({1, 2, 3});
  EXPECT_EQ(problem_of(broken), "'series.loss[4]' is not a pair [step, value]");
}

TEST(ReportJson, RefusesOtherFormatsAndNewerVersions) {
  EXPECT_EQ(category_of("[]"), ErrorCategory::kCorruptData);
  EXPECT_EQ(category_of("{}"), ErrorCategory::kCorruptData);
  EXPECT_EQ(category_of("null"), ErrorCategory::kCorruptData);
  EXPECT_EQ(category_of(std::string(200000, '[')), ErrorCategory::kCorruptData);
  Json json = Json::parse(report_json(sample_record()));
  json["format"] = "other";
  EXPECT_EQ(category_of(json.dump()), ErrorCategory::kCorruptData);
  json["format"] = "pare.report";
  json["version"] = 0;
  EXPECT_EQ(category_of(json.dump()), ErrorCategory::kCorruptData);
  json["version"] = 2;
  EXPECT_EQ(category_of(json.dump()), ErrorCategory::kUnsupported);
}

TEST(ReportJson, IgnoresKeysThatItDoesNotKnow) {
  Json json = Json::parse(report_json(sample_record()));
  json["added_later"] = {{"a", 1}};
  json["stages"][0]["added_later"] = true;
  expect_same_frame(record_from_json(json.dump()), sample_record());
}

TEST(RunSummary, TakesTheLastOfTheFirstDenseStagesAsReference) {
  RunRecord record;
  EXPECT_FALSE(summarize(record).reference_accuracy);
  const auto stage = [](const char* kind, double accuracy) {
    StageRecord result;
    result.name = result.kind = kind;
    result.accuracy = accuracy;
    return result;
  };
  record.stages = {stage("dense", 90.0), stage("dense", 91.0), stage("sparse", 89.0), stage("dense", 92.0)};
  EXPECT_EQ(summarize(record).reference_accuracy, 91.0);
  EXPECT_FALSE(summarize(record).accuracy_drop);
  record.runtime = {89.5, 100, 0};
  EXPECT_EQ(summarize(record).accuracy_drop, 1.5);
  record.stages.erase(record.stages.begin(), record.stages.begin() + 2);
  EXPECT_FALSE(summarize(record).reference_accuracy);
  record.stages = {stage("dense", kNan)};
  EXPECT_FALSE(summarize(record).reference_accuracy);
}

TEST(RunSummary, GivesTheVerdict) {
  using Verdict = RunSummary::Verdict;
  RunRecord record = sample_record();
  EXPECT_EQ(summarize(record).verdict, Verdict::kAccepted);
  record.accepted_drop = -1.0;
  EXPECT_EQ(summarize(record).verdict, Verdict::kFinished);
  record.accepted = false;
  EXPECT_EQ(summarize(record).verdict, Verdict::kRejected);
  record.runtime.mismatches = 1;
  EXPECT_EQ(summarize(record).verdict, Verdict::kMismatched);
  record = sample_record();
  record.artifact.bytes = 0;
  EXPECT_EQ(summarize(record).verdict, Verdict::kUnfinished);
  record = sample_record();
  record.runtime.samples = 0;
  EXPECT_EQ(summarize(record).verdict, Verdict::kUnfinished);
  EXPECT_EQ(summarize(RunRecord{}).verdict, Verdict::kUnfinished);
}

TEST(RunSummary, CountsZerosOverAllLayers) {
  RunRecord record;
  EXPECT_FALSE(summarize(record).zero_fraction);
  record.layers.resize(2);
  record.layers[0].shape = {2, 3};
  record.layers[0].zeros = 3;
  record.layers[1].shape = {10};
  record.layers[1].zeros = 1;
  EXPECT_EQ(summarize(record).zero_fraction, 4.0 / 16.0);
  record.layers[1].shape = {INT64_MAX, INT64_MAX, INT64_MAX};
  EXPECT_GE(*summarize(record).zero_fraction, 0.0);
}

TEST(RunSummary, SaysItInOneLine) {
  EXPECT_EQ(summary_line(sample_record()),
            "fashion_mnist: accuracy 93.07 % to 92.96 %, 524 kB (0.159 of dense fp32), 0 mismatches in 10,000 images: "
            "accepted");
  EXPECT_EQ(summary_line(RunRecord{}), "run: unfinished");
  RunRecord record = sample_record();
  record.artifact = {};
  record.runtime = {};
  EXPECT_EQ(summary_line(record), "fashion_mnist: accuracy 92.96 % after stage qat: unfinished");
  record.runtime = {kNan, 1234567, -1000};
  EXPECT_EQ(summary_line(record),
            "fashion_mnist: accuracy 93.07 % to unknown, -1,000 mismatches in 1,234,567 images: unfinished");
}

}  // namespace
}  // namespace pare::pipeline
