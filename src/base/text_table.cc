#include "pare/base/text_table.h"

#include <algorithm>
#include <utility>

#include "pare/base/error.h"

namespace pare {

void TextTable::add_row(std::vector<std::string> cells) {
  PARE_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths;
  std::vector<bool> shown;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = 0;
    for (const std::vector<std::string>& row : rows_) width = std::max(width, display_width(row[c]));
    shown.push_back(width > 0 || rows_.empty());
    widths.push_back(std::max(width, display_width(columns_[c].title)));
  }
  const auto append_line = [&](std::string& out, const auto& cell_of) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (!shown[c]) continue;
      if (!line.empty() || (c > 0 && shown[0])) line += "  ";
      const std::string& cell = cell_of(c);
      const std::string padding(widths[c] - display_width(cell), ' ');
      line += columns_[c].align == Align::kRight ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  std::string out;
  append_line(out, [&](std::size_t c) -> const std::string& { return columns_[c].title; });
  for (const std::vector<std::string>& row : rows_) {
    append_line(out, [&](std::size_t c) -> const std::string& { return row[c]; });
  }
  return out;
}

std::size_t display_width(const std::string& text) {
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

}  // namespace pare
