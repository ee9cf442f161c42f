#include "pare/pipeline/sweep.h"

#include <toml++/toml.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/graph/artifact.h"
#include "pare/pipeline/recipe_reader.h"
#include "pare/pipeline/recipe_text.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/run_folder.h"
#include "pare/pipeline/runner.h"
#include "pare/runtime/measure.h"
#include "pare/runtime/session.h"
#include "pare/train/environment.h"

namespace pare::pipeline {
namespace {

constexpr std::chrono::seconds kLookAgainAfter{1};
constexpr int kTimingRounds = 30;
constexpr int kImagesInARound = 20;

// "64:2:4 trained" -> "64-2-4-trained".
std::string folder_name(const std::string& row) {
  std::string name;
  for (const char c : row) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    if (plain || (!name.empty() && name.back() != '-')) {
      name += plain ? c : '-';
    }
  }
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) {
    name.pop_back();
  }
  return name;
}

std::string run_name(const std::string& row, std::uint64_t seed) { return str_cat(folder_name(row), "/seed-", seed); }

std::vector<std::uint64_t> read_seeds(TableReader& reader, std::vector<std::uint64_t> fallback) {
  const auto numbers = reader.numbers("seeds", NumberRange{0.0, 9007199254740992.0});
  if (!numbers) {
    return fallback;
  }
  std::vector<std::uint64_t> seeds;
  for (const double number : *numbers) {
    const auto seed = static_cast<std::uint64_t>(number);
    if (static_cast<double>(seed) != number || std::find(seeds.begin(), seeds.end(), seed) != seeds.end()) {
      reader.fail("seeds", "'seeds' must be whole numbers that differ", "as in seeds = [0, 1, 2]");
    }
    seeds.push_back(seed);
  }
  if (seeds.empty()) {
    reader.fail("seeds", "'seeds' is empty", "as in seeds = [0, 1, 2]");
  }
  return seeds;
}

// A run of the sweep: where it lies, and what it does.
struct Planned {
  std::size_t row = 0;
  std::string name;
  std::filesystem::path folder;
  Recipe recipe;
  std::vector<std::string> prefixes;  // [i]: what decides the model after i + 1 stages
  bool chosen = true;

  [[nodiscard]] bool begins_like(const Planned& other, std::size_t stages) const {
    return other.prefixes.size() >= stages && other.prefixes[stages - 1] == prefixes[stages - 1];
  }
  // What lies in the folder may be of another recipe, from before the sweep was changed.
  [[nodiscard]] bool is_in_folder() const {
    const std::filesystem::path text = folder / "recipe.toml";
    return file_exists(text) &&
           recipe_differences(read_text_file(text, kMaxRecipeBytes), recipe.canonical_text).empty();
  }
  [[nodiscard]] bool has_done(std::size_t stages) const {
    return file_exists(folder / "stages" / (recipe.stages[stages - 1].name + ".ckpt")) && is_in_folder();
  }
};

// The run with the most stages done that this one begins with, and how many those are.
std::optional<ReusedStages> find_reusable(const Planned& wanted, const std::vector<Planned>& others,
                                          std::string& from) {
  for (std::size_t stages = wanted.prefixes.size(); stages > 0; --stages) {
    for (const Planned& other : others) {
      if (other.folder != wanted.folder && wanted.begins_like(other, stages) && other.has_done(stages)) {
        from = str_cat(other.name, ": ", stages, stages == 1 ? " stage" : " stages");
        return ReusedStages{other.folder, stages};
      }
    }
  }
  return std::nullopt;
}

// Whether another process is at this run, or at a run that begins with more of its stages than are done anywhere.
// `worked_on`: by run, whether a process holds its folder.
bool is_in_other_hands(std::size_t wanted, const std::vector<Planned>& all, const std::vector<bool>& worked_on) {
  if (worked_on[wanted]) {
    return true;
  }
  for (std::size_t stages = all[wanted].prefixes.size(); stages > 0; --stages) {
    bool in_work = false;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[wanted].begins_like(all[i], stages)) {
        if (all[i].has_done(stages)) {
          return false;
        }
        in_work = in_work || worked_on[i];
      }
    }
    if (in_work) {
      return true;
    }
  }
  return false;
}

