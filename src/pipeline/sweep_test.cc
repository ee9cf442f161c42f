#include "pare/pipeline/sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/run_folder.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/count_of.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::get_file;
using ::pare::testing::put_file;
using ::pare::testing::quiet;
using ::pare::testing::TinyRun;

constexpr const char* kSweep = R"(name = "patterns"
recipe = "tiny.toml"
seeds = [3, 4]
set = ["stage.dense.epochs=2"]
[[row]]
name = "2:4"
[[row]]
name = "16:2:4"
set = ["stage.sparse.sparsifier.pattern=16:2:4"]
[[row]]
name = "2:4, taught"
seeds = [3]
set = ["stage.qat.distill={ teacher = 'dense' }"]
)";

// Data, tiny.toml and sweep.toml.
struct TinySweep {
  TinyRun tiny;
  std::filesystem::path file = tiny / "sweep.toml";
  explicit TinySweep(const std::string& text = kSweep) { put_file(file, text); }
  [[nodiscard]] std::vector<SweepResult> run(const std::vector<std::string>& rows = {},
                                             const std::vector<std::uint64_t>& seeds = {}) const {
    return run_sweep(load_sweep(file), {tiny.out("sweep"), rows, seeds}, quiet());
  }
};

RunRecord record_of(const std::filesystem::path& folder) { return record_from_json(get_file(folder / "report.json")); }

TEST(Sweep, TrainsStagesThatRowsShareOnceAndGetsWhatLoneRunsGet) {
  const TinySweep sweep;
  const std::vector<SweepResult> results = sweep.run();
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].row, "2:4");
  ASSERT_EQ(results[0].runs.size(), 2U);
  EXPECT_EQ(results[0].runs[0].reused, "");
  EXPECT_EQ(results[0].runs[1].reused, "") << "another seed";
  EXPECT_EQ(results[1].runs[0].reused, "2-4/seed-3: 1 stage");
  EXPECT_EQ(results[1].runs[1].reused, "2-4/seed-4: 1 stage");
  EXPECT_EQ(results[2].runs[0].reused, "2-4/seed-3: 2 stages");
  for (const SweepResult& result : results) {
    EXPECT_GT(result.us_per_image, 0.0);
    for (const SweepRun& run : result.runs) {
      EXPECT_EQ(run.mismatches, 0);
      EXPECT_EQ(run.problem, "");
      EXPECT_GT(run.accuracy, 25.0);
    }
  }
  // The same bytes as without any sharing.
  const TinyRun alone;
  RunOptions options;
  options.folder = alone.out();
  (void)run_recipe(load_recipe(alone.recipe(), {"stage.dense.epochs=2", "stage.sparse.sparsifier.pattern=16:2:4"}),
                   options, quiet());
  EXPECT_EQ(get_file(alone.out() / "model.pare"), get_file(results[1].runs[0].artifact));
  const RunRecord shared = record_of(sweep.tiny.out("sweep") / "16-2-4" / "seed-3");
  EXPECT_EQ(shared.stages.size(), 3U);
  EXPECT_EQ(shared.stages[0].accuracy, record_of(alone.out()).stages[0].accuracy);
}

TEST(Sweep, GoesOnWhereItStood) {
  const TinySweep sweep;
  (void)sweep.run();
  const std::filesystem::path folder = sweep.tiny.out("sweep");
  const auto artifact = folder / "2-4" / "seed-3" / "model.pare";
  const auto written = std::filesystem::last_write_time(artifact);
  // As if it had been killed after the second row's first stage, before any checkpoint of its own.
  std::filesystem::remove_all(folder / "16-2-4" / "seed-3");
  std::filesystem::create_directories(folder / "16-2-4" / "seed-3");
  const std::vector<SweepResult> again = sweep.run();
  EXPECT_EQ(std::filesystem::last_write_time(artifact), written) << "what is complete is not run again";
  EXPECT_EQ(again[1].runs[0].reused, "2-4/seed-3: 1 stage");
  EXPECT_EQ(again[1].runs[0].problem, "");
}

