#include "pare/pipeline/monitor.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "pare/base/testing.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::get_file;
using ::pare::testing::TempDir;

// What a monitor writes to its two streams.
struct Streams {
  TempDir folder;
  std::FILE* out = std::fopen((folder / "out").c_str(), "w");
  std::FILE* err = std::fopen((folder / "err").c_str(), "w");
  ~Streams() {
    std::fclose(out);
    std::fclose(err);
  }
  [[nodiscard]] std::string out_text() const {
    std::fflush(out);
    return get_file(folder / "out");
  }
  [[nodiscard]] std::string err_text() const {
    std::fflush(err);
    return get_file(folder / "err");
  }
};

TEST(Monitor, ProgressShowsRateLossAndTimeLeft) {
  ProgressState state{"[2/3] sparse", "img", 52, 100, 64.0, 2450.4, 41.2, 0.3123};
  EXPECT_EQ(format_progress(state, 120),
            "[2/3] sparse  ###############...............   52%  loss 0.312  2450 img/s  0:41 left");
}

TEST(Monitor, ProgressFitsTheTerminal) {
  ProgressState state{"[2/3] sparse", "img", 52, 100, 64.0, 2450.4, 41.2, 0.3123};
  for (int columns = 0; columns < 120; ++columns) {
    EXPECT_LE(format_progress(state, columns).size(), static_cast<std::size_t>(columns));
  }
}

TEST(Monitor, ProgressLeavesOutWhatIsNotKnown) {
  ProgressState state{"verify", "img", 0, 0, 1.0, 0.0, -1.0, -1.0};
  const std::string line = format_progress(state, 80);
  EXPECT_EQ(line.find("loss"), std::string::npos);
  EXPECT_EQ(line.find("/s"), std::string::npos);
  EXPECT_EQ(line.find("left"), std::string::npos);
}

TEST(Monitor, DurationsAndBytesReadWell) {
  EXPECT_EQ(format_duration(41.4), "0:41");
  EXPECT_EQ(format_duration(725.0), "12:05");
  EXPECT_EQ(format_duration(7380.0), "2:03:00");
  EXPECT_EQ(format_duration(-1.0), "0:00");
  EXPECT_EQ(format_bytes(850), "850 B");
  EXPECT_EQ(format_bytes(12300), "12.3 kB");
  EXPECT_EQ(format_bytes(1500000), "1.50 MB");
}

TEST(Monitor, APipeGetsPlainLinesWithoutControlCharacters) {
  Streams streams;
  MonitorOptions options{MonitorStyle::kAuto, 0.0, streams.out, streams.err};
  Monitor monitor(options);
  monitor.begin("[1/1] dense", "img", 10, 0, 32.0);
  for (int step = 1; step <= 10; ++step) {
    monitor.advance(step, 0.5);
  }
  monitor.end();
  monitor.note("done");
  const std::string text = streams.out_text();
  EXPECT_NE(text.find("[1/1] dense"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_TRUE(text.ends_with("done\n"));
}

TEST(Monitor, PlainLinesComeAtIntervals) {
  Streams streams;
  Monitor monitor({MonitorStyle::kPlain, 1000.0, streams.out, streams.err});
  monitor.begin("[1/1] dense", "img", 10, 0, 32.0);
  for (int step = 1; step <= 10; ++step) {
    monitor.advance(step, 0.5);
  }
  monitor.end();
  EXPECT_EQ(streams.out_text(), "");
}

TEST(Monitor, QuietLeavesWarningsOnly) {
  Streams streams;
  Monitor monitor({MonitorStyle::kQuiet, 0.0, streams.out, streams.err});
  monitor.note("nothing");
  monitor.begin("x", "img", 2, 0, 1.0);
  monitor.advance(1);
  monitor.end();
  monitor.warning("look here");
  EXPECT_EQ(streams.out_text(), "");
  EXPECT_EQ(streams.err_text(), "pare: warning: look here\n");
}

TEST(Monitor, TheBarGoesAwayBeforeALine) {
  Streams streams;
  {
    Monitor monitor({MonitorStyle::kBar, 0.0, streams.out, streams.err});
    monitor.begin("x", "img", 1000000000, 0, 1.0);
    // Draws as soon as a tenth of a second has gone by.
    for (int step = 1; streams.out_text().empty(); ++step) {
      monitor.advance(step);
    }
    monitor.note("line");
  }
  const std::string text = streams.out_text();
  EXPECT_TRUE(text.starts_with("\rx")) << text;
  EXPECT_TRUE(text.ends_with("\r\033[Kline\n")) << text;
}

TEST(Monitor, SummaryNamesStagesSizeRuntimeAndPaths) {
  RunRecord record;
  record.stages.push_back({.name = "dense", .kind = "dense", .epochs = 1.5, .seconds = 65.0, .accuracy = 93.125});
  record.artifact = {"runs/x/model.pare", 531000, 3400000};
  record.runtime = {92.99, 10000, 0};
  const std::string text = format_summary(record, "runs/x");
  for (const char* part : {"dense", "1.5", "93.12 %", "1:05", "531.0 kB", "0.156", "3.40 MB", "92.99 %", "10000 images",
                           "0 mismatches", "runs/x/model.pare", "runs/x/report.html", "runs/x/report.json"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace pare::pipeline
