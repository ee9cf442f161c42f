// Numbers as pare-run shows them.
#pragma once

#include <string>

namespace pare::cli {

// "12.34" with that many decimals.
[[nodiscard]] std::string fixed(double value, int decimals);
// Seconds as "12.3 us", "4.56 ms", "1.23 s".
[[nodiscard]] std::string duration(double seconds);
// "1,234,567".
[[nodiscard]] std::string grouped(long long value);

}  // namespace pare::cli
