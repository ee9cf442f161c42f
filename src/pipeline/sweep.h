// A sweep: one recipe, many settings. Stages that rows have in common are trained once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/recipe.h"

namespace pare::pipeline {

// A line of the table: the recipe with changes, once for each seed.
struct SweepRow {
  std::string name;
  std::filesystem::path recipe;
  std::vector<std::string> overrides;  // as --set takes them
  std::vector<std::uint64_t> seeds;
};

struct Sweep {
  std::string name;
  std::vector<SweepRow> rows;
};

// A TOML file (docs/recipe.md): name, recipe, seeds, set, and [[row]] tables with name, and recipe, seeds, set of their
// own; `overrides` change all rows, last. Every recipe is read with its changes, so that nothing is wrong hours later.
// Throws as load_recipe does, and kInvalidArgument for rows without or with equal names.
[[nodiscard]] Sweep load_sweep(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// What came of a row with one seed.
struct SweepRun {
  std::uint64_t seed = 0;
  double dense_accuracy = -1.0;  // of the last dense stage before any other, percent; -1: none
  double accuracy = -1.0;        // of the artifact in the runtime; -1: none
  std::int64_t mismatches = 0;
  std::int64_t bytes = 0;
  std::int64_t dense_fp32_bytes = 0;
  std::string reused;    // run whose stages it took over, as "dense/seed-0: 2 stages", or ""
  std::string problem;   // why there is no result, or what the result breaks; "" if all is well
  std::string artifact;  // path
};

struct SweepResult {
  std::string row;
  std::vector<SweepRun> runs;
  double us_per_image = -1.0;  // of the first run's artifact, batch 1, one thread; -1: not timed

  [[nodiscard]] const SweepRun* first_with_artifact() const;  // null if there is none
};

// Of the runs that have such an accuracy.
struct Spread {
  double mean = 0.0;
  double least = 0.0;
  double most = 0.0;
  std::size_t count = 0;
};
[[nodiscard]] Spread spread(const std::vector<SweepRun>& runs, double SweepRun::*accuracy);

struct SweepOptions {
  std::filesystem::path folder;
  std::vector<std::string> rows;     // names or globs of the rows to run; empty: all
  std::vector<std::uint64_t> seeds;  // of them those to run; empty: all
  bool overwrite = false;            // run anew where a chosen run's folder holds one of another recipe
};

// Runs what is missing under the folder (one run folder for each row and seed, "row/seed-0"), the first seed of all
// rows first, and writes sweep.json, sweep.md and sweep.svg (accuracy against bytes and time) there. A run begins at
// the end of the longest sequence of stages that another run of the sweep has done with the same data, model, seed and
// settings; so a sweep that was stopped goes on where it stood, and rows can be added. Rows and seeds that are not
// chosen are in the table if they are complete. A folder with a run of another recipe (the sweep was changed) is a row
// that says so, or is overwritten. Recipes' accuracy limits are left out. A run that fails is a row that
// says so; kIo ends the sweep. Artifacts are timed in turn, in one process, at the end.
//
// Several processes may work on one folder: each takes runs that no other works on, leaves alone those whose next stage
// another is training, and in the end waits for the others, so that each one's table is complete.
//
// Throws kNotFound, with the nearest names, for rows and seeds that the sweep does not have.
std::vector<SweepResult> run_sweep(const Sweep& sweep, const SweepOptions& options, Monitor& monitor);

// The table in Markdown: mean and spread of accuracies over the seeds, bytes, time.
[[nodiscard]] std::string sweep_table(const std::vector<SweepResult>& results);
[[nodiscard]] std::string sweep_json(const std::string& name, const std::vector<SweepResult>& results);
// Two plots side by side, accuracy (mean and range over the seeds) against bytes and against time. The front of those
// that nothing beats in both is joined and named; every other point says in a tooltip what it is.
[[nodiscard]] std::string sweep_svg(const std::vector<SweepResult>& results);

}  // namespace pare::pipeline
