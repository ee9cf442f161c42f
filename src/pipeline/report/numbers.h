// Numbers as the terminal, the report and the artifact's provenance show them.
#pragma once

#include <cmath>
#include <iomanip>
#include <sstream>
#include <string>

namespace pare::pipeline {

// "93.10"; "unknown" for what is not finite.
[[nodiscard]] inline std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "unknown";
  std::ostringstream out;
  out << std::fixed << std::setprecision(decimals) << value;
  return out.str();
}

// Of a value in percent: "93.10 %".
[[nodiscard]] inline std::string percent(double value) { return fixed(value, 2) + (std::isfinite(value) ? " %" : ""); }

}  // namespace pare::pipeline
