#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/report/page.h"
#include "pare/pipeline/sweep.h"

namespace pare::pipeline {
namespace {

struct Point {
  std::string name;
  double cost = 0.0;
  Spread accuracy;
  bool on_front = false;  // nothing costs no more, is as accurate, and is better in one of both
};

struct Axis {
  double low = 0.0;
  double high = 1.0;
  double step = 1.0;
};

// Ends at multiples of a step of 1, 2 or 5 times a power of ten, of which there are four to eight.
Axis round_axis(double low, double high) {
  const double span = std::max(high - low, 1e-9);
  const double power = std::pow(10.0, std::floor(std::log10(span / 4.0)));
  double step = power;
  for (const double factor : {2.0, 5.0}) {
    if (span / (factor * power) >= 4.0) {
      step = factor * power;
    }
  }
  return {step * std::floor(low / step), step * std::ceil(high / step), step};
}

int decimals_of(double step) { return std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9))); }

std::vector<Point> with_front(std::vector<Point> points) {
  for (Point& point : points) {
    point.on_front = std::none_of(points.begin(), points.end(), [&](const Point& other) {
      return other.cost <= point.cost && other.accuracy.mean >= point.accuracy.mean &&
             (other.cost < point.cost || other.accuracy.mean > point.accuracy.mean);
    });
  }
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.cost < b.cost; });
  return points;
}

// Rows that fall further below the lower quarter than three times what lies above it, and 3 points at least, would
// squeeze all others into a line: the axis does not reach down to them.
double least_shown(const std::vector<Point>& points) {
  std::vector<double> means;
  for (const Point& point : points) {
    means.push_back(point.accuracy.mean);
  }
  std::sort(means.begin(), means.end());
  const double quarter = means[means.size() / 4];
  return quarter - 3.0 * std::max(1.0, means.back() - quarter);
}

constexpr double kPlotWidth = 640.0;
constexpr double kPlotHeight = 460.0;
constexpr double kLeft = 52.0;
constexpr double kRight = 16.0;
constexpr double kTop = 36.0;
constexpr double kBottom = 48.0;
constexpr double kLetter = 6.0;  // width of one, at most, on average
constexpr double kLineHeight = 14.0;

class Plot {
 public:
  Plot(std::ostringstream& svg, double left, std::string unit, std::vector<Point> points, double dense)
      : svg_(svg), left_(left), unit_(std::move(unit)), points_(with_front(std::move(points))), dense_(dense) {
    double low = dense_ >= 0.0 ? dense_ : 100.0;
    double high = dense_ >= 0.0 ? dense_ : 0.0;
    double most = 0.0;
    const double shown = least_shown(points_);
    for (const Point& point : points_) {
      most = std::max(most, point.cost);
      if (point.accuracy.mean >= shown) {
        low = std::min(low, point.accuracy.least);
      }
      high = std::max(high, point.accuracy.most);
    }
    x_ = round_axis(0.0, 1.02 * most);
    y_ = round_axis(low, high);
  }

  void draw(const std::string& title) {
    axes(title);
    if (dense_ >= 0.0) {
      svg_ << "<path d='M" << fixed(x_of(x_.low), 1) << " " << fixed(y_of(dense_), 1) << " H" << fixed(x_of(x_.high), 1)
           << "' stroke='#888' stroke-dasharray='5 4'/>\n";
      text(x_of(x_.low) + 4, y_of(dense_) - 4, "start", "dense float32", "#666");
    }
    std::string line;
    for (const Point& point : points_) {
      if (point.on_front) {
        line +=
            str_cat(line.empty() ? "M" : " L", fixed(x_of(point.cost), 1), " ", fixed(y_of(point.accuracy.mean), 1));
      }
    }
    svg_ << "<path d='" << line << "' fill='none' stroke='#2a6' stroke-width='1.5'/>\n";
    for (const bool on_front : {false, true}) {
      for (const Point& point : points_) {
        if (point.on_front == on_front) {
          dot(point);
        }
      }
    }
    names();
  }

 private:
  [[nodiscard]] double x_of(double cost) const {
    return left_ + kLeft + (kPlotWidth - kLeft - kRight) * (cost - x_.low) / (x_.high - x_.low);
  }
  // Of the axis' end for what lies below it.
  [[nodiscard]] double y_of(double accuracy) const {
    return kTop + (kPlotHeight - kTop - kBottom) * (y_.high - std::max(accuracy, y_.low)) / (y_.high - y_.low);
  }

  void text(double x, double y, const std::string& anchor, const std::string& content,
            const std::string& colour = "#222") {
    svg_ << "<text x='" << fixed(x, 1) << "' y='" << fixed(y, 1) << "' text-anchor='" << anchor << "' fill='" << colour
         << "'>" << escape_html(content) << "</text>\n";
  }

