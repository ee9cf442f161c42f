#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/report/page.h"
#include "pare/pipeline/sensitivity.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

// "+0.0123", "-0.40"; what rounds to 0 is "+0.00", whatever its sign.
std::string with_sign(double value, int decimals) {
  const std::string text = fixed(std::abs(value), decimals);
  const bool is_zero = text.find_first_not_of("0.") == std::string::npos;
  return str_cat(value < 0.0 && !is_zero ? "-" : "+", text);
}

// "+0.0123 (0.40)": loss, and points of accuracy that are lost.
std::string cell_text(const Sensitivity& sensitivity, const SensitivityCandidate& candidate) {
  return str_cat(with_sign(candidate.loss - sensitivity.loss, 4), " (",
                 with_sign(-sensitivity.accuracy_drop(candidate.correct), 2), ")");
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    names.push_back(name);
  }
}

// A line for each reason: "fc2.weight, 2:4 and 64:2:4 at int8: …". (Reasons are a pattern's, whatever the bits, or a
// number of bits', whatever the pattern: so patterns and bits can be listed apart.)
std::vector<std::string> impossible_lines(const Sensitivity& sensitivity, const LayerSensitivity& layer) {
  struct Group {
    std::string reason;
    std::vector<std::string> patterns;
    std::vector<std::string> bits;
  };
  std::vector<Group> groups;
  for (const ImpossibleCandidate& candidate : layer.impossible) {
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.reason == candidate.reason; });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {candidate.reason, {}, {}});
    }
    add_once(group->patterns, candidate.pattern);
    add_once(group->bits, candidate.bits);
  }
  std::vector<std::string> lines;
  for (const Group& group : groups) {
    const std::string bits = group.bits == sensitivity.bits ? "" : str_cat(" at ", join(group.bits, ", "));
    lines.push_back(str_cat(layer.weight, ", ", join(group.patterns, ", "), bits, ": ", group.reason));
  }
  return lines;
}

// The loss increase on a logarithmic scale, 0 at kLeastIncrease and below, 1 at `most`.
constexpr double kLeastIncrease = 1e-4;
double on_scale(double increase, double most) {
  if (!(increase > kLeastIncrease)) return 0.0;
  return std::min(1.0, std::log(increase / kLeastIncrease) / std::log(most / kLeastIncrease));
}

double largest_increase(const Sensitivity& sensitivity) {
  double most = 10.0 * kLeastIncrease;
  for (const LayerSensitivity& layer : sensitivity.layers) {
    for (const SensitivityCandidate& candidate : layer.candidates) {
      most = std::max(most, candidate.loss - sensitivity.loss);
    }
  }
  return most;
}

// Colours of report.css, by the number of a pattern.
const char* color_of(std::size_t pattern) {
  constexpr std::array kColors = {"other", "line", "sparse", "qat", "miss", "warn", "bad"};
  return kColors[pattern == 0 ? 0 : 1 + (pattern - 1) % (kColors.size() - 1)];
}

// A mark for a number of bits: a ring, a dot, and bars of falling height, so that none hides another.
std::string mark(std::size_t bits, double x, double y, const std::string& color, const std::string& title) {
  const std::string paint = str_cat("rgb(var(--", color, "-rgb))");
  const std::string at = str_cat("cx='", fixed(x, 1), "' cy='", fixed(y, 1), "'");
  const std::string hover = str_cat("><title>", escape_html(title), "</title>");
  if (bits == 0) return str_cat("<circle ", at, " r='6' fill='transparent' stroke='", paint, "'", hover, "</circle>\n");
  if (bits == 1) return str_cat("<circle ", at, " r='3.4' fill='", paint, "'", hover, "</circle>\n");
  const double half = 8.0 - 2.0 * static_cast<double>(bits - 2);
  return str_cat("<path d='M", fixed(x, 1), " ", fixed(y - half, 1), "v", fixed(2.0 * half, 1), "' stroke='", paint,
                 "' stroke-width='2'", hover, "</path>\n");
}

