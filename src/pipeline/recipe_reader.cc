#include "pare/pipeline/recipe_reader.h"

#include <cmath>
#include <map>
#include <utility>

#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

// What a user would call the type of a node.
std::string type_words(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "the text \"" + node.ref<std::string>() + "\"";
    case toml::node_type::integer:
      return str_cat("the number ", node.ref<std::int64_t>());
    case toml::node_type::floating_point:
      return str_cat("the number ", node.ref<double>());
    case toml::node_type::boolean:
      return node.ref<bool>() ? "true" : "false";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
      break;
  }
  return "nothing";
}

std::string region_text(const toml::source_region& region, const std::string& file) {
  if (region.path && region.path->starts_with("--set ")) {
    return *region.path;
  }
  if (region.begin.line == 0) {
    return file;
  }
  return str_cat(file, ":", region.begin.line, ":", region.begin.column);
}

}  // namespace

toml::table parse_toml(const std::string& text, const std::string& file) {
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    const auto& begin = error.source().begin;
    throw Error(ErrorCategory::kInvalidArgument, str_cat("this is not TOML: ", error.description()),
                str_cat(file, ":", begin.line, ":", begin.column));
  }
}

std::string where_is(const toml::node& node, const std::string& file) { return region_text(node.source(), file); }

bool NumberRange::contains(double value) const {
  // Written so that NaN is in no range.
  return (above_min ? value > min : value >= min) && value <= max;
}

std::string NumberRange::words() const {
  const bool has_min = std::isfinite(min);
  const bool has_max = std::isfinite(max);
  if (has_min && has_max) {
    return above_min ? str_cat("above ", min, " and at most ", max) : str_cat("from ", min, " to ", max);
  }
  if (has_min) {
    return str_cat(above_min ? "above " : "at least ", min);
  }
  return has_max ? str_cat("at most ", max) : "a finite number";
}

TableReader::TableReader(const toml::table& table, std::string path, const std::string& file)
    : table_(&table), path_(std::move(path)), file_(&file) {}

const toml::node* TableReader::find(const std::string& key) {
  known_.insert(key);
  return table_->get(key);
}

std::string TableReader::name_of(const std::string& key) const {
  return path_.empty() ? str_cat("'", key, "'") : str_cat("'", key, "' in ", path_);
}

void TableReader::fail(const std::string& key, const std::string& problem, const std::string& remedy,
                       ErrorCategory category) const {
  const toml::node* node = table_->get(key);
  throw Error(category, problem, where_is(node != nullptr ? *node : *table_, *file_), remedy);
}

void TableReader::fail_here(const std::string& problem, const std::string& remedy) const {
  throw Error(ErrorCategory::kInvalidArgument, problem, where_is(*table_, *file_), remedy);
}

void TableReader::fail_type(const toml::node& node, const std::string& key, const std::string& wanted) const {
  throw Error(ErrorCategory::kInvalidArgument, str_cat(name_of(key), " must be ", wanted, ", not ", type_words(node)),
              where_is(node, *file_));
}

std::optional<std::string> TableReader::text(const std::string& key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (!node->is_string()) {
    fail_type(*node, key, "a text");
  }
  return node->ref<std::string>();
}

std::string TableReader::text(const std::string& key, const std::string& fallback) {
  return text(key).value_or(fallback);
}

std::string TableReader::required_text(const std::string& key, const std::string& remedy) {
  std::optional<std::string> value = text(key);
  if (!value) {
    fail_here(str_cat("there is no ", name_of(key)), remedy);
  }
  return *value;
}

std::string TableReader::choice(const std::string& key, const std::string& fallback,
                                std::span<const std::string> choices) {
  const std::string value = text(key, fallback);
  for (const std::string& candidate : choices) {
    if (candidate == value) {
      return value;
    }
  }
  fail(key, str_cat("\"", value, "\" is no value for ", name_of(key)), did_you_mean(value, choices));
}

double TableReader::number_of(const toml::node& node, const std::string& key, const NumberRange& range) const {
  if (!node.is_number()) {
    fail_type(node, key, "a number");
  }
  const double value = node.is_integer() ? static_cast<double>(node.ref<std::int64_t>()) : node.ref<double>();
  if (!std::isfinite(value) || !range.contains(value)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(name_of(key), " must be ", range.words(), ", not ", value),
                where_is(node, *file_));
  }
  return value;
}

std::optional<double> TableReader::number(const std::string& key, const NumberRange& range) {
  const toml::node* node = find(key);
  return node == nullptr ? std::nullopt : std::optional<double>(number_of(*node, key, range));
}

double TableReader::number(const std::string& key, double fallback, const NumberRange& range) {
  return number(key, range).value_or(fallback);
}

std::int64_t TableReader::integer(const std::string& key, std::int64_t fallback, std::int64_t min, std::int64_t max) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return fallback;
  }
  if (!node->is_integer()) {
    fail_type(*node, key, "a whole number");
  }
  const std::int64_t value = node->ref<std::int64_t>();
  if (value < min || value > max) {
    fail(key, str_cat(name_of(key), " must be from ", min, " to ", max, ", not ", value));
  }
  return value;
}

bool TableReader::boolean(const std::string& key, bool fallback) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return fallback;
  }
  if (!node->is_boolean()) {
    fail_type(*node, key, "true or false");
  }
  return node->ref<bool>();
}

std::optional<std::vector<double>> TableReader::numbers(const std::string& key, const NumberRange& range) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (!node->is_array()) {
    fail_type(*node, key, "an array of numbers");
  }
  std::vector<double> values;
  for (const toml::node& item : *node->as_array()) {
    values.push_back(number_of(item, key, range));
  }
  return values;
}

std::optional<std::vector<std::string>> TableReader::texts(const std::string& key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (!node->is_array()) {
    fail_type(*node, key, "an array of texts");
  }
  std::vector<std::string> values;
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_string()) {
      fail_type(item, key, "an array of texts");
    }
    values.push_back(item.ref<std::string>());
  }
  return values;
}

std::optional<TableReader> TableReader::table(const std::string& key) {
  const toml::node* node = find(key);
  if (node == nullptr) {
    return std::nullopt;
  }
  if (!node->is_table()) {
    fail_type(*node, key, "a table, { … }");
  }
  return TableReader(*node->as_table(), path_.empty() ? key : str_cat(path_, ".", key), *file_);
}

std::vector<TableReader> TableReader::tables(const std::string& key) {
  std::vector<TableReader> readers;
  const toml::node* node = find(key);
  if (node == nullptr) {
    return readers;
  }
  if (!node->is_array()) {
    fail_type(*node, key, path_.empty() ? str_cat("written [[", key, "]]") : "an array of tables, [ { … } ]");
  }
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_table()) {
      fail_type(item, key, "an array of tables, [ { … } ]");
    }
    readers.emplace_back(*item.as_table(),
                         str_cat(path_.empty() ? key : str_cat(path_, ".", key), "[", readers.size(), "]"), *file_);
  }
  return readers;
}

void TableReader::finish(const std::map<std::string, std::string>& hints) const {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (auto&& [key, value] : *table_) {
    const std::string name(key.str());
    if (known_.contains(name)) {
      continue;
    }
    const bool from_override = value.source().path && value.source().path->starts_with("--set ");
    const std::string where =
        from_override || key.source().begin.line == 0 ? where_is(value, *file_) : region_text(key.source(), *file_);
    const auto hint = hints.find(name);
    throw Error(ErrorCategory::kInvalidArgument, str_cat("unknown key ", name_of(name)), where,
                hint != hints.end() ? hint->second : did_you_mean(name, known));
  }
}

}  // namespace pare::pipeline