TEST(Sweep, TakesNoStageOfBeforeItsRecipeWasChanged) {
  const TinySweep sweep;
  (void)sweep.run({"2:4"}, {3});
  const Sweep changed = load_sweep(sweep.file, {"stage.dense.epochs=3"});
  const std::vector<SweepResult> results = run_sweep(changed, {sweep.tiny.out("sweep"), {"16:2:4"}, {3}}, quiet());
  ASSERT_EQ(results.size(), 1U) << "the row 2:4 is of the other recipe";
  EXPECT_EQ(results[0].row, "16:2:4");
  EXPECT_EQ(results[0].runs[0].reused, "");
  EXPECT_EQ(results[0].runs[0].problem, "");
  EXPECT_EQ(record_of(sweep.tiny.out("sweep") / "16-2-4" / "seed-3").stages[0].epochs, 3.0);
}

TEST(Sweep, OverwritesRunsOfAnotherRecipeOnlyWhereAskedTo) {
  const TinySweep sweep;
  (void)sweep.run({"2:4"}, {3});
  const std::filesystem::path report = sweep.tiny.out("sweep") / "2-4" / "seed-3" / "report.json";
  const std::string before = get_file(report);
  const Sweep changed = load_sweep(sweep.file, {"stage.dense.epochs=3"});
  SweepOptions options{sweep.tiny.out("sweep"), {"2:4"}, {3}};
  const std::vector<SweepResult> refused = run_sweep(changed, options, quiet());
  EXPECT_NE(refused[0].runs[0].problem, "");
  EXPECT_LT(refused[0].runs[0].accuracy, 0.0) << "that of the other recipe";
  EXPECT_EQ(get_file(report), before);
  options.overwrite = true;
  const std::vector<SweepResult> anew = run_sweep(changed, options, quiet());
  EXPECT_EQ(anew[0].runs[0].problem, "");
  const std::string after = get_file(report);
  EXPECT_EQ(record_from_json(after).stages[0].epochs, 3.0);
  (void)run_sweep(changed, options, quiet());
  EXPECT_EQ(get_file(report), after) << "what is of this recipe stays";
}

TEST(Sweep, RunsTheRowsAndSeedsAskedForAndShowsWhatIsComplete) {
  const TinySweep sweep;
  ASSERT_EQ(sweep.run({"2:4"}, {4}).size(), 1U);
  const std::filesystem::path folder = sweep.tiny.out("sweep");
  EXPECT_FALSE(std::filesystem::exists(folder / "2-4" / "seed-3"));
  EXPECT_FALSE(std::filesystem::exists(folder / "16-2-4"));
  const std::vector<SweepResult> more = sweep.run({"16*"}, {4});
  ASSERT_EQ(more.size(), 2U);
  EXPECT_EQ(more[0].row, "2:4");
  ASSERT_EQ(more[0].runs.size(), 1U);
  EXPECT_EQ(more[0].runs[0].seed, 4U);
  EXPECT_GT(more[0].runs[0].accuracy, 25.0);
  EXPECT_EQ(more[1].runs[0].reused, "2-4/seed-4: 1 stage");
  EXPECT_FALSE(std::filesystem::exists(folder / "16-2-4" / "seed-3"));
}

TEST(Sweep, RowsAndSeedsThatItDoesNotHaveAreRefused) {
  const TinySweep sweep;
  const auto row = ::pare::testing::error_of([&] { return sweep.run({"16:2:5"}); });
  ASSERT_TRUE(row);
  EXPECT_EQ(row->category(), ErrorCategory::kNotFound);
  EXPECT_NE(std::string(row->what()).find("16:2:4"), std::string::npos) << row->what();
  const auto seed = ::pare::testing::error_of([&] { return sweep.run({}, {5}); });
  ASSERT_TRUE(seed);
  EXPECT_NE(std::string(seed->what()).find("no row has the seed 5"), std::string::npos) << seed->what();
  EXPECT_FALSE(std::filesystem::exists(sweep.tiny.out("sweep")));
}

TEST(Sweep, OverridesChangeAllRowsLast) {
  const TinySweep sweep;
  const Sweep changed = load_sweep(sweep.file, {"stage.dense.epochs=3"});
  for (const SweepRow& row : changed.rows) {
    EXPECT_EQ(load_recipe(row.recipe, row.overrides).stages[0].epochs, 3.0) << row.name;
  }
}

