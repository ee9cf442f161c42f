// The JSON description inside an artifact (docs/format.md).
//
// Within one format version every key is known: an unknown one would mean something that this reader ignores, so it is
// refused.
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "pare/base/strings.h"
#include "pare/format/block.h"
#include "pare/format/vnm.h"
#include "pare/graph/artifact_internal.h"

namespace pare::graph::internal {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxDescriptionBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxValues = std::size_t{1} << 20;
// "encoding" of int4 weights: "int4", "int4 2:4".
constexpr const char* kInt4 = "int4";
constexpr const char* kInt4TwoFour = " 2:4";

[[noreturn]] void fail(const std::string& path, std::string problem,
                       ErrorCategory category = ErrorCategory::kCorruptData) {
  throw GraphError(category, kPromiseStructure, {}, std::move(problem),
                   path.empty() ? "description" : str_cat("description, ", path));
}

std::string to_hex(std::uint64_t value) {
  std::array<char, 16> digits{};
  digits.fill('0');
  std::array<char, 16> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, 16).ptr;
  std::copy(text.data(), end, digits.end() - (end - text.data()));
  return {digits.begin(), digits.end()};
}

// ---- writing ----

Json to_json(const Attribute& attribute) {
  constexpr std::array<const char*, 5> kTypes{"int", "float", "string", "ints", "floats"};
  const Json value = std::visit([](const auto& held) { return Json(held); }, attribute);
  return Json{{kTypes[attribute.index()], value}};
}

Json to_json(const Node& node) {
  Json attributes = Json::object();
  for (const auto& [key, attribute] : node.attributes) {
    attributes[key] = to_json(attribute);
  }
  return Json{{"name", node.name},
              {"op_type", node.op_type},
              {"inputs", node.inputs},
              {"output", node.output},
              {"attributes", attributes}};
}

Json to_json(const Value& value) {
  Json result{{"dtype", std::string(safetensors_name(value.dtype))}, {"shape", value.shape}};
  if (value.quantization.has_value()) {
    result["quantization"] = {{"scale", value.quantization->scales.at(0)},
                              {"zero_point", value.quantization->zero_point}};
  }
  return result;
}

Json to_json(const std::string& name, const Initializer& item, const std::map<std::string, std::uint64_t>& checksums) {
  Json sums = Json::object();
  for (const StoredTensor& tensor : stored_tensors(name, item)) {
    sums[tensor.name] = to_hex(checksums.at(tensor.name));
  }
  Json result{{"dtype", std::string(safetensors_name(item.dtype))},
              {"shape", item.shape},
              {"encoding", item.is_int4() ? str_cat(kInt4, item.stores_zeros() ? "" : kInt4TwoFour) : item.pattern()},
              {"xxh3", sums}};
  if (item.is_int4()) {
    result["group"] = item.group;
  }
  if (item.quantization.has_value()) {
    result["quantization"] = {{"axis", item.quantization->axis}, {"zero_point", item.quantization->zero_point}};
  }
  return result;
}

// ---- reading ----

// One JSON object whose keys must all be asked for.
class Object {
 public:
  Object(const Json& json, std::string path) : json_(json), path_(std::move(path)) {
    if (!json.is_object()) {
      fail(path_, "an object is expected");
    }
  }

  [[nodiscard]] const Json& at(const char* key) {
    const Json* found = find(key);
    if (found == nullptr) {
      fail(path_, str_cat("the key '", key, "' is missing"));
    }
    return *found;
  }

  [[nodiscard]] const Json* find(const char* key) {
    known_.emplace_back(key);
    const auto found = json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }

  // Refuses keys that nobody asked for.
  void finish() const {
    for (const auto& entry : json_.items()) {
      if (std::find(known_.begin(), known_.end(), entry.key()) == known_.end()) {
        fail(path_, str_cat("the key '", entry.key().substr(0, 100), "' is not known"));
      }
    }
  }

  [[nodiscard]] std::string path(const char* key) const { return path_.empty() ? key : str_cat(path_, ".", key); }

  [[nodiscard]] std::string text(const char* key);
  [[nodiscard]] std::int64_t integer(const char* key, std::int64_t low, std::int64_t high);
  [[nodiscard]] float number(const char* key);
  [[nodiscard]] std::vector<std::string> texts(const char* key);
  [[nodiscard]] std::vector<std::int64_t> integers(const char* key);
  [[nodiscard]] std::vector<float> numbers(const char* key);

