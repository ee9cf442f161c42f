// How often a page or a plot says something.
#pragma once

#include <cstddef>
#include <string>

namespace pare::pipeline::testing {

inline std::size_t count_of(const std::string& part, const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace pare::pipeline::testing
