#include "pare/pipeline/report/page.h"

#include <string_view>

#include "pare/base/strings.h"

namespace pare::embedded {
extern const std::string_view report_style;
}  // namespace pare::embedded

namespace pare::pipeline {

std::string page_html(const Page& page) {
  return str_cat(R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content=")",
                 escape_html(page.summary), R"(">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>)",
                 escape_html(page.title), " · pare</title>\n<style>\n", embedded::report_style, page.style,
                 "</style>\n</head>\n<body>\n<main>\n", page.body, "</main>\n</body>\n</html>\n");
}

}  // namespace pare::pipeline