void take_record(const RunRecord& record, SweepRun& run) {
  const RunSummary summary = summarize(record);
  run.dense_accuracy = summary.reference_accuracy.value_or(-1.0);
  run.accuracy = record.runtime.samples > 0 ? record.runtime.accuracy : -1.0;
  run.mismatches = record.runtime.mismatches;
  run.bytes = record.artifact.bytes;
  run.dense_fp32_bytes = record.artifact.dense_fp32_bytes;
  run.artifact = record.artifact.path;
}

void take_report(const Planned& planned, SweepRun& run) {
  take_record(record_from_json(read_text_file(planned.folder / "report.json")), run);
}

// Nothing if another process was faster to take the run.
std::optional<SweepRun> execute(const Planned& planned, const std::vector<Planned>& all, bool overwrite,
                                Monitor& monitor) {
  SweepRun run;
  run.seed = planned.recipe.seed;
  RunOptions options;
  options.folder = planned.folder;
  options.if_exists = overwrite && !planned.is_in_folder() ? IfRunExists::kOverwrite : IfRunExists::kResume;
  options.print_summary = false;
  options.reuse = find_reusable(planned, all, run.reused);
  try {
    take_record(run_recipe(planned.recipe, options, monitor), run);
  } catch (const Error& error) {
    if (error.category() == ErrorCategory::kIo) {
      throw;
    }
    if (error.category() == ErrorCategory::kState && is_worked_on(planned.folder)) {
      return std::nullopt;
    }
    run.problem = error.problem();
    monitor.warning(str_cat(planned.name, ": ", error.what()));
    if (file_exists(planned.folder / "report.json") && planned.is_in_folder()) {
      take_report(planned, run);
    }
  }
  return run;
}

// Microseconds an image, one image at a time: each contestant takes its turn in every round, and the median of its
// rounds counts.
void time_artifacts(std::vector<SweepResult>& results, Monitor& monitor) {
  struct Contestant {
    SweepResult* result;
    runtime::Session session;
    runtime::RandomInput image;
    std::vector<float> logits;
    runtime::Seconds per_image;
  };
  std::vector<Contestant> contestants;
  for (SweepResult& result : results) {
    const auto run = std::find_if(result.runs.begin(), result.runs.end(), [](const SweepRun& candidate) {
      return candidate.accuracy >= 0.0 && file_exists(candidate.artifact);
    });
    if (run != result.runs.end()) {
      runtime::Session session = runtime::Session::load(run->artifact, {.threads = 1, .max_batch = 1});
      runtime::RandomInput image(session, 0, 1);
      std::vector<float> logits(static_cast<std::size_t>(session.classes()));
      contestants.push_back({&result, std::move(session), std::move(image), std::move(logits), {}});
    }
  }
  monitor.begin("timing", "rounds", kTimingRounds, 0, 1.0);
  for (int round = 0; round < kTimingRounds; ++round) {
    for (Contestant& contestant : contestants) {
      const auto began = std::chrono::steady_clock::now();
      for (int i = 0; i < kImagesInARound; ++i) {
        contestant.image.run(contestant.session, contestant.logits);
      }
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - began;
      contestant.per_image.of_round.push_back(spent.count() / kImagesInARound);
    }
    monitor.advance(round + 1);
  }
  monitor.end();
  for (const Contestant& contestant : contestants) {
    contestant.result->us_per_image = 1e6 * contestant.per_image.median();
  }
}

