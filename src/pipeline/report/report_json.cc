#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/pipeline/report/report.h"

namespace pare::pipeline {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "pare.report";
constexpr std::int64_t kVersion = 1;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json number(const std::optional<double>& value) { return value ? number(*value) : Json(nullptr); }

Json to_json(const StageRecord& stage) {
  Json json = Json::object();
  json["name"] = stage.name;
  json["kind"] = stage.kind;
  json["epochs"] = number(stage.epochs);
  json["seconds"] = number(stage.seconds);
  json["accuracy"] = number(stage.accuracy);
  json["loss"] = number(stage.loss);
  json["sparsity"] = number(stage.sparsity);
  json["lr"] = number(stage.lr);
  json["ms_per_step"] = number(stage.ms_per_step);
  json["first_step"] = stage.first_step;
  json["steps"] = stage.steps;
  return json;
}

Json to_json(const LayerRecord& layer) {
  Json json = Json::object();
  json["name"] = layer.name;
  json["op"] = layer.op;
  json["scheme"] = layer.scheme;
  json["shape"] = layer.shape;
  json["pattern"] = layer.pattern;
  json["zeros"] = layer.zeros;
  json["weight_bits"] = layer.weight_bits;
  json["bytes"] = layer.bytes;
  json["kernel"] = layer.kernel;
  json["note"] = layer.note;
  return json;
}

Json summary_json(const RunRecord& record) {
  const RunSummary summary = summarize(record);
  Json json = Json::object();
  json["verdict"] = to_string(summary.verdict);
  json["reference_accuracy"] = number(summary.reference_accuracy);
  json["accuracy_drop"] = number(summary.accuracy_drop);
  json["size_ratio"] = number(summary.size_ratio);
  json["zero_fraction"] = number(summary.zero_fraction);
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// One line for each element of the outermost lists and objects: readable, and a series stays on one line.
std::string dump_by_lines(const Json& json) {
  std::string out = "{";
  const char* separator = "\n";
  for (const auto& [key, value] : json.items()) {
    out += str_cat(separator, "  ", dump(Json(key)), ": ");
    separator = ",\n";
    if (!value.is_structured() || value.empty()) {
      out += dump(value);
      continue;
    }
    out += value.is_array() ? "[" : "{";
    const char* inner = "\n";
    for (const auto& [name, element] : value.items()) {
      out += str_cat(inner, "    ", value.is_array() ? std::string() : dump(Json(name)) + ": ", dump(element));
      inner = ",\n";
    }
    out += value.is_array() ? "\n  ]" : "\n  }";
  }
  return out + "\n}\n";
}

// A value and the place where it stands, which every complaint names.
class Field {
 public:
  Field(const Json& json, std::string place) : json_(&json), place_(std::move(place)) {}

  [[nodiscard]] bool has(const char* key) const { return json_->is_object() && json_->contains(key); }

  [[nodiscard]] Field operator[](const char* key) const {
    require(json_->is_object(), "is not an object");
    const auto found = json_->find(key);
    if (found == json_->end()) fail(str_cat("lacks the key '", key, "'"));
    return {*found, str_cat(place_, place_.empty() ? "" : ".", key)};
  }

  [[nodiscard]] Field operator[](std::size_t index) const {
    return {json_->at(index), str_cat(place_, "[", index, "]")};
  }

  [[nodiscard]] std::size_t list_size() const {
    require(json_->is_array(), "is not a list");
    return json_->size();
  }

  [[nodiscard]] double as_double() const {
    if (json_->is_null()) return std::numeric_limits<double>::quiet_NaN();
    require(json_->is_number(), "is not a number");
    return json_->get<double>();
  }

  [[nodiscard]] std::int64_t as_integer() const {
    require(json_->is_number_integer(), "is not an integer");
    require(!json_->is_number_unsigned() || json_->get<std::uint64_t>() <= std::uint64_t{INT64_MAX},
            "does not fit 64 bits");
    return json_->get<std::int64_t>();
  }

  [[nodiscard]] std::string as_text() const {
    require(json_->is_string(), "is not a text");
    return json_->get<std::string>();
  }

  [[nodiscard]] bool as_flag() const {
    require(json_->is_boolean(), "is neither true nor false");
    return json_->get<bool>();
  }

  // One element after the other through `read`.
  template <typename Read>
  [[nodiscard]] auto as_list(Read&& read) const {
    std::vector<decltype(read(*this))> list;
    const std::size_t size = list_size();
    list.reserve(size);
    for (std::size_t i = 0; i < size; ++i) list.push_back(read((*this)[i]));
    return list;
  }

  template <typename Visit>
  void for_each_member(Visit&& visit) const {
    require(json_->is_object(), "is not an object");
    for (const auto& [key, value] : json_->items()) visit(key, Field(value, str_cat(place_, ".", key)));
  }

  void require(bool condition, const char* problem) const {
    if (!condition) fail(problem);
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorCategory::kCorruptData, str_cat("'", place_.empty() ? "the report" : place_, "' ", problem),
                "report.json");
  }

 private:
  const Json* json_;
  std::string place_;
};

std::string text(const Field& field) { return field.as_text(); }
std::int64_t integer(const Field& field) { return field.as_integer(); }

StageRecord read_stage(const Field& field) {
  StageRecord stage;
  stage.name = field["name"].as_text();
  stage.kind = field["kind"].as_text();
  stage.epochs = field["epochs"].as_double();
  stage.seconds = field["seconds"].as_double();
  stage.accuracy = field["accuracy"].as_double();
  stage.loss = field["loss"].as_double();
  stage.sparsity = field["sparsity"].as_double();
  stage.lr = field["lr"].as_double();
  stage.ms_per_step = field["ms_per_step"].as_double();
  stage.first_step = field["first_step"].as_integer();
  stage.steps = field["steps"].as_integer();
  return stage;
}

LayerRecord read_layer(const Field& field) {
  LayerRecord layer;
  layer.name = field["name"].as_text();
  layer.op = field["op"].as_text();
  if (field.has("scheme")) {
    layer.scheme = field["scheme"].as_text();
  }
  layer.shape = field["shape"].as_list(integer);
  layer.pattern = field["pattern"].as_text();
  layer.zeros = field["zeros"].as_integer();
  layer.weight_bits = field["weight_bits"].as_integer();
  layer.bytes = field["bytes"].as_integer();
  layer.kernel = field["kernel"].as_text();
  layer.note = field["note"].as_text();
  return layer;
}

SeriesPoint read_point(const Field& field) {
  field.require(field.list_size() == 2, "is not a pair [step, value]");
  return {field[std::size_t{0}].as_integer(), field[std::size_t{1}].as_double()};
}

}  // namespace

