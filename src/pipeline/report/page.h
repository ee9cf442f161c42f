// A page in the style of report.html that needs no script.
#pragma once

#include <string>

namespace pare::pipeline {

// Everything but `style` and `body` is plain text, and escaped. Classes are report.css's.
struct Page {
  std::string title;
  std::string summary;  // for search results and the like
  std::string style;    // further CSS
  std::string body;     // HTML of <main>
};

// One file that opens offline and fetches nothing.
[[nodiscard]] std::string page_html(const Page& page);

}  // namespace pare::pipeline
