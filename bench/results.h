// The rows that `make bench` collects, and the files that its programs hand to each other.
//
// A part file is {"context": {"CPU": "…", …}, "rows": [row…], "skipped": [{"work", "why"}…]}; bench_report merges part
// files. The programs in bench/peers write the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/round_robin.h"

namespace pare::bench {

struct Row {
  std::string work;
  std::string ours;
  std::string against;
  Ratio ratio;  // time of `against` over time of `ours`; above 1: ours is faster
  std::int64_t rounds = 0;
  std::optional<double> at_least;  // the goal for ratio.median; none for side notes
  double ours_us = 0.0;            // medians, for scale only
  double against_us = 0.0;

  [[nodiscard]] bool met() const { return !at_least.has_value() || ratio.median >= *at_least; }
};

struct Skipped {
  std::string work;
  std::string why;
};

struct Results {
  std::map<std::string, std::string> context;
  std::vector<Row> rows;
  std::vector<Skipped> skipped;
};

// Adds the row, and prints it.
void add_row(Results& results, Row row);
void add_skipped(Results& results, std::string work, std::string why);

// CPU, compiler and pare's version, as every part names them.
[[nodiscard]] std::map<std::string, std::string> build_context();

// Atomic. Throws kIo.
void write_part(const std::filesystem::path& path, const Results& results);

}  // namespace pare::bench
