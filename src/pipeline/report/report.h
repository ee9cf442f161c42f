// report.json, report.html and TensorBoard event files of a run. docs/report.md describes all three.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "pare/pipeline/run_record.h"

namespace pare::pipeline {

// What a reader wants to know first. Derived from the record, so it is written to report.json but never read back.
struct RunSummary {
  enum class Verdict {
    kFinished,    // an artifact was written and evaluated, and the recipe sets no limit
    kAccepted,    // the same, and the limit is kept
    kRejected,    // the record says that a limit was passed
    kMismatched,  // the runtime's numbers differ from QAT's
    kUnfinished,  // no artifact, or one that was not evaluated
  };
  Verdict verdict = Verdict::kUnfinished;
  // Percent: the last dense stage before any other kind of stage. None if the run does not begin with a dense stage.
  std::optional<double> reference_accuracy;
  std::optional<double> accuracy_drop;  // points, reference to artifact; negative where the artifact is better
  std::optional<double> size_ratio;     // artifact to dense fp32
  std::optional<double> zero_fraction;  // over the weights of all layers
};

[[nodiscard]] std::string to_string(RunSummary::Verdict verdict);  // "accepted"
[[nodiscard]] RunSummary summarize(const RunRecord& record);
// "fashion_mnist: accuracy 93.00 % to 92.91 %, 530 kB (0.16 of dense fp32), 0 mismatches in 10,000 images: accepted"
[[nodiscard]] std::string summary_line(const RunRecord& record);

// docs/report.md lists the keys. Finite numbers round-trip bit for bit; NaN and infinity become null, which is read
// back as NaN. Bytes of a text that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string report_json(const RunRecord& record);
// The reverse (checkpoints carry the record so). Throws kCorruptData, naming the place in the JSON; kUnsupported for a
// version of the format that is newer than this build.
[[nodiscard]] RunRecord record_from_json(const std::string& json);
// One file that opens offline: styles, script and data inside.
[[nodiscard]] std::string report_html(const RunRecord& record);

// Writes report.json and report.html into the folder, atomically, creating the folder if needed. Throws kIo.
void write_reports(const std::filesystem::path& folder, const RunRecord& record);

// Writes all series as one event file under `folder`/events (TFRecord frames of tensorflow.Event messages), atomically.
// Its name carries the last step; of the files that earlier calls wrote, at most the one before it stays. Tags
// "train/loss", "train/lr", "test/accuracy", "weights/sparsity"; a series of another name goes under "run/<name>". Wall
// times are seconds of training since the run began (the record holds no dates), so that equal records make equal
// files. A TensorBoard that is already watching goes on to the new file. Throws kIo.
void write_tensorboard_events(const std::filesystem::path& folder, const RunRecord& record);

}  // namespace pare::pipeline