// Another process is at the first row with seed 3, whose dense stage all rows of that seed begin with.
TEST(Sweep, LeavesToOtherProcessesWhatTheyWorkOnAndComesBackToIt) {
  const TinySweep sweep;
  const std::filesystem::path folder = sweep.tiny.out("sweep");
  const Recipe recipe = load_recipe(sweep.tiny.recipe(), {"stage.dense.epochs=2", "seed=3"});
  auto other = std::make_unique<RunFolder>(folder / "2-4" / "seed-3", recipe, IfRunExists::kResume);
  bool first_seed_left_alone = false;
  std::thread release([&] {
    while (!file_exists(folder / "16-2-4" / "seed-4" / "report.json")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    first_seed_left_alone = !std::filesystem::exists(folder / "16-2-4" / "seed-3");
    other.reset();
  });
  const std::vector<SweepResult> results = sweep.run({"2:4", "16:2:4"});
  release.join();
  EXPECT_TRUE(first_seed_left_alone);
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].runs[0].seed, 3U);
  EXPECT_EQ(results[1].runs[0].reused, "2-4/seed-3: 1 stage");
  for (const SweepResult& result : results) {
    for (const SweepRun& run : result.runs) {
      EXPECT_EQ(run.problem, "");
      EXPECT_GT(run.accuracy, 25.0);
    }
  }
}

TEST(Sweep, ARowThatFailsSaysWhyAndTheOthersGoOn) {
  const TinySweep sweep(str_cat(kSweep,
                                "[[row]]\nname = \"too hot\"\nseeds = [3]\n"
                                "set = [\"stage.sparse.optimizer.lr=1e30\"]\n"));
  const std::vector<SweepResult> results = sweep.run();
  ASSERT_EQ(results.size(), 4U);
  EXPECT_NE(results[3].runs[0].problem.find("loss is"), std::string::npos) << results[3].runs[0].problem;
  EXPECT_LT(results[3].runs[0].accuracy, 0.0);
  EXPECT_LT(results[3].us_per_image, 0.0);
  EXPECT_EQ(results[0].runs[0].problem, "");
  const std::string table = get_file(sweep.tiny.out("sweep") / "sweep.md");
  EXPECT_NE(table.find("| too hot |"), std::string::npos);
  EXPECT_NE(table.find("seed 3: the loss is"), std::string::npos) << table;
}