// In the order in which they are run.
std::vector<Planned> plan(const Sweep& sweep, const std::filesystem::path& folder) {
  std::size_t most_seeds = 0;
  for (const SweepRow& row : sweep.rows) {
    most_seeds = std::max(most_seeds, row.seeds.size());
  }
  std::vector<Planned> runs;
  for (std::size_t turn = 0; turn < most_seeds; ++turn) {
    for (std::size_t r = 0; r < sweep.rows.size(); ++r) {
      const SweepRow& row = sweep.rows[r];
      if (turn >= row.seeds.size()) {
        continue;
      }
      const std::uint64_t seed = row.seeds[turn];
      std::vector<std::string> overrides = row.overrides;
      overrides.push_back(str_cat("seed=", seed));
      Recipe recipe = load_recipe(row.recipe, overrides);
      require_convertible(recipe);
      // The table shows what is lost; a limit would only leave holes in it.
      recipe.max_accuracy_drop.reset();
      for (StageRecipe& stage : recipe.stages) {
        stage.max_accuracy_drop.reset();
      }
      recipe.canonical_text = canonical_text(recipe);
      std::vector<std::string> prefixes;
      for (std::size_t stages = 1; stages <= recipe.stages.size(); ++stages) {
        prefixes.push_back(training_prefix(recipe, stages));
      }
      const std::string name = run_name(row.name, seed);
      runs.push_back({r, name, folder / name, std::move(recipe), std::move(prefixes)});
    }
  }
  return runs;
}

void choose(const Sweep& sweep, const SweepOptions& options, std::vector<Planned>& runs) {
  std::vector<std::string> names;
  std::set<std::uint64_t> seeds;
  for (const SweepRow& row : sweep.rows) {
    names.push_back(row.name);
    seeds.insert(row.seeds.begin(), row.seeds.end());
  }
  for (const std::string& pattern : options.rows) {
    if (std::none_of(names.begin(), names.end(), [&](const std::string& name) { return glob_match(pattern, name); })) {
      throw Error(ErrorCategory::kNotFound, str_cat("there is no row '", pattern, "'"),
                  str_cat("sweep '", sweep.name, "'"), did_you_mean(pattern, names));
    }
  }
  for (const std::uint64_t seed : options.seeds) {
    if (seeds.count(seed) == 0) {
      throw Error(ErrorCategory::kNotFound, str_cat("no row has the seed ", seed), str_cat("sweep '", sweep.name, "'"),
                  "'seeds' in the file lists them");
    }
  }
  for (Planned& run : runs) {
    const bool row =
        options.rows.empty() || std::any_of(options.rows.begin(), options.rows.end(), [&](const std::string& pattern) {
          return glob_match(pattern, sweep.rows[run.row].name);
        });
    const bool seed = options.seeds.empty() ||
                      std::find(options.seeds.begin(), options.seeds.end(), run.recipe.seed) != options.seeds.end();
    run.chosen = row && seed;
  }
}

// What lies there of a run that is not to be run now.
std::optional<SweepRun> complete_run(const Planned& planned) {
  if (read_run_status(planned.folder) != RunStatus::kFinished || !planned.is_in_folder()) {
    return std::nullopt;
  }
  SweepRun run;
  run.seed = planned.recipe.seed;
  take_report(planned, run);
  return run;
}

