#include "pare/pipeline/recipe_overrides.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

[[noreturn]] void fail_usage(const std::string& text, const std::string& problem) {
  throw Error(ErrorCategory::kUsage, problem, "--set " + text, "write --set key=value, as in --set stage.qat.epochs=1");
}

// "stage[1].epochs" -> stage, 1, epochs.
std::vector<std::string> split_key(const std::string& key, const std::string& text) {
  std::vector<std::string> parts(1);
  bool closed = false;  // a ']' was just read
  for (std::size_t i = 0; i < key.size(); ++i) {
    const char c = key[i];
    if (c == '[') {
      const std::size_t end = key.find(']', i);
      if (end == std::string::npos || parts.back().empty()) {
        fail_usage(text, "'[' without a name before it or a ']' after it");
      }
      parts.push_back(key.substr(i + 1, end - i - 1));
      closed = true;
      i = end;
    } else if (c == '.') {
      parts.emplace_back();
      closed = false;
    } else if (closed) {
      fail_usage(text, "a '.' is missing after ']'");
    } else {
      parts.back() += c;
    }
  }
  if (std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty(); })) {
    fail_usage(text, "the key has an empty part");
  }
  return parts;
}

std::optional<std::size_t> as_index(const std::string& part) {
  std::size_t index = 0;
  const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), index);
  return code == std::errc() && end == part.data() + part.size() ? std::optional<std::size_t>(index) : std::nullopt;
}

// The element of an array that `part` means: its index, or for stages their name.
toml::node& element(toml::array& array, const std::string& part, const std::vector<std::string>& names,
                    const std::string& what, const std::string& where) {
  const auto named = std::find(names.begin(), names.end(), part);
  if (named != names.end()) {
    return array[static_cast<std::size_t>(named - names.begin())];
  }
  const std::optional<std::size_t> index = as_index(part);
  if (index && *index < array.size()) {
    return array[*index];
  }
  const std::string remedy = names.empty() ? std::string() : did_you_mean(part, names);
  throw Error(ErrorCategory::kNotFound,
              index ? str_cat(what, " has ", array.size(), " elements, counted from 0; there is no ", part)
                    : str_cat("there is no ", what, " '", part, "'"),
              where, remedy);
}

void apply(toml::table& recipe, const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail_usage(text, "there is no key or no '='");
  }
  const std::string where = "--set " + text;
  const std::vector<std::string> parts = split_key(text.substr(0, equals), text);
  const std::string value = text.substr(equals + 1);

  toml::node* node = &recipe;
  std::string path;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    path += (path.empty() ? "" : ".") + parts[i];
    if (toml::array* array = node->as_array()) {
      const bool stages = i == 1 && parts[0] == "stage";
      node = &element(*array, parts[i], stages ? stage_names(recipe) : std::vector<std::string>(),
                      stages ? "stage" : parts[i - 1], where);
    } else if (toml::table* table = node->as_table()) {
      toml::node* next = table->get(parts[i]);
      if (next == nullptr) {
        next = &table->insert_or_assign(parts[i], toml::table()).first->second;
      }
      node = next;
    } else {
      throw Error(ErrorCategory::kNotFound, str_cat("'", parts[i - 1], "' holds no keys"), where);
    }
  }

  // A text may be written bare (pattern=2:4), as a shell makes quotes tedious.
  toml::table parsed;
  try {
    parsed = toml::parse("value = " + value, where);
  } catch (const toml::parse_error&) {
    parsed = toml::table();
  }
  if (parsed.size() != 1 || !parsed.contains("value")) {
    std::string escaped;
    for (const char c : value) {
      if (c == '"' || c == '\\') {
        escaped += '\\';
      }
      escaped += c;
    }
    try {
      parsed = toml::parse("value = \"" + escaped + "\"", where);
    } catch (const toml::parse_error& error) {
      fail_usage(text, std::string(error.description()));
    }
  }

  const std::string& last = parts.back();
  toml::node& fresh = *parsed.get("value");
  if (toml::table* table = node->as_table()) {
    fresh.visit([&](auto&& item) { table->insert_or_assign(last, std::move(item)); });
  } else if (toml::array* array = node->as_array()) {
    toml::node& old = element(*array, last, {}, parts[parts.size() - 2], where);
    const auto position = std::find_if(array->begin(), array->end(), [&](toml::node& n) { return &n == &old; });
    fresh.visit([&](auto&& item) { array->replace(position, std::move(item)); });
  } else {
    throw Error(ErrorCategory::kNotFound, str_cat("'", parts[parts.size() - 2], "' holds no keys"), where);
  }
}

}  // namespace

std::vector<std::string> stage_names(const toml::table& recipe) {
  std::vector<std::string> names;
  const toml::array* stages = recipe.get_as<toml::array>("stage");
  if (stages == nullptr) {
    return names;
  }
  std::map<std::string, int> seen;
  for (const toml::node& node : *stages) {
    const toml::table* stage = node.as_table();
    const auto text = [&](std::string_view key) {
      return stage == nullptr ? std::string() : (*stage)[key].value_or(std::string());
    };
    const std::string kind = text("kind");
    const int count = ++seen[kind];
    const std::string name = text("name");
    names.push_back(!name.empty() ? name : count == 1 ? kind : str_cat(kind, "-", count));
  }
  return names;
}

void apply_overrides(toml::table& recipe, const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) {
    apply(recipe, text);
  }
}

}  // namespace pare::pipeline
