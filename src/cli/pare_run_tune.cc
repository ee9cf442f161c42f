// pare-run tune: which form of each layer's weights is faster here.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/cli/pare_run_commands.h"
#include "pare/cli/pare_run_numbers.h"
#include "pare/runtime/tuning.h"

namespace pare::cli {

using runtime::TunedLayer;
using runtime::Tuning;

int run_tune(const RunOptions& run, const TuneOptions& options) {
  const Tuning tuning = runtime::tune(
      run.model, {.session = {.threads = run.threads, .max_batch = options.batch}, .rounds = options.rounds});
  if (!options.dry_run) runtime::save_tuning(run.model, tuning);
  const std::string written = options.dry_run ? "" : runtime::tuning_path(run.model).string();
  if (run.json) {
    nlohmann::ordered_json json = {{"model", run.model.string()}, {"cpu", tuning.key.cpu},
                                   {"isa", tuning.key.isa},       {"threads", tuning.key.threads},
                                   {"batch", options.batch},      {"rounds", options.rounds},
                                   {"written", written}};
    json["layers"] = nlohmann::ordered_json::array();
    for (const TunedLayer& layer : tuning.layers) {
      json["layers"].push_back({{"name", layer.name},
                                {"stored", layer.stored},
                                {"seconds", {{"stored", layer.stored_seconds}, {"dense", layer.dense_seconds}}},
                                {"speed_up", layer.speed_up},
                                {"run", layer.runs_as_stored() ? layer.stored : "dense"}});
    }
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  std::printf("%s: batch %lld, %zu thread%s, %lld rounds, %s, instruction set %s\n\n", run.model.c_str(),
              static_cast<long long>(options.batch), tuning.key.threads, tuning.key.threads == 1 ? "" : "s",
              static_cast<long long>(options.rounds), tuning.key.cpu.c_str(), tuning.key.isa.c_str());
  if (tuning.layers.empty()) {
    std::printf("no layer has a choice: none is stored with zeros that a kernel uses here\n");
  } else {
    TextTable table({{"layer"},
                     {"stored"},
                     {"as stored", TextTable::Align::kRight},
                     {"dense", TextTable::Align::kRight},
                     {"dense/stored", TextTable::Align::kRight},
                     {"runs"}});
    for (const TunedLayer& layer : tuning.layers) {
      table.add_row({layer.name, layer.stored, duration(layer.stored_seconds), duration(layer.dense_seconds),
                     fixed(layer.speed_up, 2), layer.runs_as_stored() ? layer.stored : "dense"});
    }
    std::fputs(table.text().c_str(), stdout);
  }
  if (!written.empty()) std::printf("\nwritten: %s\n", written.c_str());
  return kExitDone;
}

}  // namespace pare::cli
