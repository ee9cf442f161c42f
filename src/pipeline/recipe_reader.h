// TableReader: a TOML table read key by key, with errors that point at the line and say what was meant.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "pare/base/error.h"

namespace pare::pipeline {

// "recipes/quick.toml:12:3", or the override itself ("--set data.batch=0") where that brought the node in.
[[nodiscard]] std::string where_is(const toml::node& node, const std::string& file);

inline constexpr std::size_t kMaxRecipeBytes = std::size_t{1} << 20;

// Throws kInvalidArgument with file:line:column.
[[nodiscard]] toml::table parse_toml(const std::string& text, const std::string& file);

// Where numbers may lie; the words of the error are made from the bounds.
struct NumberRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is not allowed
  [[nodiscard]] bool contains(double value) const;
  [[nodiscard]] std::string words() const;  // "above 0", "from 0 to 1"
};

inline constexpr NumberRange kAnyNumber{};
inline constexpr NumberRange kPositive{0.0, std::numeric_limits<double>::infinity(), true};
inline constexpr NumberRange kNotNegative{0.0, std::numeric_limits<double>::infinity(), false};
inline constexpr NumberRange kFraction{0.0, 1.0, false};

// Every getter marks its key as known, so that finish() can name those that nobody asked for. The table must outlive
// it.
class TableReader {
 public:
  // `path` names the table in errors: "stage[1].optimizer", "" for the recipe itself.
  TableReader(const toml::table& table, std::string path, const std::string& file);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool has(const std::string& key) const { return table_->contains(key); }

  [[nodiscard]] std::optional<std::string> text(const std::string& key);
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback);
  [[nodiscard]] std::string required_text(const std::string& key, const std::string& remedy);
  // One of `choices`; anything else is an error with the nearest of them.
  [[nodiscard]] std::string choice(const std::string& key, const std::string& fallback,
                                   std::span<const std::string> choices);
  [[nodiscard]] std::optional<double> number(const std::string& key, const NumberRange& range);
  [[nodiscard]] double number(const std::string& key, double fallback, const NumberRange& range);
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t min, std::int64_t max);
  [[nodiscard]] bool boolean(const std::string& key, bool fallback);
  // nullopt where the key is missing.
  [[nodiscard]] std::optional<std::vector<double>> numbers(const std::string& key, const NumberRange& range);
  [[nodiscard]] std::optional<std::vector<std::string>> texts(const std::string& key);
  [[nodiscard]] std::optional<TableReader> table(const std::string& key);
  // [[key]] or key = [ { … }, … ]; empty where it is missing.
  [[nodiscard]] std::vector<TableReader> tables(const std::string& key);

  // Throws for a key that no getter asked for. `hints`: key -> remedy for keys that have a meaning elsewhere.
  void finish(const std::map<std::string, std::string>& hints = {}) const;

  // An error at the key's value (at the table itself where it is missing).
  [[noreturn]] void fail(const std::string& key, const std::string& problem, const std::string& remedy = {},
                         ErrorCategory category = ErrorCategory::kInvalidArgument) const;
  // An error at the table.
  [[noreturn]] void fail_here(const std::string& problem, const std::string& remedy = {}) const;

 private:
  const toml::node* find(const std::string& key);
  [[noreturn]] void fail_type(const toml::node& node, const std::string& key, const std::string& wanted) const;
  [[nodiscard]] std::string name_of(const std::string& key) const;  // "'epochs' in stage[1]"
  [[nodiscard]] double number_of(const toml::node& node, const std::string& key, const NumberRange& range) const;

  const toml::table* table_;
  std::string path_;
  const std::string* file_;
  std::set<std::string> known_;
};

}  // namespace pare::pipeline