  void axes(const std::string& title) {
    for (int i = 0; i <= std::lround((y_.high - y_.low) / y_.step); ++i) {
      const double value = y_.low + i * y_.step;
      svg_ << "<path d='M" << fixed(x_of(x_.low), 1) << " " << fixed(y_of(value), 1) << " H" << fixed(x_of(x_.high), 1)
           << "' stroke='#e4e4e4'/>\n";
      text(x_of(x_.low) - 6, y_of(value) + 4, "end", fixed(value, decimals_of(y_.step)));
    }
    for (int i = 0; i <= std::lround((x_.high - x_.low) / x_.step); ++i) {
      const double value = x_.low + i * x_.step;
      svg_ << "<path d='M" << fixed(x_of(value), 1) << " " << fixed(y_of(y_.low), 1) << " v5' stroke='#666'/>\n";
      text(x_of(value), y_of(y_.low) + 18, "middle", fixed(value, decimals_of(x_.step)));
    }
    svg_ << "<path d='M" << fixed(x_of(x_.low), 1) << " " << fixed(y_of(y_.low), 1) << " H" << fixed(x_of(x_.high), 1)
         << "' stroke='#666'/>\n";
    text((x_of(x_.low) + x_of(x_.high)) / 2, kPlotHeight - 10, "middle", title);
    text(x_of(x_.low), kTop - 14, "start", "accuracy, %");
  }

  void dot(const Point& point) {
    const std::string colour = point.on_front ? "#2a6" : "#57c";
    const std::string x = fixed(x_of(point.cost), 1);
    const std::string title = str_cat("<title>", escape_html(point.name), ": ", fixed(point.accuracy.mean, 2), " %, ",
                                      fixed(point.cost, 1), " ", unit_, "</title>");
    if (point.accuracy.mean < y_.low) {
      svg_ << "<path d='M" << x << " " << fixed(y_of(y_.low), 1) << " l-5 -8 h10 z' fill='" << colour << "'>" << title
           << "</path>\n";
      text(x_of(point.cost) + 8, y_of(y_.low) - 4 - kLineHeight * below_++, "start", fixed(point.accuracy.mean, 2),
           colour);
      return;
    }
    if (point.accuracy.count > 1) {
      svg_ << "<path d='M" << x << " " << fixed(y_of(point.accuracy.least), 1) << " V"
           << fixed(y_of(point.accuracy.most), 1) << "' stroke='" << colour << "' stroke-opacity='0.45'/>\n";
    }
    svg_ << "<circle cx='" << x << "' cy='" << fixed(y_of(point.accuracy.mean), 1) << "' r='4' fill='" << colour
         << "' fill-opacity='" << (point.on_front ? "1" : "0.6") << "'>" << title << "</circle>\n";
  }

  // Above and to the left of a point of the front there is none; names that would meet move up, behind a thin line.
  void names() {
    double last = kPlotHeight;
    for (const Point& point : points_) {
      if (!point.on_front) {
        continue;
      }
      const double x = x_of(point.cost);
      const double own = y_of(point.accuracy.mean) - 8.0;
      const double y = std::min(own, last - kLineHeight);
      last = y;
      const bool fits = x - kLetter * static_cast<double>(display_width(point.name)) > x_of(x_.low);
      if (y < own - 1.0) {
        svg_ << "<path d='M" << fixed(x, 1) << " " << fixed(own + 4.0, 1) << " V" << fixed(y + 3.0, 1)
             << "' stroke='#2a6' stroke-width='0.6'/>\n";
      }
      text(fits ? x - 4 : std::max(x - 4, x_of(x_.low) + 4), y, fits ? "end" : "start", point.name, "#175");
    }
  }

  std::ostringstream& svg_;
  double left_;
  std::string unit_;
  std::vector<Point> points_;
  double dense_;  // accuracy, percent; -1: not known
  Axis x_;
  Axis y_;
  int below_ = 0;  // rows drawn so far that the axis does not reach
};

}  // namespace

std::string sweep_svg(const std::vector<SweepResult>& results) {
  std::vector<Point> by_bytes;
  std::vector<Point> by_time;
  std::vector<SweepRun> runs;
  for (const SweepResult& result : results) {
    const SweepRun* const first = result.first_with_artifact();
    if (first == nullptr) {
      continue;
    }
    runs.insert(runs.end(), result.runs.begin(), result.runs.end());
    const Spread accuracy = spread(result.runs, &SweepRun::accuracy);
    by_bytes.push_back({result.row, static_cast<double>(first->bytes) / 1000.0, accuracy});
    if (result.us_per_image >= 0.0) {
      by_time.push_back({result.row, result.us_per_image, accuracy});
    }
  }
  const Spread dense = spread(runs, &SweepRun::dense_accuracy);
  std::ostringstream svg;
  svg << "<svg xmlns='http://www.w3.org/2000/svg' width='" << (by_time.empty() ? 1 : 2) * kPlotWidth << "' height='"
      << kPlotHeight << "' font-family='sans-serif' font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n";
  double left = 0.0;
  for (const auto& [title, unit, points] :
       {std::tuple("artifact, kB", "kB", &by_bytes), {"microseconds an image, one thread", "us", &by_time}}) {
    if (!points->empty()) {
      Plot(svg, left, unit, *points, dense.count > 0 ? dense.mean : -1.0).draw(title);
    }
    left += kPlotWidth;
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace pare::pipeline