 private:
  const Json& json_;
  std::string path_;
  std::vector<std::string> known_;
};

std::string read_text(const Json& json, const std::string& path) {
  if (!json.is_string()) {
    fail(path, "a text is expected");
  }
  return json.get<std::string>();
}

std::int64_t read_integer(const Json& json, const std::string& path) {
  const bool too_large =
      json.is_number_unsigned() &&
      json.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!json.is_number_integer() || too_large) {
    fail(path, "an integer of 64 bits is expected");
  }
  return json.get<std::int64_t>();
}

float read_number(const Json& json, const std::string& path) {
  if (!json.is_number()) {
    fail(path, "a number is expected");
  }
  const auto value = json.get<double>();
  if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    fail(path, "the number is outside float32");
  }
  return static_cast<float>(value);
}

template <typename T>
std::vector<T> read_list(const Json& json, const std::string& path, T (*read)(const Json&, const std::string&)) {
  if (!json.is_array()) {
    fail(path, "a list is expected");
  }
  std::vector<T> items;
  items.reserve(json.size());
  for (const Json& item : json) {
    items.push_back(read(item, path));
  }
  return items;
}

std::string Object::text(const char* key) { return read_text(at(key), path(key)); }
float Object::number(const char* key) { return read_number(at(key), path(key)); }
std::vector<std::string> Object::texts(const char* key) {
  return read_list<std::string>(at(key), path(key), read_text);
}
std::vector<float> Object::numbers(const char* key) { return read_list<float>(at(key), path(key), read_number); }
std::vector<std::int64_t> Object::integers(const char* key) {
  return read_list<std::int64_t>(at(key), path(key), read_integer);
}
std::int64_t Object::integer(const char* key, std::int64_t low, std::int64_t high) {
  const std::int64_t value = read_integer(at(key), path(key));
  if (value < low || value > high) {
    fail(path(key), str_cat(value, " lies outside ", low, " to ", high));
  }
  return value;
}

constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

// Calls read(key, item) for every entry of an object with free keys.
template <typename Read>
void for_each_entry(const Json& json, const std::string& path, Read&& read) {
  if (!json.is_object()) {
    fail(path, "an object is expected");
  }
  for (const auto& entry : json.items()) {
    if (!is_valid_name(entry.key())) {
      fail(path, "a name is empty, too long or not printable");
    }
    read(entry.key(), entry.value());
  }
}

DType read_dtype(Object& object) {
  const std::string name = object.text("dtype");
  for (const DType dtype : {DType::kF32, DType::kU8, DType::kS8, DType::kS32}) {
    if (name == safetensors_name(dtype)) {
      return dtype;
    }
  }
  fail(object.path("dtype"), "the element type is not known", ErrorCategory::kUnsupported);
}

Attribute read_attribute(const Json& json, const std::string& path) {
  if (!json.is_object() || json.size() != 1) {
    fail(path, "an object with one key, its type, is expected");
  }
  const std::string& type = json.begin().key();
  const Json& value = json.begin().value();
  if (type == "int") {
    return read_integer(value, path);
  }
  if (type == "float") {
    return read_number(value, path);
  }
  if (type == "string") {
    return read_text(value, path);
  }
  if (type == "ints") {
    return read_list<std::int64_t>(value, path, read_integer);
  }
  if (type == "floats") {
    return read_list<float>(value, path, read_number);
  }
  fail(path, "the type of the attribute is not known");
}

Node read_node(const Json& json, const std::string& path) {
  Object object(json, path);
  Node node;
  node.name = object.text("name");
  node.op_type = object.text("op_type");
  node.inputs = object.texts("inputs");
  node.output = object.text("output");
  const std::string attributes_path = object.path("attributes");
  for_each_entry(object.at("attributes"), attributes_path, [&](const std::string& key, const Json& item) {
    node.attributes[key] = read_attribute(item, str_cat(attributes_path, ".", key));
  });
  object.finish();
  if (!is_valid_name(node.op_type)) {
    fail(object.path("op_type"), "the name is empty, too long or not printable");
  }
  return node;
}