constexpr double kWidth = 1080.0;
constexpr double kLeft = 220.0;
constexpr double kRight = 30.0;
constexpr double kTop = 26.0;
constexpr double kLane = 18.0;

// A lane for each layer and pattern, along it the loss increase.
std::string chart(const Sensitivity& sensitivity) {
  const double most = largest_increase(sensitivity);
  const auto lanes = static_cast<double>(sensitivity.layers.size() * sensitivity.patterns.size());
  const double bottom = kTop + lanes * kLane + 8.0 * static_cast<double>(sensitivity.layers.size());
  const double height = bottom + 40.0;
  const double zero = kLeft + 36.0;  // what is at or below the scale's begin lies left of it
  const auto x_of = [&](double increase) {
    return increase > kLeastIncrease ? zero + 18.0 + (kWidth - kRight - zero - 18.0) * on_scale(increase, most) : zero;
  };
  std::ostringstream svg;
  svg << "<svg class='chart' viewBox='0 0 " << kWidth << " " << height << "' role='img' aria-label='loss increase of "
      << "each candidate'>\n";
  const auto grid = [&](double x, const std::string& text) {
    svg << "<line class='grid' x1='" << fixed(x, 1) << "' x2='" << fixed(x, 1) << "' y1='" << kTop << "' y2='"
        << fixed(bottom, 1) << "'/>\n<text x='" << fixed(x, 1) << "' y='" << fixed(bottom + 16.0, 1)
        << "' text-anchor='middle'>" << text << "</text>\n";
  };
  grid(zero, "none");
  for (double power = kLeastIncrease * 10.0; power <= most * 1.0001; power *= 10.0) {
    std::ostringstream text;
    text << "+" << power;
    grid(x_of(power), text.str());
  }
  svg << "<text x='" << fixed((zero + kWidth - kRight) / 2.0, 1) << "' y='" << fixed(bottom + 34.0, 1)
      << "' text-anchor='middle'>increase of the loss (cross-entropy), logarithmic; “none”: at most " << kLeastIncrease
      << "</text>\n";
  double y = kTop + 4.0;
  for (const LayerSensitivity& layer : sensitivity.layers) {
    svg << "<text class='layer' x='" << kLeft - 92.0 << "' y='"
        << fixed(y + kLane * static_cast<double>(sensitivity.patterns.size()) / 2.0 + 4.0, 1) << "' text-anchor='end'>"
        << escape_html(layer.weight) << "</text>\n";
    for (std::size_t p = 0; p < sensitivity.patterns.size(); ++p) {
      const std::string& pattern = sensitivity.patterns[p];
      const double middle = y + kLane / 2.0;
      svg << "<line class='grid' x1='" << kLeft << "' x2='" << kWidth - kRight << "' y1='" << fixed(middle, 1)
          << "' y2='" << fixed(middle, 1) << "'/>\n<text x='" << kLeft - 8.0 << "' y='" << fixed(middle + 4.0, 1)
          << "' text-anchor='end'>" << escape_html(pattern) << "</text>\n";
      bool any = false;
      for (std::size_t b = 0; b < sensitivity.bits.size(); ++b) {
        const SensitivityCandidate* candidate = layer.find(pattern, sensitivity.bits[b]);
        if (candidate == nullptr) continue;
        any = true;
        svg << mark(
            b, x_of(candidate->loss - sensitivity.loss), middle, color_of(p),
            str_cat(layer.weight, " ", pattern, " ", candidate->bits, ": ", cell_text(sensitivity, *candidate)));
      }
      if (!any) {
        svg << "<text class='empty-lane' x='" << fixed(zero + 18.0, 1) << "' y='" << fixed(middle + 4.0, 1)
            << "'>not possible</text>\n";
      }
      y += kLane;
    }
    y += 8.0;
  }
  svg << "</svg>\n";
  return svg.str();
}

