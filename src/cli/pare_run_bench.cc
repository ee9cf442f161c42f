// pare-run bench: how fast the model runs here.
#include "pare/cli/pare_run_bench.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "pare/base/cpu.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/cli/pare_run_commands.h"
#include "pare/cli/pare_run_numbers.h"
#include "pare/runtime/session.h"

namespace pare::cli {

namespace {

using Json = nlohmann::ordered_json;
using runtime::LayerProfile;
using runtime::Session;

Json min_and_median(const runtime::Seconds& time) { return {{"min", time.min()}, {"median", time.median()}}; }

Json bench_json(const BenchReport& report) {
  const auto batch = static_cast<double>(report.batch);
  const runtime::Seconds& time = report.result.time;
  Json json = {{"model", report.model},
               {"batch", report.batch},
               {"threads", report.threads},
               {"rounds", report.rounds},
               {"cpu", report.cpu},
               {"isa", report.isa},
               {"seconds", min_and_median(time)},
               {"images_per_second", {{"max", batch / time.min()}, {"median", batch / time.median()}}},
               {"arena_bytes", report.arena_bytes},
               {"notes", report.notes}};
  if (report.result.layers.empty()) return json;
  json["peak_gops"] = 2.0 * report.result.peak_macs_per_second / 1e9;
  for (const LayerProfile& profile : report.result.layers) {
    json["layers"].push_back({{"name", profile.layer.name},
                              {"op", profile.layer.op_type},
                              {"pattern", profile.layer.pattern},
                              {"kernel", profile.layer.kernel},
                              {"note", profile.layer.note},
                              {"seconds", min_and_median(profile.time)},
                              {"share", profile.share},
                              {"macs", profile.layer.macs * report.batch},
                              {"gops", profile.ops_per_second / 1e9},
                              {"share_of_peak", profile.share_of_peak},
                              {"bytes", profile.bytes},
                              {"bytes_per_second", profile.bytes_per_second}});
  }
  return json;
}

void print_summary(const BenchReport& report) {
  std::printf("%s: %s\n\n", report.model.c_str(), conditions_of(report).c_str());
  const auto batch = static_cast<double>(report.batch);
  const double least = report.result.time.min();
  const double median = report.result.time.median();
  TextTable summary({{""}, {"min", TextTable::Align::kRight}, {"median", TextTable::Align::kRight}});
  summary.add_row({"a batch", duration(least), duration(median)});
  summary.add_row({"an image", duration(least / batch), duration(median / batch)});
  summary.add_row(
      {"images/s", grouped(static_cast<long long>(batch / least)), grouped(static_cast<long long>(batch / median))});
  std::fputs(summary.text().c_str(), stdout);
  for (const std::string& note : report.notes) std::printf("\n%s\n", note.c_str());
}

void print_layers(const BenchReport& report) {
  TextTable layers({{"layer"},
                    {"operator"},
                    {"min", TextTable::Align::kRight},
                    {"median", TextTable::Align::kRight},
                    {"share", TextTable::Align::kRight},
                    {"GOPS", TextTable::Align::kRight},
                    {"of peak", TextTable::Align::kRight},
                    {"bytes", TextTable::Align::kRight},
                    {"GB/s", TextTable::Align::kRight},
                    {"kernel"}});
  std::string notes;
  for (const LayerProfile& profile : report.result.layers) {
    const runtime::PlannedLayer& layer = profile.layer;
    const bool multiplies = layer.macs > 0;
    layers.add_row({layer.name, layer.op_type, duration(profile.time.min()), duration(profile.time.median()),
                    fixed(100.0 * profile.share, 1) + " %", multiplies ? fixed(profile.ops_per_second / 1e9, 1) : "",
                    multiplies ? fixed(100.0 * profile.share_of_peak, 1) + " %" : "", grouped(profile.bytes),
                    fixed(profile.bytes_per_second / 1e9, 2), layer.kernel});
    if (!layer.note.empty()) notes += str_cat("  ", layer.name, ": ", layer.note, "\n");
  }
  std::printf("\n%s", layers.text().c_str());
  std::printf("\npeak %s GOPS: dense dot products alone, measured just now; a layer that skips zeros can exceed it\n",
              fixed(2.0 * report.result.peak_macs_per_second / 1e9, 0).c_str());
  if (!notes.empty()) std::printf("\nnotes\n%s", notes.c_str());
}

}  // namespace

std::string conditions_of(const BenchReport& report) {
  return str_cat("batch ", report.batch, ", ", report.threads, " thread", report.threads == 1 ? "" : "s", ", ",
                 report.rounds, " rounds, ", report.cpu, ", instruction set ", report.isa);
}

int run_bench(const RunOptions& run, const BenchOptions& options) {
  Session session = load_session(run, options.batch);
  BenchReport report;
  report.model = run.model.string();
  report.cpu = cpu_name();
  report.isa = std::string(to_string(session.isa()));
  report.batch = options.batch;
  report.threads = session.threads();
  report.rounds = options.rounds;
  report.arena_bytes = session.arena_bytes();
  for (const runtime::SessionNote& note : session.notes()) report.notes.push_back(note.text);
  const bool by_layer = options.profile || !options.html.empty();
  report.result = runtime::measure(session, {.batch = options.batch, .rounds = options.rounds, .by_layer = by_layer});
  if (!options.html.empty()) write_file_atomically(options.html, bench_html(report));
  if (run.json) {
    std::printf("%s\n", bench_json(report).dump(2).c_str());
    return kExitDone;
  }
  print_summary(report);
  if (options.profile) print_layers(report);
  if (!options.html.empty()) std::printf("\nwritten: %s\n", options.html.c_str());
  return kExitDone;
}

}  // namespace pare::cli
