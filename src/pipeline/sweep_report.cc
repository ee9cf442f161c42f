#include <algorithm>
#include <nlohmann/json.hpp>

#include "pare/base/strings.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/sweep.h"

namespace pare::pipeline {
namespace {

// "93.11 (93.02 to 93.20)".
std::string text_of(const Spread& accuracy) {
  if (accuracy.count == 0) {
    return "";
  }
  const std::string mean = fixed(accuracy.mean, 2);
  return accuracy.count == 1 ? mean
                             : str_cat(mean, " (", fixed(accuracy.least, 2), " to ", fixed(accuracy.most, 2), ")");
}

// A text as a cell of a Markdown table.
std::string cell(std::string text) {
  std::replace(text.begin(), text.end(), '|', '/');
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string remarks(const SweepResult& result) {
  std::vector<std::string> parts;
  for (const SweepRun& run : result.runs) {
    if (!run.problem.empty()) {
      parts.push_back(str_cat("seed ", run.seed, ": ", run.problem));
    }
    if (run.mismatches > 0) {
      parts.push_back(str_cat("seed ", run.seed, ": ", run.mismatches, " mismatches"));
    }
  }
  return cell(join(parts, "; "));
}

}  // namespace

const SweepRun* SweepResult::first_with_artifact() const {
  const auto found =
      std::find_if(runs.begin(), runs.end(), [](const SweepRun& run) { return run.accuracy >= 0.0 && run.bytes > 0; });
  return found == runs.end() ? nullptr : &*found;
}

Spread spread(const std::vector<SweepRun>& runs, double SweepRun::*accuracy) {
  Spread result;
  double sum = 0.0;
  for (const SweepRun& run : runs) {
    const double value = run.*accuracy;
    if (value < 0.0) {
      continue;
    }
    result.least = result.count == 0 ? value : std::min(result.least, value);
    result.most = result.count == 0 ? value : std::max(result.most, value);
    sum += value;
    ++result.count;
  }
  result.mean = result.count == 0 ? 0.0 : sum / static_cast<double>(result.count);
  return result;
}

std::string sweep_table(const std::vector<SweepResult>& results) {
  std::string table =
      "| row | dense | artifact in the runtime | mismatches | bytes | of dense fp32 | us an image | remarks |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (const SweepResult& result : results) {
    const SweepRun* const first = result.first_with_artifact();
    std::int64_t mismatches = 0;
    for (const SweepRun& run : result.runs) {
      mismatches += run.mismatches;
    }
    const double ratio = first == nullptr || first->dense_fp32_bytes == 0
                             ? 0.0
                             : static_cast<double>(first->bytes) / static_cast<double>(first->dense_fp32_bytes);
    table += str_cat("| ", cell(result.row), " | ", text_of(spread(result.runs, &SweepRun::dense_accuracy)), " | ",
                     text_of(spread(result.runs, &SweepRun::accuracy)), " | ",
                     first == nullptr ? std::string() : std::to_string(mismatches), " | ",
                     first == nullptr ? std::string() : std::to_string(first->bytes), " | ",
                     first == nullptr ? std::string() : fixed(ratio, 3), " | ",
                     result.us_per_image < 0.0 ? std::string() : fixed(result.us_per_image, 1), " | ", remarks(result),
                     " |\n");
  }
  return table;
}

std::string sweep_json(const std::string& name, const std::vector<SweepResult>& results) {
  using Json = nlohmann::json;
  Json rows = Json::array();
  for (const SweepResult& result : results) {
    Json runs = Json::array();
    for (const SweepRun& run : result.runs) {
      const auto percent = [](double value) { return value < 0.0 ? Json() : Json(value); };
      runs.push_back({{"seed", run.seed},
                      {"dense_accuracy", percent(run.dense_accuracy)},
                      {"accuracy", percent(run.accuracy)},
                      {"mismatches", run.mismatches},
                      {"bytes", run.bytes},
                      {"dense_fp32_bytes", run.dense_fp32_bytes},
                      {"reused", run.reused},
                      {"problem", run.problem},
                      {"artifact", run.artifact}});
    }
    rows.push_back({{"row", result.row},
                    {"us_per_image", result.us_per_image < 0.0 ? Json() : Json(result.us_per_image)},
                    {"runs", std::move(runs)}});
  }
  return Json{{"name", name}, {"rows", std::move(rows)}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace pare::pipeline
