// Event files as TensorBoard reads them: TFRecord frames (tensorflow/core/lib/io/record_writer.h) around
// tensorflow.Event messages (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <protozero/pbf_writer.hpp>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <vector>

#include "pare/base/checksum.h"
#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/report/report.h"

namespace pare::pipeline {
namespace {

namespace fs = std::filesystem;

// Field numbers of the messages named above.
constexpr protozero::pbf_tag_type kEventWallTime = 1;
constexpr protozero::pbf_tag_type kEventStep = 2;
constexpr protozero::pbf_tag_type kEventFileVersion = 3;
constexpr protozero::pbf_tag_type kEventSummary = 5;
constexpr protozero::pbf_tag_type kEventSessionLog = 7;
constexpr protozero::pbf_tag_type kSummaryValue = 1;
constexpr protozero::pbf_tag_type kValueTag = 1;
constexpr protozero::pbf_tag_type kValueSimpleValue = 2;
constexpr protozero::pbf_tag_type kSessionLogStatus = 1;
constexpr std::int32_t kSessionStart = 1;

constexpr std::string_view kFilePrefix = "events.out.tfevents.";
constexpr std::string_view kFileSuffix = ".pare";

struct TaggedPoint {
  std::int64_t step;
  std::string tag;
  double value;
};

template <typename Integer>
void append_little_endian(std::string& out, Integer value) {
  for (std::size_t i = 0; i < sizeof(Integer); ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

// "Masked", so that the checksum of data that holds checksums stays sound: rotated right by 15 bits plus a constant.
std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(std::as_bytes(std::span(bytes)));
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

void append_frame(std::string& out, const std::string& message) {
  std::string length;
  append_little_endian(length, std::uint64_t{message.size()});
  out += length;
  append_little_endian(out, masked_crc(length));
  out += message;
  append_little_endian(out, masked_crc(message));
}

std::string tag_of(const std::string& series) {
  if (series == "loss" || series == "lr") return "train/" + series;
  if (series == "accuracy") return "test/accuracy";
  if (series == "sparsity") return "weights/sparsity";
  return "run/" + series;
}

std::vector<TaggedPoint> points_by_step(const RunRecord& record) {
  std::vector<TaggedPoint> points;
  for (const auto& [name, series] : record.series) {
    for (const SeriesPoint& point : series) points.push_back({point.step, tag_of(name), point.value});
  }
  std::stable_sort(points.begin(), points.end(), [](const TaggedPoint& a, const TaggedPoint& b) {
    return std::tie(a.step, a.tag) < std::tie(b.step, b.tag);
  });
  return points;
}

// A value beyond float's range is infinite; the plain conversion would be undefined.
float nearest_float(double value) {
  constexpr auto kMax = static_cast<double>(std::numeric_limits<float>::max());
  if (std::abs(value) > kMax) return std::copysign(std::numeric_limits<float>::infinity(), value > 0.0 ? 1.0f : -1.0f);
  return static_cast<float>(value);
}

// Seconds of training until `step`, taking the steps of a stage as equally long.
double seconds_until(const RunRecord& record, std::int64_t step) {
  double seconds = 0.0;
  for (const StageRecord& stage : record.stages) {
    if (!std::isfinite(stage.seconds) || stage.seconds <= 0.0 || stage.steps <= 0) continue;
    const double done =
        (static_cast<double>(step) - static_cast<double>(stage.first_step)) / static_cast<double>(stage.steps);
    seconds += stage.seconds * std::clamp(done, 0.0, 1.0);
  }
  return seconds;
}

std::string event_file(const RunRecord& record, const std::vector<TaggedPoint>& points) {
  std::string out;
  std::string message;
  {
    protozero::pbf_writer event(message);
    event.add_double(kEventWallTime, 0.0);
    event.add_string(kEventFileVersion, "brain.Event:2");
  }
  append_frame(out, message);

  // A session that starts at step 0 makes a watching TensorBoard drop what it read from an earlier file of this run.
  message.clear();
  {
    protozero::pbf_writer event(message);
    event.add_double(kEventWallTime, 0.0);
    event.add_int64(kEventStep, 0);
    protozero::pbf_writer session(event, kEventSessionLog);
    session.add_enum(kSessionLogStatus, kSessionStart);
  }
  append_frame(out, message);

  for (auto at = points.begin(); at != points.end();) {
    const std::int64_t step = at->step;
    message.clear();
    {
      protozero::pbf_writer event(message);
      event.add_double(kEventWallTime, seconds_until(record, step));
      event.add_int64(kEventStep, step);
      protozero::pbf_writer summary(event, kEventSummary);
      for (; at != points.end() && at->step == step; ++at) {
        protozero::pbf_writer value(summary, kSummaryValue);
        value.add_string(kValueTag, at->tag);
        value.add_float(kValueSimpleValue, nearest_float(at->value));
      }
    }
    append_frame(out, message);
  }
  return out;
}

// Named after the last step: TensorBoard goes from one file of a folder to the next by name, and never back.
std::string file_name(const std::vector<TaggedPoint>& points) {
  const std::string number = std::to_string(points.empty() ? 0 : std::max<std::int64_t>(points.back().step, 0));
  const std::string zeros(number.size() < 10 ? 10 - number.size() : 0, '0');
  return str_cat(kFilePrefix, zeros, number, kFileSuffix);
}

// The file before `keep` stays: a TensorBoard that is reading it cannot step on to the next once it is gone. Those
// after `keep` are of an earlier, longer run and would be shown instead.
void remove_stale_event_files(const fs::path& folder, const std::string& keep) {
  std::error_code error;
  std::vector<std::string> before;
  std::vector<std::string> stale;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name == keep || !name.starts_with(kFilePrefix) || !name.ends_with(kFileSuffix)) continue;
    (name < keep ? before : stale).push_back(name);
  }
  std::sort(before.begin(), before.end());
  if (!before.empty()) stale.insert(stale.end(), before.begin(), before.end() - 1);
  for (const std::string& name : stale) {
    if (!error) fs::remove(folder / name, error);
  }
  if (error) {
    throw Error(ErrorCategory::kIo, str_cat("cannot remove older event files: ", error.message()), folder.string());
  }
}

}  // namespace

void write_tensorboard_events(const fs::path& folder, const RunRecord& record) {
  const fs::path events = folder / "events";
  make_directories(events);
  const std::vector<TaggedPoint> points = points_by_step(record);
  const std::string name = file_name(points);
  write_file_atomically(events / name, event_file(record, points));
  remove_stale_event_files(events, name);
}

}  // namespace pare::pipeline
