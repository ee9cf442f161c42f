#include "pare/pipeline/monitor.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>

#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

constexpr double kBarSeconds = 0.1;
constexpr double kRateAfterSeconds = 0.5;  // before that a rate says nothing

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  std::array<char, 512> buffer{};
  va_list arguments;
  va_start(arguments, pattern);
  const int length = std::vsnprintf(buffer.data(), buffer.size(), pattern, arguments);
  va_end(arguments);
  return std::string(buffer.data(),
                     std::min<std::size_t>(buffer.size() - 1, static_cast<std::size_t>(std::max(length, 0))));
}

double seconds_between(std::chrono::steady_clock::time_point a, std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

int terminal_columns(std::FILE* stream) {
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

}  // namespace

std::string format_duration(double seconds) {
  const auto total = static_cast<long long>(std::llround(std::max(seconds, 0.0)));
  return total >= 3600 ? format("%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60)
                       : format("%lld:%02lld", total / 60, total % 60);
}

std::string format_bytes(std::int64_t bytes) {
  if (bytes < 1000) {
    return format("%lld B", static_cast<long long>(bytes));
  }
  const auto size = static_cast<double>(bytes);
  return size < 1e6   ? format("%.1f kB", size / 1e3)
         : size < 1e9 ? format("%.2f MB", size / 1e6)
                      : format("%.2f GB", size / 1e9);
}

std::string format_progress(const ProgressState& state, int columns) {
  const double fraction =
      state.total <= 0 ? 1.0 : std::clamp(static_cast<double>(state.done) / static_cast<double>(state.total), 0.0, 1.0);
  std::string facts = format("%3.0f%%", 100.0 * fraction);
  if (state.loss >= 0.0) {
    facts += format("  loss %.3f", state.loss);
  }
  if (state.rate > 0.0) {
    facts += format("  %.0f %s/s", state.rate, state.unit.c_str());
  }
  if (state.seconds_left >= 0.0) {
    facts += "  " + format_duration(state.seconds_left) + " left";
  }
  std::string line = state.label;
  const int room = columns - static_cast<int>(state.label.size() + facts.size()) - 4;
  if (room >= 5) {
    const int width = std::min(room, 30);
    const int filled = static_cast<int>(std::floor(fraction * width));
    line += "  " + std::string(static_cast<std::size_t>(filled), '#') +
            std::string(static_cast<std::size_t>(width - filled), '.');
  }
  line += "  " + facts;
  return line.substr(0, static_cast<std::size_t>(std::max(columns, 0)));
}

std::string format_summary(const RunRecord& record, const std::string& folder) {
  std::string out = "\n";
  out +=
      format("%-14s %8s %10s %9s %9s %10s %10s\n", "stage", "epochs", "accuracy", "loss", "zeros", "ms/step", "time");
  for (const StageRecord& stage : record.stages) {
    out += format("%-14s %8s %8.2f %% %9.4f %7.1f %% %10.1f %10s\n", stage.name.c_str(),
                  format("%.4g", static_cast<double>(stage.epochs)).c_str(), stage.accuracy, stage.loss,
                  100.0 * stage.sparsity, stage.ms_per_step, format_duration(stage.seconds).c_str());
  }
  if (record.artifact.bytes > 0) {
    if (record.runtime.samples > 0) {
      out += format("%-14s %8s %8.2f %%   %lld images, %lld mismatches with QAT\n", "model.pare", "",
                    record.runtime.accuracy, static_cast<long long>(record.runtime.samples),
                    static_cast<long long>(record.runtime.mismatches));
    }
    const double ratio =
        record.artifact.dense_fp32_bytes > 0
            ? static_cast<double>(record.artifact.bytes) / static_cast<double>(record.artifact.dense_fp32_bytes)
            : 0.0;
    out += format("\nsize      %s, %.3f of dense float32 (%s)\n", format_bytes(record.artifact.bytes).c_str(), ratio,
                  format_bytes(record.artifact.dense_fp32_bytes).c_str());
    out += "artifact  " + record.artifact.path + "\n";
  } else {
    out += "\n";
  }
  out += "report    " + folder + "/report.html\n";
  out += "          " + folder + "/report.json\n";
  return out;
}

Monitor::Monitor(MonitorOptions options) : options_(options) {
  if (options_.style == MonitorStyle::kAuto) {
    options_.style = isatty(fileno(options_.out)) == 1 ? MonitorStyle::kBar : MonitorStyle::kPlain;
  }
}

Monitor::~Monitor() { clear_bar(); }

void Monitor::clear_bar() {
  if (bar_visible_) {
    std::fputs("\r\033[K", options_.out);
    std::fflush(options_.out);
    bar_visible_ = false;
  }
}

void Monitor::note(const std::string& text) {
  if (options_.style == MonitorStyle::kQuiet) {
    return;
  }
  clear_bar();
  std::fprintf(options_.out, "%s\n", text.c_str());
  std::fflush(options_.out);
}

void Monitor::warning(const std::string& text) {
  clear_bar();
  std::fprintf(options_.err, "pare: warning: %s\n", text.c_str());
  std::fflush(options_.err);
}

void Monitor::begin(const std::string& label, const std::string& unit, std::int64_t total, std::int64_t done,
                    double items_per_step) {
  clear_bar();
  state_ = ProgressState{};
  state_.label = label;
  state_.unit = unit;
  state_.total = total;
  state_.done = done;
  state_.items_per_step = items_per_step;
  first_done_ = done;
  began_ = Clock::now();
  drawn_ = began_;
  active_ = true;
}

void Monitor::advance(std::int64_t done, double loss) {
  if (!active_ || options_.style == MonitorStyle::kQuiet) {
    return;
  }
  state_.done = done;
  state_.loss = loss;
  const Clock::time_point now = Clock::now();
  const double interval = options_.style == MonitorStyle::kBar ? kBarSeconds : options_.plain_seconds;
  if (seconds_between(drawn_, now) < interval) {
    return;
  }
  drawn_ = now;
  const double elapsed = seconds_between(began_, now);
  const auto steps = static_cast<double>(done - first_done_);
  if (elapsed > kRateAfterSeconds && steps > 0) {
    state_.rate = steps * state_.items_per_step / elapsed;
    state_.seconds_left = elapsed / steps * static_cast<double>(state_.total - done);
  }
  draw();
}

void Monitor::draw() {
  if (options_.style == MonitorStyle::kBar) {
    // One column stays free: a full line would wrap.
    const std::string line = format_progress(state_, terminal_columns(options_.out) - 1);
    std::fprintf(options_.out, "\r%s\033[K", line.c_str());
    bar_visible_ = true;
  } else {
    std::fprintf(options_.out, "%s\n", format_progress(state_, 100).c_str());
  }
  std::fflush(options_.out);
}

void Monitor::end() {
  clear_bar();
  active_ = false;
}

}  // namespace pare::pipeline