TEST(SweepReport, TableJsonAndPlotSayTheSame) {
  SweepResult good{"2:4 <a> | b", {}, 12.5};
  good.runs.push_back({.seed = 0,
                       .dense_accuracy = 93.0,
                       .accuracy = 92.5,
                       .bytes = 500,
                       .dense_fp32_bytes = 2000,
                       .reused = "",
                       .problem = "",
                       .artifact = "x"});
  good.runs.push_back({.seed = 1,
                       .dense_accuracy = 94.0,
                       .accuracy = 93.5,
                       .bytes = 500,
                       .dense_fp32_bytes = 2000,
                       .reused = "",
                       .problem = "",
                       .artifact = "y"});
  SweepResult bad{"none", {{.seed = 0, .reused = "", .problem = "a | b\nc", .artifact = ""}}, -1.0};
  const std::vector<SweepResult> results = {good, bad};
  const std::string table = sweep_table(results);
  EXPECT_NE(table.find("| 93.50 (93.00 to 94.00) | 93.00 (92.50 to 93.50) | 0 | 500 | 0.250 | 12.5 |  |"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("| none |  |  |  |  |  |  | seed 0: a / b c |"), std::string::npos) << table;
  const auto json = nlohmann::json::parse(sweep_json("s", results));
  EXPECT_EQ(json.at("rows").at(0).at("runs").at(1).at("accuracy"), 93.5);
  EXPECT_TRUE(json.at("rows").at(1).at("runs").at(0).at("accuracy").is_null());
  EXPECT_TRUE(json.at("rows").at(1).at("us_per_image").is_null());
  const std::string svg = sweep_svg(results);
  EXPECT_NE(svg.find("2:4 &lt;a&gt;"), std::string::npos);
  EXPECT_EQ(svg.find("none</text>"), std::string::npos);
}

SweepResult plotted(const std::string& row, std::int64_t bytes, const std::vector<double>& accuracies, double us) {
  SweepResult made{row, {}, us};
  for (const double accuracy : accuracies) {
    made.runs.push_back({.dense_accuracy = 93.0,
                         .accuracy = accuracy,
                         .bytes = bytes,
                         .dense_fp32_bytes = 2000,
                         .reused = "",
                         .problem = "",
                         .artifact = "x"});
  }
  return made;
}

TEST(SweepPlot, JoinsAndNamesTheFrontAndExplainsTheRest) {
  const std::vector<SweepResult> results = {plotted("large", 1000, {93.0, 93.4}, 40.0),
                                            plotted("beaten", 900, {91.0}, 50.0), plotted("small", 500, {92.0}, 20.0),
                                            plotted("equal", 500, {92.0}, 30.0)};
  const std::string svg = sweep_svg(results);
  EXPECT_EQ(testing::count_of(">large</text>", svg), 2U);
  EXPECT_EQ(testing::count_of(">small</text>", svg), 2U);
  EXPECT_EQ(testing::count_of(">equal</text>", svg), 1U) << "as small as 'small', but slower";
  EXPECT_EQ(testing::count_of(">beaten</text>", svg), 0U);
  EXPECT_EQ(testing::count_of("<title>beaten: 91.00 %, 0.9 kB</title>", svg), 1U);
  EXPECT_EQ(testing::count_of("<title>large: 93.20 %, 40.0 us</title>", svg), 1U);
  EXPECT_EQ(testing::count_of(">dense float32</text>", svg), 2U);
  EXPECT_EQ(testing::count_of("stroke-opacity='0.45'", svg), 2U) << "the range of the one row with two seeds";
  EXPECT_EQ(testing::count_of(">91.0</text>", svg), 2U) << "axes end at round numbers";
  EXPECT_EQ(testing::count_of(">93.5</text>", svg), 2U);
}

// One row that is wrecked leaves the others their axis, and is shown at its end.
TEST(SweepPlot, RowsFarBelowTheOthersDoNotSetTheAxis) {
  const std::string svg =
      sweep_svg({plotted("a", 1000, {93.0}, 40.0), plotted("b", 900, {92.5}, 30.0), plotted("c", 800, {91.5}, 20.0),
                 plotted("d", 700, {90.1}, 10.0), plotted("wrecked", 600, {36.0}, 5.0)});
  EXPECT_EQ(testing::count_of(">36.00</text>", svg), 2U);
  EXPECT_EQ(testing::count_of("<title>wrecked: 36.00 %, 0.6 kB</title></path>", svg), 1U);
  EXPECT_EQ(testing::count_of(">90.0</text>", svg), 2U) << "the axis begins";
  EXPECT_EQ(testing::count_of(">40</text>", svg), 1U) << "microseconds only";
}

TEST(SweepFile, ShippedOnesAreSound) {
  for (const auto& [name, rows] : {std::pair("fashion_mnist", 27U), {"mlp", 27U}, {"resnet20", 10U}}) {
    const Sweep sweep =
        load_sweep(std::filesystem::path(PARE_SOURCE_DIR) / "recipes" / "sweeps" / (std::string(name) + ".toml"));
    EXPECT_GE(sweep.rows.size(), rows) << name;
  }
}

TEST(SweepFile, FaultsAreFoundBeforeAnythingRuns) {
  const std::vector<std::pair<std::string, std::string>> faults = {
      {"name = \"x\"\nrecipe = \"tiny.toml\"\n", "no [[row]]"},
      {"[[row]]\nname = \"a\"\n", "no recipe"},
      {"recipe = \"tiny.toml\"\n[[row]]\n", "there is no 'name'"},
      {"recipe = \"tiny.toml\"\n[[row]]\nname = \"a:b\"\n[[row]]\nname = \"a b\"\n", "folder name of its own"},
      {"recipe = \"tiny.toml\"\nseeds = [0, 0]\n[[row]]\nname = \"a\"\n", "whole numbers that differ"},
      {"recipe = \"tiny.toml\"\n[[row]]\nname = \"a\"\nset = [\"stage.sprase.epochs=1\"]\n", "sprase"},
      {"recipe = \"tiny.toml\"\nseed = 1\n[[row]]\nname = \"a\"\n", "unknown key 'seed'"},
      {"recipe = \"tiny.toml\"\n[[row]\nname = \"a\"\n", "not TOML"}};
  for (const auto& [text, problem] : faults) {
    const TinySweep sweep(text);
    const auto error = ::pare::testing::error_of([&] { return load_sweep(sweep.file); });
    ASSERT_TRUE(error) << text;
    EXPECT_NE(std::string(error->what()).find(problem), std::string::npos) << error->what();
  }
}

}  // namespace
}  // namespace pare::pipeline
