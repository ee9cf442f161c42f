#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/report/report.h"

namespace pare::embedded {
extern const std::string_view report_template;
extern const std::string_view report_style;
extern const std::string_view report_script_base;
extern const std::string_view report_script_charts;
extern const std::string_view report_script_sections;
extern const std::string_view report_script_confusion;
extern const std::string_view report_script_page;
}  // namespace pare::embedded

namespace pare::pipeline {
namespace {

// Inside <script> the parser looks for "</script" and "<!--" in any text, JSON strings included. In JSON these three
// characters occur in strings only, where \u escapes mean the same.
std::string escape_json_for_script(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    switch (c) {
      case '<':
        out += "\\u003c";
        break;
      case '>':
        out += "\\u003e";
        break;
      case '&':
        out += "\\u0026";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

std::string report_html(const RunRecord& record) {
  const std::string json = report_json(record);
  // Through JSON and back, so that the texts are valid UTF-8 here as well.
  const RunRecord clean = record_from_json(json);
  std::string script;
  for (const std::string_view part :
       {embedded::report_script_base, embedded::report_script_charts, embedded::report_script_sections,
        embedded::report_script_confusion, embedded::report_script_page}) {
    script += part;
  }
  const std::array<std::pair<std::string_view, std::string>, 5> parts{{
      {"{{title}}", escape_html(clean.recipe.empty() ? "run" : clean.recipe)},
      {"{{summary}}", escape_html(summary_line(clean))},
      {"{{style}}", std::string(embedded::report_style)},
      {"{{record}}", escape_json_for_script(json)},
      {"{{script}}", script},
  }};

  // One pass over the template: what has been put in is not searched again, whatever a text in the record says.
  std::string out;
  std::string_view rest = embedded::report_template;
  while (!rest.empty()) {
    const std::size_t at = rest.find("{{");
    out += rest.substr(0, at);
    if (at == std::string_view::npos) break;
    rest.remove_prefix(at);
    bool known = false;
    for (const auto& [placeholder, text] : parts) {
      if (!rest.starts_with(placeholder)) continue;
      out += text;
      rest.remove_prefix(placeholder.size());
      known = true;
      break;
    }
    PARE_CHECK(known);
  }
  return out;
}

void write_reports(const std::filesystem::path& folder, const RunRecord& record) {
  make_directories(folder);
  write_file_atomically(folder / "report.json", report_json(record));
  write_file_atomically(folder / "report.html", report_html(record));
}

}  // namespace pare::pipeline
