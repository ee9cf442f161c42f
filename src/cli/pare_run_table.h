// Text tables for the terminal: columns padded to their widest cell.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace pare::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // Precondition: as many cells as columns.
  void add_row(std::vector<std::string> cells);
  // Title line and rows, each ending in a newline without blanks before it. Columns that are empty throughout are left
  // out.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters that a terminal shows for UTF-8 text of scripts without wide or combining characters.
[[nodiscard]] std::size_t display_width(const std::string& text);

// "12.34" with that many decimals.
[[nodiscard]] std::string fixed(double value, int decimals);
// Seconds as "12.3 us", "4.56 ms", "1.23 s".
[[nodiscard]] std::string duration(double seconds);
// "1,234,567".
[[nodiscard]] std::string grouped(long long value);

}  // namespace pare::cli
