#include "bench/results.h"

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "pare/base/cpu.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"

namespace pare::bench {

using Json = nlohmann::ordered_json;

void add_row(Results& results, Row row) {
  std::printf("%-44s %-34s %-54s %6.2f %6.2f  ", row.work.c_str(), row.ours.c_str(), row.against.c_str(), row.ratio.min,
              row.ratio.median);
  if (row.at_least.has_value()) {
    std::printf(">= %.2f %s\n", *row.at_least, row.met() ? "met" : "MISSED");
  } else {
    std::printf("\n");
  }
  results.rows.push_back(std::move(row));
}

void add_skipped(Results& results, std::string work, std::string why) {
  std::printf("%-44s not measured: %s\n", work.c_str(), why.c_str());
  results.skipped.push_back({std::move(work), std::move(why)});
}

std::map<std::string, std::string> build_context() {
  std::map<std::string, std::string> context{{"CPU", cpu_name()}, {"pare", PARE_VERSION}};
  double load = 0.0;
  if (getloadavg(&load, 1) == 1) context["processes that competed for the cores at the start"] = str_cat(load);
#if defined(__clang__)
  context["compiler"] = str_cat("Clang ", __clang_version__);
#else
  context["compiler"] = str_cat("GCC ", __VERSION__);
#endif
  return context;
}

void write_part(const std::filesystem::path& path, const Results& results) {
  Json rows = Json::array();
  for (const Row& row : results.rows) {
    rows.push_back({{"work", row.work},
                    {"ours", row.ours},
                    {"against", row.against},
                    {"ratio_min", row.ratio.min},
                    {"ratio_median", row.ratio.median},
                    {"rounds", row.rounds},
                    {"at_least", row.at_least.has_value() ? Json(*row.at_least) : Json()},
                    {"met", row.at_least.has_value() ? Json(row.met()) : Json()},
                    {"ratio_max", row.ratio.max},
                    {"ours_us", row.ours_us},
                    {"against_us", row.against_us}});
  }
  Json skipped = Json::array();
  for (const Skipped& entry : results.skipped) skipped.push_back({{"work", entry.work}, {"why", entry.why}});
  const Json part = {{"context", results.context}, {"rows", rows}, {"skipped", skipped}};
  if (path.has_parent_path()) make_directories(path.parent_path());
  write_file_atomically(path, part.dump(2) + "\n");
}

}  // namespace pare::bench
