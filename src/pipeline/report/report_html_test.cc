#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/testing.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/report/report_sample.h"

namespace pare::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHostile =
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)><!--\"'&";

RunRecord hostile_record() {
  RunRecord record = sample_record();
  const std::string text(kHostile);
  record.recipe = text;
  record.stages[0].name = record.stages[1].kind = text;
  record.layers[0] = {text, text, text, {1}, text, 0, 8, 10, text, text};
  record.artifact.path = text;
  record.environment[text] = text;
  record.series[text] = {{0, 1.0}, {5, 2.0}};
  record.class_names[0] = text;
  record.warnings = {text};
  return record;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

std::string between(const std::string& text, std::string_view begin, std::string_view end) {
  const std::size_t from = text.find(begin);
  if (from == std::string::npos) return "";
  const std::size_t to = text.find(end, from + begin.size());
  return text.substr(from + begin.size(), to - from - begin.size());
}

class ReportFiles : public ::testing::Test {
 protected:
  const pare::testing::TempDir temporary_;
  const fs::path folder_ = temporary_ / "run";
};

TEST(ReportHtml, RefersToNothingOutsideItself) {
  const std::string html = report_html(sample_record());
  // The one address is the name of the SVG namespace, which nobody fetches.
  EXPECT_EQ(count(html, "http"), 1u + count(html, "http-equiv"));
  EXPECT_EQ(count(html, "http://www.w3.org/2000/svg"), 1u);
  for (const char* part : {" src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import(", "rel=\"stylesheet\""}) {
    EXPECT_EQ(count(html, part), 0u) << part;
  }
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(ReportHtml, FillsEveryPlaceholder) {
  const std::string html = report_html(sample_record());
  EXPECT_EQ(count(html, "{{"), 0u);
  EXPECT_NE(html.find("<title>fashion_mnist"), std::string::npos);
  EXPECT_EQ(count(html, summary_line(sample_record())), 2u);
}

TEST(ReportHtml, CarriesTheWholeReport) {
  for (const RunRecord& record : {sample_record(), hostile_record(), RunRecord{}}) {
    const std::string data =
        between(report_html(record), "<script type=\"application/json\" id=\"record\">", "</script>");
    EXPECT_EQ(report_json(record_from_json(data)), report_json(record));
  }
}

TEST(ReportHtml, MakesEveryTextInert) {
  const std::string html = report_html(hostile_record());
  const std::string plain = report_html(sample_record());
  for (const char* part : {"<script", "</script", "<img", "<!--", "<title"}) {
    EXPECT_EQ(count(html, part), count(plain, part)) << part;
  }
  EXPECT_EQ(count(html, "<script"), 2u);
  EXPECT_EQ(
      between(html, "<title>", " \xC2\xB7"),
      "&lt;/script&gt;&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"
      "&lt;!--&quot;&#39;&amp;");
}

TEST(ReportHtml, NeverBuildsMarkupFromText) {
  const std::string html = report_html(sample_record());
  for (const char* part : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"}) {
    EXPECT_EQ(count(html, part), 0u) << part;
  }
}

TEST(ReportHtml, LeavesPlaceholdersInTextsAlone) {
  RunRecord record = sample_record();
  record.recipe = "{{script}}{{record}}{{unknown}}";
  const std::string html = report_html(record);
  EXPECT_EQ(between(html, "<title>", " \xC2\xB7"), record.recipe);
}

TEST(ReportHtml, TakesTextsThatAreNotUtf8) {
  RunRecord record = sample_record();
  record.recipe = "a\xFF\x01";
  EXPECT_EQ(between(report_html(record), "<title>", " \xC2\xB7"), "a\xEF\xBF\xBD ");
}

TEST_F(ReportFiles, AreWrittenAndReplaced) {
  write_reports(folder_ / "new" / "run", RunRecord{});
  write_reports(folder_ / "new" / "run", sample_record());
  EXPECT_EQ(read_text_file(folder_ / "new" / "run" / "report.json"), report_json(sample_record()));
  EXPECT_EQ(read_text_file(folder_ / "new" / "run" / "report.html"), report_html(sample_record()));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "new" / "run"), fs::directory_iterator()), 2);
}

TEST_F(ReportFiles, FailWithAnIoErrorWhereAFileIsInTheWay) {
  make_directories(folder_);
  write_file_atomically(folder_ / "file", "x");
  for (const auto write : {write_reports, write_tensorboard_events}) {
    try {
      write(folder_ / "file", sample_record());
      ADD_FAILURE() << "wrote into a file as if it were a folder";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kIo);
    }
  }
  EXPECT_EQ(read_text_file(folder_ / "file"), "x");
}

}  // namespace
}  // namespace pare::pipeline
