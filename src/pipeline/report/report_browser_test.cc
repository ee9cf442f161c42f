// The page in a real browser, where Chromium is installed: what its script makes of whole, partial and hostile records.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>

#include "pare/base/file.h"
#include "pare/base/testing.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/report/report_sample.h"

namespace pare::pipeline {
namespace {

namespace fs = std::filesystem;

std::string output_of(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  char buffer[65536];
  for (std::size_t got = 0; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, got);
  pclose(pipe);
  return output;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

class ReportInBrowser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (output_of("command -v chromium").empty()) GTEST_SKIP() << "chromium is not installed";
    write_file_atomically(folder_ / "probe.html", "<p id=a></p><script>a.textContent = 6 * 7</script>");
    // A browser that is there but cannot start (no shared memory, no user namespaces) is as good as none.
    if (dump("probe.html").find(">42<") == std::string::npos) GTEST_SKIP() << "chromium does not start";
  }
  // The document after its scripts have run, and before it a line for each message on the console.
  [[nodiscard]] std::string dump(const std::string& file, const std::string& options = "") const {
    // Long enough for a machine that compiles on every core at the same time.
    return output_of("timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir='" +
                     (folder_ / "profile").string() +
                     "' --enable-logging=stderr --virtual-time-budget=2000 --window-size=1280,900 " + options +
                     " --dump-dom 'file://" + (folder_ / file).string() +
                     "' 2>&1 | grep -av -e 'ERROR:' -e 'WARNING:' -e 'VERBOSE'");
  }

  [[nodiscard]] std::string render(const RunRecord& record) const {
    write_reports(folder_, record);
    const std::string whole = dump("report.html");
    const std::size_t begin = whole.find("<main");
    if (begin == std::string::npos) {
      ADD_FAILURE() << "Chromium gave no document: " << whole;
      return {};
    }
    // Before the document: messages. After <main>: the script, whose text would match what is looked for.
    EXPECT_EQ(count(whole, "CONSOLE"), 0u) << whole.substr(0, begin);
    EXPECT_EQ(count(whole, "<title>owned"), 0u);
    const std::string dom = whole.substr(begin, whole.find("<script", begin) - begin);
    for (const char* part : {"could not be drawn", "NaN", ">undefined", "Infinity"})
      EXPECT_EQ(count(dom, part), 0u) << part;
    EXPECT_EQ(count(dom, "id=\"verdict\""), 1u);
    return dom;
  }

  const pare::testing::TempDir temporary_;  // of its own: ctest runs tests side by side
  const fs::path folder_ = temporary_.path();
};

TEST_F(ReportInBrowser, DrawsEverySectionOfAWholeRecord) {
  const RunRecord record = sample_record();
  const std::string dom = render(record);
  for (const char* id : {"training", "stages", "layers", "sizes", "confusion", "environment"}) {
    EXPECT_EQ(count(dom, "<section class=\"card\" id=\"" + std::string(id) + "\""), 1u) << id;
  }
  for (const char* id : {"chart-accuracy", "chart-loss", "chart-sparsity", "chart-lr"})
    EXPECT_EQ(count(dom, id), 1u) << id;
  EXPECT_EQ(count(dom, "class=\"band kind-"), 4u * record.stages.size());
  EXPECT_EQ(count(dom, "class=\"boundary\""), 4u * (record.stages.size() - 1));
  EXPECT_EQ(count(dom, "class=\"dot\""), record.series.at("accuracy").size());
  EXPECT_EQ(count(dom, "data-truth="), record.class_names.size() * record.class_names.size());
  EXPECT_EQ(count(dom, "Accepted"), 1u);
  for (const LayerRecord& layer : record.layers) EXPECT_NE(dom.find(">" + layer.name + "<"), std::string::npos);
  for (const auto& [key, value] : record.environment)
    EXPECT_NE(dom.find("<dd>" + value + "</dd>"), std::string::npos) << key;
}

TEST_F(ReportInBrowser, DrawsLongSeriesWithAsManyPointsAsFit) {
  RunRecord record = sample_record();
  std::vector<SeriesPoint>& loss = record.series["loss"];
  loss.clear();
  for (std::int64_t step = 1; step <= 100000; ++step) loss.push_back({step, static_cast<double>(step % 7)});
  const std::string dom = render(record);
  const std::size_t begin = dom.find("class=\"line thin\"");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_LT(dom.find('>', begin) - begin, 40000u);
}

TEST_F(ReportInBrowser, DrawsPartialRecords) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(render(RunRecord{}).find("No stage has ended yet."), std::string::npos);

  RunRecord stopped = sample_record();
  stopped.stages.resize(2);
  stopped.layers.clear();
  stopped.artifact = {};
  stopped.runtime = {};
  stopped.confusion.clear();
  stopped.accepted = false;
  const std::string dom = render(stopped);
  EXPECT_NE(dom.find("The run stopped after stage sparse"), std::string::npos);
  EXPECT_EQ(count(dom, "id=\"layers\""), 0u);

  RunRecord one;
  one.recipe = "one";
  one.stages = {{"dense", "dense", 0.5, kNan, kNan, kNan, kNan, kNan, kNan, 0, 1}};
  one.layers.resize(1);
  one.series = {
      {"loss", {{0, 2.3}}}, {"lr", {{0, kNan}}}, {"accuracy", {{1, 0.0}}}, {"sparsity", {}}, {"norm", {{0, -1e300}}}};
  one.confusion = {{}, {0, 3}};
  one.runtime = {kNan, 3, 0};
  const std::string single = render(one);
  EXPECT_EQ(count(single, "no values recorded"), 1u);
  EXPECT_EQ(count(single, "class=\"dot\""), 3u);
  EXPECT_NE(single.find("class 1"), std::string::npos);
}

TEST_F(ReportInBrowser, ShowsHostileTextsAsText) {
  const std::string text =
      "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
  RunRecord record = sample_record();
  record.recipe = text;
  record.stages[0].name = record.stages[1].kind = text;
  record.layers[0] = {text, text, text, {1}, text, 0, 8, 10, text, text};
  record.artifact.path = text;
  record.environment[text] = text;
  record.series[text] = {{0, 1.0}, {5, 2.0}};
  record.class_names[0] = text;
  record.warnings = {text};
  const std::string dom = render(record);
  EXPECT_EQ(count(dom, "<img"), 0u);
  EXPECT_GE(count(dom, "&lt;/script&gt;&lt;script&gt;document.title='owned'"), 15u);
}

}  // namespace
}  // namespace pare::pipeline
