// pare-run bench: how fast the model runs here.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

#include "pare/base/cpu.h"
#include "pare/base/strings.h"
#include "pare/cli/pare_run_commands.h"
#include "pare/cli/pare_run_table.h"
#include "pare/runtime/measure.h"
#include "pare/runtime/session.h"

namespace pare::cli {

namespace {

using Json = nlohmann::ordered_json;
using runtime::LayerTime;
using runtime::Measurement;
using runtime::PlannedLayer;
using runtime::Session;

// Dense multiply-adds a second.
double macs_per_second(const PlannedLayer& layer, std::int64_t images, double seconds) {
  return seconds > 0.0 ? static_cast<double>(layer.macs * images) / seconds : 0.0;
}

Json bench_json(const RunOptions& run, const BenchOptions& options, const Session& session, const Measurement& result) {
  const auto batch = static_cast<double>(options.batch);
  Json json = {
      {"model", run.model.string()},
      {"batch", options.batch},
      {"threads", session.threads()},
      {"rounds", options.rounds},
      {"cpu", cpu_name()},
      {"isa", to_string(chosen_isa())},
      {"seconds", {{"min", result.min_seconds()}, {"median", result.median_seconds()}}},
      {"images_per_second", {{"max", batch / result.min_seconds()}, {"median", batch / result.median_seconds()}}},
      {"arena_bytes", session.arena_bytes()}};
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    const PlannedLayer& layer = session.layers()[i];
    json["layers"].push_back({{"name", layer.name},
                              {"op", layer.op_type},
                              {"kernel", layer.kernel},
                              {"seconds", result.layers[i].seconds / static_cast<double>(options.rounds)},
                              {"macs", layer.macs * options.batch}});
  }
  return json;
}

}  // namespace

int run_bench(const RunOptions& run, const BenchOptions& options) {
  Session session = Session::load(run.model, {.threads = run.threads, .max_batch = options.batch});
  const Measurement result =
      runtime::measure(session, {.batch = options.batch, .rounds = options.rounds, .by_layer = options.profile});
  if (run.json) {
    std::printf("%s\n", bench_json(run, options, session, result).dump(2).c_str());
    return kExitDone;
  }
  std::printf("%s: batch %lld, %zu thread%s, %lld rounds, %s, instruction set %s\n\n", run.model.c_str(),
              static_cast<long long>(options.batch), session.threads(), session.threads() == 1 ? "" : "s",
              static_cast<long long>(options.rounds), cpu_name().c_str(), std::string(to_string(chosen_isa())).c_str());
  const auto batch = static_cast<double>(options.batch);
  const double least = result.min_seconds();
  const double median = result.median_seconds();
  Table summary({{""}, {"min", Table::Align::kRight}, {"median", Table::Align::kRight}});
  summary.add_row({"a batch", duration(least), duration(median)});
  summary.add_row({"an image", duration(least / batch), duration(median / batch)});
  summary.add_row(
      {"images/s", grouped(static_cast<long long>(batch / least)), grouped(static_cast<long long>(batch / median))});
  std::fputs(summary.text().c_str(), stdout);
  if (!options.profile) return kExitDone;

  const double all = std::accumulate(result.layers.begin(), result.layers.end(), 0.0,
                                     [](double sum, const LayerTime& layer) { return sum + layer.seconds; });
  Table layers({{"layer"},
                {"operator"},
                {"a batch", Table::Align::kRight},
                {"share", Table::Align::kRight},
                {"GMAC/s", Table::Align::kRight},
                {"kernel"}});
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    const PlannedLayer& layer = session.layers()[i];
    const double seconds = result.layers[i].seconds / static_cast<double>(options.rounds);
    const double rate = macs_per_second(layer, options.batch, seconds);
    layers.add_row({layer.name, layer.op_type, duration(seconds),
                    fixed(all > 0.0 ? 100.0 * result.layers[i].seconds / all : 0.0, 1) + " %",
                    layer.macs > 0 ? fixed(rate / 1e9, 2) : "", layer.kernel});
  }
  std::printf("\n%s", layers.text().c_str());
  return kExitDone;
}

}  // namespace pare::cli