std::string legend(const Sensitivity& sensitivity) {
  std::ostringstream html;
  html << "<div class='keys'>";
  for (std::size_t b = 0; b < sensitivity.bits.size(); ++b) {
    html << "<span class='key'><svg width='18' height='18'>" << mark(b, 9.0, 9.0, "other", sensitivity.bits[b])
         << "</svg>" << escape_html(sensitivity.bits[b]) << "</span>";
  }
  html << "</div>";
  return html.str();
}

std::string heat_table(const Sensitivity& sensitivity) {
  const double most = largest_increase(sensitivity);
  std::ostringstream html;
  html << "<div class='table-holder'><table class='data heat'><caption>loss increase and change of accuracy of each "
          "candidate</caption><thead><tr><th>layer</th><th>shape</th><th>pattern</th>";
  for (const std::string& bits : sensitivity.bits) {
    html << "<th class='number'>" << escape_html(bits) << "</th>";
  }
  html << "</tr></thead>\n<tbody>\n";
  for (const LayerSensitivity& layer : sensitivity.layers) {
    for (std::size_t p = 0; p < sensitivity.patterns.size(); ++p) {
      html << "<tr>";
      if (p == 0) {
        html << "<th rowspan='" << sensitivity.patterns.size() << "'>" << escape_html(layer.weight)
             << "</th><td rowspan='" << sensitivity.patterns.size() << "'>" << pare::to_string(layer.shape) << "</td>";
      }
      html << "<td><span class='pattern' style='color: rgb(var(--" << color_of(p) << "-rgb))'>"
           << escape_html(sensitivity.patterns[p]) << "</span></td>";
      for (const std::string& bits : sensitivity.bits) {
        const SensitivityCandidate* candidate = layer.find(sensitivity.patterns[p], bits);
        if (candidate == nullptr) {
          html << "<td class='number muted'>–</td>";
          continue;
        }
        const double increase = candidate->loss - sensitivity.loss;
        html << "<td class='number' style='background: rgb(var(--miss-rgb) / "
             << fixed(0.5 * on_scale(increase, most), 3) << ")'>" << with_sign(increase, 4) << " <small>"
             << with_sign(-sensitivity.accuracy_drop(candidate->correct), 2) << "</small></td>";
      }
      html << "</tr>\n";
    }
  }
  html << "</tbody></table></div>\n";
  return html.str();
}

constexpr const char* kStyle = R"(
.chart text.layer { font-size: 12.5px; fill: var(--ink); font-weight: 600; }
.chart text.empty-lane { font-style: italic; }
table.heat tbody th, table.heat tbody td { padding: 6px 10px; }
table.heat tbody td small { display: inline-block; min-width: 6ch; color: var(--soft); }
.notes { display: grid; gap: 6px; color: var(--soft); font-size: 14px; }
)";

std::string tile(const std::string& name, const std::string& value, const std::string& detail) {
  return str_cat("<div class='tile'><dt>", name, "</dt><dd><span class='value'>", value, "</span><span class='detail'>",
                 escape_html(detail), "</span></dd></div>\n");
}

std::string card(const std::string& title, const std::string& lead, const std::string& content) {
  return str_cat("<section class='card'><div class='section-head'><h2>", title, "</h2><p class='lead'>", lead,
                 "</p></div>\n", content, "</section>\n");
}

}  // namespace

