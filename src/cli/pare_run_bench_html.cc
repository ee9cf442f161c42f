// The page of pare-run bench --html.
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pare/base/strings.h"
#include "pare/cli/pare_run_bench.h"
#include "pare/cli/pare_run_numbers.h"

namespace pare::cli {

namespace {

using runtime::LayerProfile;

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --line: #d9dee4; --page: #fff; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #98a2ae; --line: #343b44; --page: #14171b; --band: #1d2126; }
}
body { margin: 2rem auto; max-width: 100rem; padding: 0 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { color: var(--soft); margin: .3rem 0; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1.2rem 0; }
.numbers b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 2.1rem; margin: .3rem 0; border-radius: 4px; overflow: hidden; background: var(--band); }
.bar span { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; padding: .3rem .35rem; color: #fff;
  font-size: .8rem; box-sizing: border-box; border-right: 1px solid var(--page); min-width: 0; }
.bar .thin { padding: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.share { min-width: 7rem; }
td.share i { display: block; height: .3rem; margin-top: .15rem; border-radius: 2px; }
td small { display: block; color: var(--soft); max-width: 34rem; }
)";

// White text is readable on all of them.
constexpr std::array<std::string_view, 8> kColours = {"#1f6fb5", "#b4501e", "#1f7a4d", "#7a4aa8",
                                                      "#a83a5b", "#4d6570", "#8a6d10", "#0f7c86"};

std::string percent(double share) { return fixed(100.0 * share, 1) + " %"; }

// Operators by their share of the time, largest first, and the colour of each.
class Operators {
 public:
  explicit Operators(const std::vector<LayerProfile>& layers) {
    std::map<std::string, double> shares;
    for (const LayerProfile& layer : layers) shares[layer.layer.op_type] += layer.share;
    by_share_.assign(shares.begin(), shares.end());
    std::stable_sort(by_share_.begin(), by_share_.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  }

  [[nodiscard]] const std::vector<std::pair<std::string, double>>& by_share() const { return by_share_; }

  [[nodiscard]] std::string_view colour(const std::string& op_type) const {
    const auto found =
        std::find_if(by_share_.begin(), by_share_.end(), [&](const auto& entry) { return entry.first == op_type; });
    return kColours[static_cast<std::size_t>(found - by_share_.begin()) % kColours.size()];
  }

 private:
  std::vector<std::pair<std::string, double>> by_share_;
};

std::string segment(const std::string& name, const std::string& title, double share, std::string_view colour) {
  const bool has_room = share >= 0.04;
  return str_cat("<span", has_room ? "" : " class=\"thin\"", " style=\"width:", fixed(100.0 * share, 3),
                 "%;background:", colour, "\" title=\"", escape_html(title), "\">", has_room ? escape_html(name) : "",
                 "</span>");
}

std::string bars(const std::vector<LayerProfile>& layers, const Operators& operators) {
  std::string html = "<h2>Where the time goes</h2>\n<p>By operator</p>\n<div class=\"bar\">";
  for (const auto& [op_type, share] : operators.by_share()) {
    html += segment(str_cat(op_type, " ", percent(share)), str_cat(op_type, ": ", percent(share)), share,
                    operators.colour(op_type));
  }
  html += "</div>\n<p>By layer, in the order in which they run; the colour is the operator's</p>\n<div class=\"bar\">";
  for (const LayerProfile& layer : layers) {
    html += segment(layer.layer.name,
                    str_cat(layer.layer.name, " (", layer.layer.op_type, "): ", duration(layer.time.median()), ", ",
                            percent(layer.share)),
                    layer.share, operators.colour(layer.layer.op_type));
  }
  return html + "</div>\n";
}

std::string number(const std::string& text) { return str_cat("<td class=\"n\">", text, "</td>"); }

// Bars are drawn to the scale of the largest share.
std::string row(const LayerProfile& profile, double largest, std::string_view colour) {
  const runtime::PlannedLayer& layer = profile.layer;
  const bool multiplies = layer.macs > 0;
  std::string html = str_cat("<tr><td>", escape_html(layer.name), "</td><td>", escape_html(layer.op_type), "</td><td>",
                             escape_html(layer.pattern), "</td>");
  html += number(duration(profile.time.min())) + number(duration(profile.time.median()));
  html +=
      str_cat("<td class=\"n share\">", percent(profile.share),
              "<i style=\"width:", fixed(100.0 * profile.share / largest, 1), "%;background:", colour, "\"></i></td>");
  html += number(multiplies ? fixed(profile.ops_per_second / 1e9, 1) : "");
  html += number(multiplies ? percent(profile.share_of_peak) : "");
  html += number(grouped(profile.bytes)) + number(fixed(profile.bytes_per_second / 1e9, 2));
  html += str_cat("<td>", escape_html(layer.kernel),
                  layer.note.empty() ? "" : str_cat("<small>", escape_html(layer.note), "</small>"), "</td></tr>\n");
  return html;
}

std::string tile(const std::string& value, const std::string& what) {
  return str_cat("<div><b>", value, "</b>", what, "</div>");
}

}  // namespace

std::string bench_html(const BenchReport& report) {
  const runtime::Measurement& result = report.result;
  const Operators operators(result.layers);
  const auto batch = static_cast<double>(report.batch);
  std::string html = str_cat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      escape_html(report.model), " by layer</title>\n<style>", kStyle, "</style></head><body>\n<h1>",
      escape_html(report.model), "</h1>\n<p>", escape_html(conditions_of(report)), "</p>\n");
  for (const std::string& note : report.notes) html += str_cat("<p>", escape_html(note), "</p>\n");
  html += "<div class=\"numbers\">";
  html += tile(duration(result.time.min()), "a batch, minimum");
  html += tile(duration(result.time.median()), "a batch, median");
  html += tile(grouped(static_cast<long long>(batch / result.time.median())), "images a second, median");
  html += tile(fixed(2.0 * result.peak_macs_per_second / 1e9, 0), "GOPS, peak of dense dot products");
  html += "</div>\n" + bars(result.layers, operators);
  html +=
      "<h2>Layers</h2>\n<p>Times of a batch, measured layer by layer in rounds of their own. Operations are those of "
      "the dense layer at the minimum time, two a multiply-add: beyond 100&nbsp;% of peak zeros were skipped. Bytes "
      "are activations read and written, and packed weights once.</p>\n<div class=\"scroll\"><table>\n"
      "<tr><th>layer</th><th>operator</th><th>pattern</th><th class=\"n\">min</th><th class=\"n\">median</th>"
      "<th class=\"n\">share</th><th class=\"n\">GOPS</th><th class=\"n\">of peak</th><th class=\"n\">bytes</th>"
      "<th class=\"n\">GB/s</th><th>kernel, and why</th></tr>\n";
  double largest = 1e-9;
  for (const LayerProfile& layer : result.layers) largest = std::max(largest, layer.share);
  for (const LayerProfile& layer : result.layers) html += row(layer, largest, operators.colour(layer.layer.op_type));
  return html + "</table></div>\n</body></html>\n";
}

}  // namespace pare::cli
