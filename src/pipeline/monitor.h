// What a run shows while it works: a bar on a terminal, plain lines elsewhere, nothing with --quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "pare/pipeline/run_record.h"

namespace pare::pipeline {

enum class MonitorStyle {
  kAuto,   // kBar if the stream is a terminal, else kPlain
  kBar,    // one line that is drawn over and over
  kPlain,  // a line every few seconds
  kQuiet,  // warnings only
};

struct MonitorOptions {
  MonitorStyle style = MonitorStyle::kAuto;
  double plain_seconds = 10.0;  // between plain lines
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};

// What the bar shows.
struct ProgressState {
  std::string label;  // "[2/3] sparse"
  std::string unit;   // "img"
  std::int64_t done = 0;
  std::int64_t total = 0;
  double items_per_step = 1.0;  // images in a step
  double rate = 0.0;            // items a second, 0: not known yet
  double seconds_left = -1.0;   // -1: not known yet
  double loss = -1.0;           // -1: none to show
};

// "[2/3] sparse  #####.....  52%  loss 0.312  2450 img/s  0:41 left", at most `columns` wide.
[[nodiscard]] std::string format_progress(const ProgressState& state, int columns);
// "0:41", "12:05", "2:03:00".
[[nodiscard]] std::string format_duration(double seconds);
// "1.50 MB", "850 B".
[[nodiscard]] std::string format_bytes(std::int64_t bytes);
// The table at the end of a run: stages, artifact, runtime. `folder`: the run folder, for the paths of the reports.
[[nodiscard]] std::string format_summary(const RunRecord& record, const std::string& folder);

// Not thread-safe.
class Monitor {
 public:
  explicit Monitor(MonitorOptions options = {});
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  void note(const std::string& text);     // one line
  void warning(const std::string& text);  // one line on the error stream, --quiet or not

  // A piece of work of `total` steps of which `done` lie behind (a resumed run).
  void begin(const std::string& label, const std::string& unit, std::int64_t total, std::int64_t done,
             double items_per_step);
  void advance(std::int64_t done, double loss = -1.0);
  void end();  // takes the bar away

 private:
  using Clock = std::chrono::steady_clock;
  void clear_bar();
  void draw();

  MonitorOptions options_;
  ProgressState state_;
  std::int64_t first_done_ = 0;
  Clock::time_point began_;
  Clock::time_point drawn_;
  bool bar_visible_ = false;
  bool active_ = false;
};

}  // namespace pare::pipeline