// By row, the runs of a row in the order of its seeds; rows without any are left out.
std::vector<SweepResult> by_row(const Sweep& sweep, const std::vector<Planned>& runs,
                                const std::vector<std::optional<SweepRun>>& done) {
  std::vector<SweepResult> results;
  for (std::size_t row = 0; row < sweep.rows.size(); ++row) {
    SweepResult result{sweep.rows[row].name, {}, -1.0};
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (runs[i].row == row && done[i]) {
        result.runs.push_back(*done[i]);
      }
    }
    if (!result.runs.empty()) {
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace

Sweep load_sweep(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  const std::string file = path.string();
  const toml::table table = parse_toml(read_text_file(path, kMaxRecipeBytes), file);
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  TableReader top(table, "", file);
  Sweep sweep;
  sweep.name = top.text("name", path.stem().string());
  const std::optional<std::string> shared_recipe = top.text("recipe");
  const std::vector<std::uint64_t> shared_seeds = read_seeds(top, {0});
  const std::vector<std::string> shared_overrides = top.texts("set").value_or(std::vector<std::string>());
  std::set<std::string> folders;
  for (TableReader& reader : top.tables("row")) {
    SweepRow row;
    row.name = reader.required_text("name", "as in name = \"2:4, trained\"");
    if (folder_name(row.name).empty() || !folders.insert(folder_name(row.name)).second) {
      reader.fail("name", str_cat("'", row.name, "' gives no folder name of its own"),
                  "names must differ in letters and digits");
    }
    const std::optional<std::string> recipe = reader.text("recipe");
    if (!recipe && !shared_recipe) {
      reader.fail_here("the row has no recipe", "write recipe = \"fashion_mnist.toml\", here or at the top");
    }
    row.recipe = folder / (recipe ? *recipe : *shared_recipe);
    row.seeds = read_seeds(reader, shared_seeds);
    row.overrides = shared_overrides;
    const std::vector<std::string> own = reader.texts("set").value_or(std::vector<std::string>());
    row.overrides.insert(row.overrides.end(), own.begin(), own.end());
    row.overrides.insert(row.overrides.end(), overrides.begin(), overrides.end());
    reader.finish();
    sweep.rows.push_back(std::move(row));
  }
  if (sweep.rows.empty()) {
    top.fail_here("the sweep has no [[row]]", "write [[row]] name = \"…\" set = [\"stage.sparse.epochs=2\"]");
  }
  top.finish();
  static_cast<void>(plan(sweep, {}));
  return sweep;
}

std::vector<SweepResult> run_sweep(const Sweep& sweep, const SweepOptions& options, Monitor& monitor) {
  const std::filesystem::path& folder = options.folder;
  std::vector<Planned> runs = plan(sweep, folder);
  choose(sweep, options, runs);
  make_directories(folder);
  const auto write = [&](const std::vector<SweepResult>& results) {
    write_file_atomically(folder / "sweep.json", sweep_json(sweep.name, results));
    write_file_atomically(folder / "sweep.md", sweep_table(results));
    write_file_atomically(folder / "sweep.svg", sweep_svg(results));
  };
  std::vector<std::optional<SweepRun>> done(runs.size());
  std::vector<std::size_t> pending;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].chosen) {
      pending.push_back(i);
    } else {
      done[i] = complete_run(runs[i]);
    }
  }
  bool waiting = false;
  while (!pending.empty()) {
    std::vector<bool> worked_on;
    for (const Planned& run : runs) {
      worked_on.push_back(is_worked_on(run.folder));
    }
    const auto next = std::find_if(pending.begin(), pending.end(),
                                   [&](std::size_t i) { return !is_in_other_hands(i, runs, worked_on); });
    if (next == pending.end()) {
      if (!waiting) {
        monitor.note(str_cat("waiting for another process, which works on ", runs[pending.front()].name,
                             " or what it begins with"));
      }
      waiting = true;
      std::this_thread::sleep_for(kLookAgainAfter);
      continue;
    }
    waiting = false;
    const std::size_t i = *next;
    monitor.note(str_cat("run ", i + 1, " of ", runs.size(), ": ", runs[i].name));
    train::configure_process(static_cast<std::size_t>(runs[i].recipe.threads));
    done[i] = execute(runs[i], runs, options.overwrite, monitor);
    if (done[i]) {
      pending.erase(next);
      write(by_row(sweep, runs, done));
    }
  }
  std::vector<SweepResult> results = by_row(sweep, runs, done);
  time_artifacts(results, monitor);
  write(results);
  return results;
}

}  // namespace pare::pipeline
