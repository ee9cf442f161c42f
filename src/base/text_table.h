// Text tables for the terminal: columns padded to their widest cell.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace pare {

class TextTable {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
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

}  // namespace pare
