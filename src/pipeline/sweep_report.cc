#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "pare/base/strings.h"
#include "pare/pipeline/monitor.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/sweep.h"

namespace pare::pipeline {
namespace {

struct Accuracies {
  double mean = 0.0;
  double least = 0.0;
  double most = 0.0;
  std::size_t count = 0;
};

// Of the runs that have one.
template <typename Member>
Accuracies accuracies(const std::vector<SweepRun>& runs, Member member) {
  Accuracies result;
  double sum = 0.0;
  for (const SweepRun& run : runs) {
    const double value = run.*member;
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

// "93.11 (93.02 to 93.20)".
std::string text_of(const Accuracies& accuracy) {
  if (accuracy.count == 0) {
    return "";
  }
  const std::string mean = fixed(accuracy.mean, 2);
  return accuracy.count == 1 ? mean
                             : str_cat(mean, " (", fixed(accuracy.least, 2), " to ", fixed(accuracy.most, 2), ")");
}

const SweepRun* first_with_artifact(const SweepResult& result) {
  const auto found = std::find_if(result.runs.begin(), result.runs.end(),
                                  [](const SweepRun& run) { return run.accuracy >= 0.0 && run.bytes > 0; });
  return found == result.runs.end() ? nullptr : &*found;
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

struct Point {
  std::string name;
  double x = 0.0;
  double accuracy = 0.0;
  bool best = false;  // nothing is both cheaper and more accurate
};

void mark_best(std::vector<Point>& points) {
  for (Point& point : points) {
    point.best = std::none_of(points.begin(), points.end(), [&](const Point& other) {
      return other.x <= point.x && other.accuracy >= point.accuracy &&
             (other.x < point.x || other.accuracy > point.accuracy);
    });
  }
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
}

constexpr double kPlotWidth = 560.0;
constexpr double kPlotHeight = 420.0;
constexpr double kMargin = 56.0;

void add_plot(std::ostringstream& svg, double left, const std::string& title, std::vector<Point> points) {
  mark_best(points);
  double x_max = 0.0;
  double low = 100.0;
  double high = 0.0;
  for (const Point& point : points) {
    x_max = std::max(x_max, point.x);
    low = std::min(low, point.accuracy);
    high = std::max(high, point.accuracy);
  }
  const double pad = std::max(0.1, 0.08 * (high - low));
  low -= pad;
  high += pad;
  const double width = kPlotWidth - 2 * kMargin;
  const double height = kPlotHeight - 2 * kMargin;
  const auto x_of = [&](double x) { return left + kMargin + width * x / (x_max > 0.0 ? 1.1 * x_max : 1.0); };
  const auto y_of = [&](double y) { return kMargin + height * (high - y) / (high - low); };
  svg << "<rect x='" << left + kMargin << "' y='" << kMargin << "' width='" << width << "' height='" << height
      << "' fill='none' stroke='#999'/>\n<text x='" << left + kPlotWidth / 2 << "' y='" << kPlotHeight - 14
      << "' text-anchor='middle'>" << title << "</text>\n<text x='" << left + kMargin << "' y='" << kMargin - 12
      << "'>accuracy, %</text>\n";
  for (int tick = 0; tick <= 4; ++tick) {
    const double y = low + (high - low) * tick / 4.0;
    const double x = 1.1 * x_max * tick / 4.0;
    svg << "<text x='" << left + kMargin - 6 << "' y='" << y_of(y) + 4 << "' text-anchor='end'>" << fixed(y, 1)
        << "</text>\n<text x='" << x_of(x) << "' y='" << kPlotHeight - kMargin + 18 << "' text-anchor='middle'>"
        << fixed(x, x_max < 10.0 ? 2 : 0) << "</text>\n";
  }
  std::string line;
  for (const Point& point : points) {
    if (point.best) {
      line += str_cat(line.empty() ? "M" : " L", fixed(x_of(point.x), 1), " ", fixed(y_of(point.accuracy), 1));
    }
  }
  svg << "<path d='" << line << "' fill='none' stroke='#2a6' stroke-width='1.5'/>\n";
  for (const Point& point : points) {
    svg << "<circle cx='" << fixed(x_of(point.x), 1) << "' cy='" << fixed(y_of(point.accuracy), 1) << "' r='4' fill='"
        << (point.best ? "#2a6" : "#57c") << "'/>\n<text x='" << fixed(x_of(point.x) + 7, 1) << "' y='"
        << fixed(y_of(point.accuracy) - 5, 1) << "'>" << escape_html(point.name) << "</text>\n";
  }
}

}  // namespace

std::string sweep_table(const std::vector<SweepResult>& results) {
  std::string table =
      "| row | dense | artifact in the runtime | mismatches | bytes | of dense fp32 | us an image | remarks |\n"
      "|---|---|---|---|---|---|---|---|\n";
  for (const SweepResult& result : results) {
    const SweepRun* const first = first_with_artifact(result);
    std::int64_t mismatches = 0;
    for (const SweepRun& run : result.runs) {
      mismatches += run.mismatches;
    }
    const double ratio = first == nullptr || first->dense_fp32_bytes == 0
                             ? 0.0
                             : static_cast<double>(first->bytes) / static_cast<double>(first->dense_fp32_bytes);
    table += str_cat("| ", cell(result.row), " | ", text_of(accuracies(result.runs, &SweepRun::dense_accuracy)), " | ",
                     text_of(accuracies(result.runs, &SweepRun::accuracy)), " | ",
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

std::string sweep_svg(const std::vector<SweepResult>& results) {
  std::vector<Point> by_bytes;
  std::vector<Point> by_time;
  for (const SweepResult& result : results) {
    const SweepRun* const first = first_with_artifact(result);
    if (first == nullptr) {
      continue;
    }
    const double accuracy = accuracies(result.runs, &SweepRun::accuracy).mean;
    by_bytes.push_back({result.row, static_cast<double>(first->bytes) / 1000.0, accuracy});
    if (result.us_per_image >= 0.0) {
      by_time.push_back({result.row, result.us_per_image, accuracy});
    }
  }
  std::ostringstream svg;
  svg << "<svg xmlns='http://www.w3.org/2000/svg' width='" << 2 * kPlotWidth << "' height='" << kPlotHeight
      << "' font-family='sans-serif' font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n";
  add_plot(svg, 0.0, "artifact, kB", std::move(by_bytes));
  add_plot(svg, kPlotWidth, "microseconds an image, one thread", std::move(by_time));
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace pare::pipeline
