// bench_report OUT PART…: merges part files (results.h) into OUT.json, the list of rows, and OUT.md, for people. Says
// on stdout which goals are met.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"

namespace pare::bench {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Merged {
  std::map<std::string, std::string> context;
  std::vector<Json> rows;
  std::vector<Json> skipped;
};

Merged merge(const std::vector<fs::path>& parts) {
  Merged merged;
  for (const fs::path& path : parts) {
    try {
      const Json part = Json::parse(read_text_file(path));
      for (const auto& [key, value] : part.at("context").items()) merged.context[key] = value.get<std::string>();
      for (const Json& row : part.at("rows")) merged.rows.push_back(row);
      for (const Json& entry : part.at("skipped")) merged.skipped.push_back(entry);
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorCategory::kCorruptData, error.what(), path.string(), "run the program that writes it again");
    }
  }
  return merged;
}

std::string number(const Json& value) {
  if (!value.is_number()) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value.get<double>());
  return text;
}

// "≥ 1.42", or what a goal that is no ratio says.
std::string goal_of(const Json& row) {
  if (row.contains("limit")) return row["limit"].get<std::string>();
  return row.at("at_least").is_null() ? "" : "≥ " + number(row["at_least"]);
}

std::string verdict_of(const Json& row) {
  if (row.at("met").is_null()) return "";
  return row["met"].get<bool>() ? "met" : "**missed**";
}

std::string markdown(const Merged& merged) {
  std::string text = str_cat("# ", merged.context.contains("CPU") ? merged.context.at("CPU") : "Benchmarks", "\n\n");
  text +=
      "Made by `make bench`; docs/benchmarks.md says how to read it. A ratio is the other's time over ours: above 1, "
      "ours is faster.\n\n";
  for (const auto& [key, value] : merged.context) text += str_cat("* ", key, ": ", value, "\n");
  text += "\n| work | ours | against | min | median | goal | | ours, µs |\n|---|---|---|--:|--:|--:|---|--:|\n";
  for (const Json& row : merged.rows) {
    text += str_cat("| ", row.at("work").get<std::string>(), " | ", row.at("ours").get<std::string>(), " | ",
                    row.at("against").get<std::string>(), " | ", number(row.at("ratio_min")), " | ",
                    number(row.at("ratio_median")), " | ", goal_of(row), " | ", verdict_of(row), " | ",
                    number(row.value("ours_us", Json())), " |\n");
  }
  if (!merged.skipped.empty()) text += "\n## Not measured\n\n| work | why |\n|---|---|\n";
  for (const Json& entry : merged.skipped) {
    text += str_cat("| ", entry.at("work").get<std::string>(), " | ", entry.at("why").get<std::string>(), " |\n");
  }
  return text;
}

int run_program(const fs::path& out, const std::vector<fs::path>& parts) {
  const Merged merged = merge(parts);
  if (out.has_parent_path()) make_directories(out.parent_path());
  write_file_atomically(out.string() + ".json", Json(merged.rows).dump(1) + "\n");
  write_file_atomically(out.string() + ".md", markdown(merged));
  std::size_t met = 0;
  std::vector<const Json*> missed;
  for (const Json& row : merged.rows) {
    if (row.at("met").is_null()) continue;
    if (row["met"].get<bool>()) {
      ++met;
    } else {
      missed.push_back(&row);
    }
  }
  std::printf("\n%zu of %zu goals met, %zu things not measured\n", met, met + missed.size(), merged.skipped.size());
  for (const Json* row : missed) {
    const std::string got =
        row->contains("limit") ? row->at("ours").get<std::string>() : number(row->at("ratio_median"));
    std::printf("  missed: %s: %s, goal %s\n", row->at("work").get<std::string>().c_str(), got.c_str(),
                goal_of(*row).c_str());
  }
  std::printf("%s.md\n%s.json\n", out.c_str(), out.c_str());
  return 0;
}

}  // namespace
}  // namespace pare::bench

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: bench_report OUT PART...\n");
    return 2;
  }
  try {
    return pare::bench::run_program(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_report: error: %s\n", error.what());
    return 1;
  }
}