Value read_value(const Json& json, const std::string& path) {
  Object object(json, path);
  Value value;
  value.dtype = read_dtype(object);
  value.shape = object.integers("shape");
  if (value.shape.empty()) {
    fail(object.path("shape"), "it is empty");
  }
  if (const Json* quantization = object.find("quantization"); quantization != nullptr) {
    Object inner(*quantization, object.path("quantization"));
    value.quantization =
        Quantization{.scales = {inner.number("scale")},
                     .zero_point = static_cast<std::int32_t>(inner.integer("zero_point", kInt32Min, kInt32Max)),
                     .axis = -1};
    inner.finish();
  }
  object.finish();
  return value;
}

std::uint64_t read_checksum(const Json& json, const std::string& path) {
  const std::string text = read_text(json, path);
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (parsed.ec != std::errc() || to_hex(value) != text) {
    fail(path, "16 lower-case hexadecimal digits are expected");
  }
  return value;
}

Initializer read_initializer(const Json& json, const std::string& path,
                             std::map<std::string, std::uint64_t>& checksums) {
  Object object(json, path);
  Initializer item;
  item.dtype = read_dtype(object);
  item.shape = object.integers("shape");
  const std::string encoding = object.text("encoding");
  if (encoding == kInt4 || encoding == str_cat(kInt4, kInt4TwoFour)) {
    item.encoding = encoding == kInt4 ? Encoding::kInt4 : Encoding::kInt4TwoFour;
    item.group = object.integer("group", 0, kMaxExtent);
  } else if (encoding == "2:4") {
    item.encoding = Encoding::kTwoFour;
  } else if (const auto vnm = format::parse_vnm(encoding)) {
    item.encoding = Encoding::kVnm;
    item.vnm = *vnm;
  } else if (const auto block = format::parse_block(encoding)) {
    item.encoding = Encoding::kBlock;
    item.block = *block;
  } else if (encoding != "dense") {
    fail(object.path("encoding"), "the encoding is not known", ErrorCategory::kUnsupported);
  }
  if (const Json* quantization = object.find("quantization"); quantization != nullptr) {
    Object inner(*quantization, object.path("quantization"));
    item.quantization =
        Quantization{.scales = {},
                     .zero_point = static_cast<std::int32_t>(inner.integer("zero_point", kInt32Min, kInt32Max)),
                     .axis = static_cast<int>(inner.integer("axis", kInt32Min, kInt32Max))};
    inner.finish();
  }
  const std::string sums_path = object.path("xxh3");
  for_each_entry(object.at("xxh3"), sums_path, [&](const std::string& tensor, const Json& sum) {
    if (!checksums.emplace(tensor, read_checksum(sum, sums_path)).second) {
      fail(sums_path, str_cat("the tensor '", tensor, "' belongs to another initializer as well"));
    }
  });
  object.finish();
  return item;
}

Graph read_graph(const Json& json, std::map<std::string, std::uint64_t>& checksums) {
  Object object(json, "graph");
  Graph graph;
  graph.name = object.text("name");
  graph.input = object.text("input");
  graph.output = object.text("output");
  const Json& nodes = object.at("nodes");
  if (!nodes.is_array() || nodes.size() > static_cast<std::size_t>(kMaxNodes)) {
    fail(object.path("nodes"), str_cat("a list of at most ", kMaxNodes, " nodes is expected"));
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    graph.nodes.push_back(read_node(nodes[i], str_cat("graph.nodes[", i, "]")));
  }
  for_each_entry(object.at("values"), "graph.values", [&](const std::string& name, const Json& item) {
    graph.values[name] = read_value(item, str_cat("graph.values.", name));
  });
  for_each_entry(object.at("initializers"), "graph.initializers", [&](const std::string& name, const Json& item) {
    graph.initializers[name] = read_initializer(item, str_cat("graph.initializers.", name), checksums);
  });
  object.finish();
  return graph;
}

LayerPromise read_promise(const Json& json, const std::string& path) {
  Object object(json, path);
  LayerPromise promise;
  promise.weight = object.text("weight");
  promise.pattern = object.text("pattern");
  promise.zeros = object.integer("zeros", 0, std::numeric_limits<std::int64_t>::max());
  promise.note = object.text("note");
  object.finish();
  if (!is_valid_name(promise.weight) || !is_valid_name(promise.pattern)) {
    fail(path, "a name is empty, too long or not printable");
  }
  return promise;
}