std::string report_json(const RunRecord& record) {
  Json json = Json::object();
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["recipe"] = record.recipe;
  json["summary"] = summary_json(record);
  json["stages"] = Json::array();
  for (const StageRecord& stage : record.stages) json["stages"].push_back(to_json(stage));
  json["layers"] = Json::array();
  for (const LayerRecord& layer : record.layers) json["layers"].push_back(to_json(layer));

  Json& artifact = json["artifact"] = Json::object();
  artifact["path"] = record.artifact.path;
  artifact["bytes"] = record.artifact.bytes;
  artifact["dense_fp32_bytes"] = record.artifact.dense_fp32_bytes;

  Json& runtime = json["runtime"] = Json::object();
  runtime["accuracy"] = number(record.runtime.accuracy);
  runtime["samples"] = record.runtime.samples;
  runtime["mismatches"] = record.runtime.mismatches;

  json["accepted"] = record.accepted;
  json["accepted_drop"] = number(record.accepted_drop);
  json["warnings"] = record.warnings;
  json["environment"] = Json::object();
  for (const auto& [key, value] : record.environment) json["environment"][key] = value;
  json["class_names"] = record.class_names;
  json["confusion"] = record.confusion;
  json["series"] = Json::object();
  for (const auto& [name, points] : record.series) {
    Json& list = json["series"][name] = Json::array();
    for (const SeriesPoint& point : points) list.push_back(Json::array({Json(point.step), number(point.value)}));
  }
  return dump_by_lines(json);
}

RunRecord record_from_json(const std::string& json) {
  Json parsed;
  try {
    parsed = Json::parse(json);
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCategory::kCorruptData, str_cat("not JSON: ", e.what()), "report.json");
  }
  const Field root(parsed, "");
  root["format"].require(root["format"].as_text() == kFormat, "is not 'pare.report'");
  const std::int64_t version = root["version"].as_integer();
  if (version > kVersion) {
    throw Error(ErrorCategory::kUnsupported, str_cat("format version ", version, " is newer than ", kVersion),
                "report.json", "use the pare that wrote it, or a newer one");
  }
  root["version"].require(version == kVersion, "is not a version that ever was");

  RunRecord record;
  record.recipe = root["recipe"].as_text();
  record.stages = root["stages"].as_list(read_stage);
  record.layers = root["layers"].as_list(read_layer);
  const Field artifact = root["artifact"];
  record.artifact = {artifact["path"].as_text(), artifact["bytes"].as_integer(),
                     artifact["dense_fp32_bytes"].as_integer()};
  const Field runtime = root["runtime"];
  record.runtime = {runtime["accuracy"].as_double(), runtime["samples"].as_integer(),
                    runtime["mismatches"].as_integer()};
  record.accepted = root["accepted"].as_flag();
  record.accepted_drop = root["accepted_drop"].as_double();
  record.warnings = root["warnings"].as_list(text);
  root["environment"].for_each_member(
      [&](const std::string& key, const Field& value) { record.environment[key] = value.as_text(); });
  record.class_names = root["class_names"].as_list(text);
  record.confusion = root["confusion"].as_list([](const Field& row) { return row.as_list(integer); });
  root["series"].for_each_member(
      [&](const std::string& name, const Field& points) { record.series[name] = points.as_list(read_point); });
  return record;
}

}  // namespace pare::pipeline
