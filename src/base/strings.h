// Small text helpers that error messages need.
#pragma once

#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

template <typename... Parts>
[[nodiscard]] std::string str_cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

[[nodiscard]] std::string join(std::span<const std::string> parts, std::string_view separator);

// Glob with '*' (any run, dots included), '?' (one character); everything else stands for itself.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text);

// Up to `limit` of `known` that are nearest to `name` in Damerau-Levenshtein distance, nearest first; those further
// away than half of the name's length (at least 2 edits are allowed) are left out.
[[nodiscard]] std::vector<std::string> nearest_names(std::string_view name, std::span<const std::string> known,
                                                     std::size_t limit = 3);

// "did you mean 'a', 'b' or 'c'?", or, where nothing is near, "known: …" (at most 12 names), or "" if nothing is known.
[[nodiscard]] std::string did_you_mean(std::string_view name, std::span<const std::string> known);

// Text as it may stand in an HTML element or attribute: &, <, > and quotes escaped, control characters as blanks.
[[nodiscard]] std::string escape_html(std::string_view text);

}  // namespace pare