// Looks at a text without keeping it: limits depth and refuses repeated keys, of which a JSON reader would silently
// take one. (nlohmann's callback for parse() could do the same, but takes quadratic time in the length of a list of
// objects.)
class StrictnessHandler : public nlohmann::json_sax<Json> {
 public:
  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool null() override { return admit(); }
  bool boolean(bool) override { return admit(); }
  bool number_integer(number_integer_t) override { return admit(); }
  bool number_unsigned(number_unsigned_t) override { return admit(); }
  bool number_float(number_float_t, const string_t&) override { return admit(); }
  bool string(string_t&) override { return admit(); }
  bool binary(binary_t&) override { return admit(); }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    return keys_.back().insert(name).second || stop("a key stands twice in one object");
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return stop(str_cat("it is no JSON, at byte ", position));
  }

 private:
  bool admit() { return ++values_ <= kMaxValues || stop(str_cat("it has more than ", kMaxValues, " values")); }
  bool enter() {
    keys_.emplace_back();
    return admit() && (keys_.size() <= kMaxDepth || stop(str_cat("it is nested deeper than ", kMaxDepth)));
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }
  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  std::vector<std::set<std::string>> keys_;  // of each object that is open; empty for an open list
  std::size_t values_ = 0;
  std::string problem_;
};

Json parse_strictly(std::string_view text) {
  StrictnessHandler handler;
  if (!Json::sax_parse(text, &handler)) {
    fail({}, handler.problem());
  }
  return Json::parse(text);
}

}  // namespace

std::string write_description(const Description& description) {
  const Artifact& artifact = description.artifact;
  Json nodes = Json::array();
  for (const Node& node : artifact.graph.nodes) {
    nodes.push_back(to_json(node));
  }
  Json values = Json::object();
  for (const auto& [name, value] : artifact.graph.values) {
    values[name] = to_json(value);
  }
  Json initializers = Json::object();
  for (const auto& [name, item] : artifact.graph.initializers) {
    initializers[name] = to_json(name, item, description.checksums);
  }
  Json layers = Json::array();
  for (const LayerPromise& promise : artifact.promises) {
    layers.push_back(
        {{"weight", promise.weight}, {"pattern", promise.pattern}, {"zeros", promise.zeros}, {"note", promise.note}});
  }
  const Json root{{"graph",
                   {{"name", artifact.graph.name},
                    {"input", artifact.graph.input},
                    {"output", artifact.graph.output},
                    {"nodes", nodes},
                    {"values", values},
                    {"initializers", initializers}}},
                  {"preprocessing", {{"mean", artifact.preprocessing.mean}, {"std", artifact.preprocessing.std}}},
                  {"class_names", artifact.class_names},
                  {"layers", layers},
                  {"provenance", artifact.provenance}};
  std::string text;
  try {
    text = root.dump();
  } catch (const Json::exception& error) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("a text is no UTF-8: ", error.what()), "artifact",
                "class names, notes and provenance must be UTF-8");
  }
  if (text.size() > kMaxDescriptionBytes) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the description takes ", text.size(), " bytes, more than ", kMaxDescriptionBytes), "artifact",
                "shorten class names, notes or provenance");
  }
  return text;
}

Description parse_description(std::string_view text) {
  if (text.size() > kMaxDescriptionBytes) {
    fail({}, str_cat("it takes ", text.size(), " bytes, more than ", kMaxDescriptionBytes));
  }
  const Json root = parse_strictly(text);
  Object object(root, {});
  Description description;
  Artifact& artifact = description.artifact;
  artifact.graph = read_graph(object.at("graph"), description.checksums);
  Object preprocessing(object.at("preprocessing"), "preprocessing");
  artifact.preprocessing.mean = preprocessing.numbers("mean");
  artifact.preprocessing.std = preprocessing.numbers("std");
  preprocessing.finish();
  artifact.class_names = object.texts("class_names");
  artifact.promises = read_list<LayerPromise>(object.at("layers"), "layers", read_promise);
  for_each_entry(object.at("provenance"), "provenance", [&](const std::string& key, const Json& item) {
    artifact.provenance[key] = read_text(item, "provenance");
  });
  object.finish();
  return description;
}

}  // namespace pare::graph::internal
