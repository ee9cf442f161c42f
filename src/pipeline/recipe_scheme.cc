#include "pare/pipeline/recipe_scheme.h"

#include <algorithm>

#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names = {"uint8", "dynamic_int8"};
  return names;
}

// A weight's name and its int4 group.
const std::vector<std::pair<std::string, std::int64_t>>& weight_names() {
  static const std::vector<std::pair<std::string, std::int64_t>> names = {{"int8_per_channel", 0},
                                                                          {"int4_group32", 32},
                                                                          {"int4_group64", 64},
                                                                          {"int4_group128", 128},
                                                                          {"int4_group256", 256}};
  return names;
}

const std::vector<std::string>& int4_scale_names() {
  static const std::vector<std::string> names = {"amax/7", "amax/7.5"};
  return names;
}

std::string name_of_weight(std::int64_t group) {
  const auto& names = weight_names();
  return std::find_if(names.begin(), names.end(), [&](const auto& item) { return item.second == group; })->first;
}

// What is left out comes from `fallback`.
quant::LayerScheme read_scheme(TableReader& reader, quant::LayerScheme fallback) {
  quant::LayerScheme scheme = fallback;
  std::vector<std::string> choices;
  for (const auto& entry : weight_names()) {
    choices.push_back(entry.first);
  }
  const std::string weight = reader.choice("weight", name_of_weight(fallback.int4_group), choices);
  scheme.int4_group = std::find_if(weight_names().begin(), weight_names().end(), [&](const auto& item) {
                        return item.first == weight;
                      })->second;
  const bool dynamic = fallback.is_dynamic() || (scheme.is_int4() && !reader.has("activation"));
  const bool chosen_dynamic =
      reader.choice("activation", activation_names()[dynamic ? 1 : 0], activation_names()) == activation_names()[1];
  scheme.activation = chosen_dynamic ? quant::ActivationScheme::kDynamicInt8 : quant::ActivationScheme::kUint8;
  const bool torchao = fallback.int4_scale == format::Int4Scale::kAmaxOver7p5;
  if (reader.has("int4_scale") && !scheme.is_int4()) {
    reader.fail("int4_scale", "'int4_scale' belongs to int4 weights",
                "leave it out, or write weight = \"int4_group32\"");
  }
  const std::string scale = reader.choice("int4_scale", int4_scale_names()[torchao ? 1 : 0], int4_scale_names());
  scheme.int4_scale = scale == int4_scale_names()[1] ? format::Int4Scale::kAmaxOver7p5 : format::Int4Scale::kAmaxOver7;
  try {
    scheme.validate();
  } catch (const Error& error) {
    reader.fail(reader.has("weight") ? "weight" : "activation", error.problem(), error.remedy(),
                ErrorCategory::kInvalidArgument);
  }
  return scheme;
}

}  // namespace

void read_schemes(TableReader& quantize, quant::QATConfig& config) {
  config.scheme = read_scheme(quantize, config.scheme);
  for (TableReader& reader : quantize.tables("layers")) {
    quant::SchemeException exception;
    exception.tensor_fqn =
        reader.required_text("tensor_fqn", "name a weight or a glob, as in tensor_fqn = \"fc*.weight\"");
    exception.scheme = read_scheme(reader, config.scheme);
    reader.finish();
    config.layers.push_back(std::move(exception));
  }
}

std::vector<std::pair<std::string, std::string>> scheme_keys(const quant::LayerScheme& scheme) {
  const auto quoted = [](const std::string& name) { return str_cat("\"", name, "\""); };
  std::vector<std::pair<std::string, std::string>> keys = {
      {"activation", quoted(activation_names()[scheme.is_dynamic() ? 1 : 0])},
      {"weight", quoted(name_of_weight(scheme.int4_group))}};
  if (scheme.is_int4()) {
    const bool torchao = scheme.int4_scale == format::Int4Scale::kAmaxOver7p5;
    keys.emplace_back("int4_scale", quoted(int4_scale_names()[torchao ? 1 : 0]));
  }
  return keys;
}

std::string describe_schemes(const quant::QATConfig& config) {
  std::string text = to_string(config.scheme);
  for (const quant::SchemeException& exception : config.layers) {
    text += str_cat(", but ", exception.tensor_fqn, " ", to_string(exception.scheme));
  }
  return text;
}

}  // namespace pare::pipeline