std::string sensitivity_json(const Sensitivity& sensitivity) {
  Json layers = Json::array();
  for (const LayerSensitivity& layer : sensitivity.layers) {
    Json candidates = Json::array();
    for (const SensitivityCandidate& candidate : layer.candidates) {
      candidates.push_back({{"pattern", candidate.pattern},
                            {"bits", candidate.bits},
                            {"loss", candidate.loss},
                            {"correct", candidate.correct}});
    }
    Json impossible = Json::array();
    for (const ImpossibleCandidate& candidate : layer.impossible) {
      impossible.push_back({{"pattern", candidate.pattern}, {"bits", candidate.bits}, {"reason", candidate.reason}});
    }
    layers.push_back({{"weight", layer.weight},
                      {"op", layer.op},
                      {"shape", layer.shape},
                      {"candidates", std::move(candidates)},
                      {"impossible", std::move(impossible)}});
  }
  return Json{{"version", kVersion},
              {"recipe", sensitivity.recipe},
              {"model", sensitivity.model},
              {"checkpoint", sensitivity.checkpoint},
              {"sparsifier", sensitivity.sparsifier},
              {"images", sensitivity.images},
              {"calibration_images", sensitivity.calibration_images},
              {"loss", sensitivity.loss},
              {"correct", sensitivity.correct},
              {"patterns", sensitivity.patterns},
              {"bits", sensitivity.bits},
              {"layers", std::move(layers)}}
             .dump(2, ' ', false, Json::error_handler_t::replace) +
         "\n";
}

Sensitivity sensitivity_from_json(const std::string& json, const std::string& where) {
  const auto fail = [&](const std::string& problem) {
    throw Error(ErrorCategory::kCorruptData, problem, where, "name a sensitivity.json that `pare sensitivity` wrote");
  };
  Sensitivity result;
  try {
    const Json root = Json::parse(json);
    if (const int version = root.at("version").get<int>(); version != kVersion) {
      fail(str_cat("version ", version, " is not known"));
    }
    root.at("recipe").get_to(result.recipe);
    root.at("model").get_to(result.model);
    root.at("checkpoint").get_to(result.checkpoint);
    root.at("sparsifier").get_to(result.sparsifier);
    root.at("images").get_to(result.images);
    root.at("calibration_images").get_to(result.calibration_images);
    root.at("loss").get_to(result.loss);
    root.at("correct").get_to(result.correct);
    root.at("patterns").get_to(result.patterns);
    root.at("bits").get_to(result.bits);
    for (const Json& entry : root.at("layers")) {
      LayerSensitivity layer{entry.at("weight"), entry.at("op"), entry.at("shape"), {}, {}};
      for (const Json& candidate : entry.at("candidates")) {
        layer.candidates.push_back(
            {candidate.at("pattern"), candidate.at("bits"), candidate.at("loss"), candidate.at("correct")});
      }
      for (const Json& candidate : entry.at("impossible")) {
        layer.impossible.push_back({candidate.at("pattern"), candidate.at("bits"), candidate.at("reason")});
      }
      result.layers.push_back(std::move(layer));
    }
  } catch (const Json::exception& error) {
    fail(str_cat("it cannot be read: ", error.what()));
  }
  if (result.images < 1 || result.layers.empty() || !std::isfinite(result.loss)) {
    fail("it measures nothing");
  }
  const auto is_possible = [&](double loss, std::int64_t correct) {
    return loss >= 0.0 && loss < 1e30 && correct >= 0 && correct <= result.images;
  };
  bool possible = is_possible(result.loss, result.correct);
  for (const LayerSensitivity& layer : result.layers) {
    for (const SensitivityCandidate& candidate : layer.candidates) {
      possible = possible && is_possible(candidate.loss, candidate.correct);
    }
  }
  if (!possible) {
    fail("a loss or a number of images is impossible");
  }
  if (result.patterns.empty() || result.patterns.front() != sparsity::kDensePattern) {
    fail("its first pattern is not 'dense'");
  }
  return result;
}

