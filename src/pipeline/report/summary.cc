#include <cmath>
#include <iomanip>
#include <sstream>

#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/report/report.h"

namespace pare::pipeline {
namespace {

std::string with_commas(std::int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const std::size_t left = digits.size() - i;
    if (i > 0 && left % 3 == 0 && digits[i - 1] != '-') out += ',';
    out += digits[i];
  }
  return out;
}

std::string with_unit(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 999.5e3) return fixed(value / 1e6, 2) + " MB";
  if (value >= 1e3) return fixed(value / 1e3, 0) + " kB";
  return std::to_string(bytes) + " bytes";
}

}  // namespace

std::string to_string(RunSummary::Verdict verdict) {
  switch (verdict) {
    case RunSummary::Verdict::kFinished:
      return "finished";
    case RunSummary::Verdict::kAccepted:
      return "accepted";
    case RunSummary::Verdict::kRejected:
      return "rejected";
    case RunSummary::Verdict::kMismatched:
      return "mismatched";
    case RunSummary::Verdict::kUnfinished:
      return "unfinished";
  }
  return "unfinished";
}

RunSummary summarize(const RunRecord& record) {
  RunSummary summary;
  for (const StageRecord& stage : record.stages) {
    if (stage.kind != "dense") break;
    if (std::isfinite(stage.accuracy)) summary.reference_accuracy = stage.accuracy;
  }
  const bool evaluated = record.runtime.samples > 0;
  const bool finished = evaluated && record.artifact.bytes > 0;
  if (evaluated && summary.reference_accuracy && std::isfinite(record.runtime.accuracy)) {
    summary.accuracy_drop = *summary.reference_accuracy - record.runtime.accuracy;
  }
  if (record.artifact.bytes > 0 && record.artifact.dense_fp32_bytes > 0) {
    summary.size_ratio =
        static_cast<double>(record.artifact.bytes) / static_cast<double>(record.artifact.dense_fp32_bytes);
  }
  // In double, so that no shape, however absurd, can overflow.
  double weights = 0.0;
  double zeros = 0.0;
  for (const LayerRecord& layer : record.layers) {
    double count = 1.0;
    for (const std::int64_t extent : layer.shape) count *= static_cast<double>(extent);
    weights += count;
    zeros += static_cast<double>(layer.zeros);
  }
  if (weights > 0.0) summary.zero_fraction = zeros / weights;

  if (record.runtime.mismatches > 0) {
    summary.verdict = RunSummary::Verdict::kMismatched;
  } else if (!record.accepted) {
    summary.verdict = RunSummary::Verdict::kRejected;
  } else if (!finished) {
    summary.verdict = RunSummary::Verdict::kUnfinished;
  } else {
    summary.verdict = record.accepted_drop >= 0.0 ? RunSummary::Verdict::kAccepted : RunSummary::Verdict::kFinished;
  }
  return summary;
}

std::string summary_line(const RunRecord& record) {
  const RunSummary summary = summarize(record);
  std::ostringstream out;
  out << (record.recipe.empty() ? "run" : record.recipe) << ": ";
  const char* separator = "";
  if (record.runtime.samples > 0) {
    out << "accuracy ";
    if (summary.reference_accuracy) out << percent(*summary.reference_accuracy) << " to ";
    out << percent(record.runtime.accuracy);
    separator = ", ";
  } else if (!record.stages.empty()) {
    const StageRecord& last = record.stages.back();
    out << "accuracy " << percent(last.accuracy) << " after stage " << last.name;
    separator = ", ";
  }
  if (record.artifact.bytes > 0) {
    out << separator << with_unit(record.artifact.bytes);
    if (summary.size_ratio) out << " (" << fixed(*summary.size_ratio, 3) << " of dense fp32)";
    separator = ", ";
  }
  if (record.runtime.samples > 0) {
    out << separator << with_commas(record.runtime.mismatches) << " mismatches in "
        << with_commas(record.runtime.samples) << " images";
    separator = ", ";
  }
  out << (*separator == '\0' ? "" : ": ") << to_string(summary.verdict);
  return out.str();
}

}  // namespace pare::pipeline