std::string sensitivity_table(const Sensitivity& sensitivity) {
  std::string table = "| layer | pattern |";
  std::string rule = "|---|---|";
  for (const std::string& bits : sensitivity.bits) {
    table += str_cat(" ", bits, " |");
    rule += "---:|";
  }
  table += "\n" + rule + "\n";
  for (const LayerSensitivity& layer : sensitivity.layers) {
    for (const std::string& pattern : sensitivity.patterns) {
      std::string row;
      bool any = false;
      for (const std::string& bits : sensitivity.bits) {
        const SensitivityCandidate* candidate = layer.find(pattern, bits);
        any = any || candidate != nullptr;
        row += str_cat(" ", candidate == nullptr ? std::string("–") : cell_text(sensitivity, *candidate), " |");
      }
      if (any) {
        table += str_cat("| ", layer.weight, " | ", pattern, " |", row, "\n");
      }
    }
  }
  std::string notes;
  for (const LayerSensitivity& layer : sensitivity.layers) {
    for (const std::string& line : impossible_lines(sensitivity, layer)) {
      notes += "* " + line + "\n";
    }
  }
  return str_cat("Trained: loss ", fixed(sensitivity.loss, 4), ", accuracy ",
                 percent(100.0 * static_cast<double>(sensitivity.correct) / static_cast<double>(sensitivity.images)),
                 " of the last ", sensitivity.images, " training images. One layer changed, by ",
                 sensitivity.sparsifier, ": loss (points of accuracy).\n\n", table,
                 notes.empty() ? std::string() : "\nNot possible:\n" + notes);
}

std::string sensitivity_html(const Sensitivity& sensitivity) {
  const std::string accuracy =
      percent(100.0 * static_cast<double>(sensitivity.correct) / static_cast<double>(sensitivity.images));
  std::string body = str_cat(
      "<header><p class='overline'>pare sensitivity</p><h1>", escape_html(sensitivity.recipe),
      "</h1><p class='sentence'>What each layer alone costs the trained ", escape_html(sensitivity.model),
      " when it is pruned by ", escape_html(sensitivity.sparsifier), " and rounded to few bits, without training.</p>",
      "<dl class='tiles'>\n", tile("loss as trained", fixed(sensitivity.loss, 4), "mean cross-entropy"),
      tile("accuracy as trained", accuracy, str_cat(sensitivity.correct, " of ", sensitivity.images, " images")),
      tile("measured on", std::to_string(sensitivity.images),
           str_cat("the last training images; the first ", sensitivity.calibration_images, " calibrate")),
      tile("layers", std::to_string(sensitivity.layers.size()), str_cat("checkpoint ", sensitivity.checkpoint)),
      "</dl></header>\n");
  body += card("Loss by layer and pattern", "further right costs more", legend(sensitivity) + chart(sensitivity));
  body += card("All candidates", "increase of the loss, and change of accuracy in points", heat_table(sensitivity));
  std::string notes;
  for (const LayerSensitivity& layer : sensitivity.layers) {
    for (const std::string& line : impossible_lines(sensitivity, layer)) {
      notes += "<li>" + escape_html(line) + "</li>\n";
    }
  }
  if (!notes.empty()) {
    body += card("Not possible", "candidates that were not measured", "<ul class='notes'>" + notes + "</ul>");
  }
  body +=
      card("How to read it", "what the numbers are not",
           "<ul class='notes'><li>One layer is changed at a time. Together layers may cost more, or less, than the "
           "sum: <code>pare suggest --verify</code> measures that.</li><li>Nothing was trained afterwards. Training "
           "on with masks wins back most of such losses, and not the same share in every layer.</li>"
           "<li>The images were held out from calibration, not from training, unless limit_train left them out."
           "</li><li>Weights are rounded, activations are not.</li></ul>");
  return page_html({sensitivity.recipe + " sensitivity",
                    str_cat("sensitivity of ", sensitivity.recipe, ": loss by layer, pattern and bits"), kStyle, body});
}

void write_sensitivity(const std::filesystem::path& folder, const Sensitivity& sensitivity) {
  make_directories(folder);
  write_file_atomically(folder / "sensitivity.json", sensitivity_json(sensitivity));
  write_file_atomically(folder / "sensitivity.md", sensitivity_table(sensitivity));
  write_file_atomically(folder / "sensitivity.html", sensitivity_html(sensitivity));
}

}  // namespace pare::pipeline
