#include "pare/pipeline/sweep.h"

#include <toml++/toml.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/graph/artifact.h"
#include "pare/pipeline/recipe_reader.h"
#include "pare/pipeline/recipe_text.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/runner.h"
#include "pare/runtime/measure.h"
#include "pare/runtime/session.h"
#include "pare/train/environment.h"

namespace pare::pipeline {
namespace {

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
  std::string name;
  std::filesystem::path folder;
  Recipe recipe;
};

// The run with the most stages done that this one begins with, and how many those are.
std::optional<ReusedStages> find_reusable(const Planned& wanted, const std::vector<Planned>& others,
                                          std::string& from) {
  for (std::size_t stages = wanted.recipe.stages.size(); stages > 0; --stages) {
    const std::string prefix = training_prefix(wanted.recipe, stages);
    for (const Planned& other : others) {
      if (other.folder == wanted.folder || other.recipe.stages.size() < stages) {
        continue;
      }
      const std::filesystem::path last = other.folder / "stages" / (other.recipe.stages[stages - 1].name + ".ckpt");
      if (file_exists(last) && training_prefix(other.recipe, stages) == prefix) {
        from = str_cat(other.name, ": ", stages, stages == 1 ? " stage" : " stages");
        return ReusedStages{other.folder, stages};
      }
    }
  }
  return std::nullopt;
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

SweepRun execute(const Planned& planned, const std::vector<Planned>& all, Monitor& monitor) {
  SweepRun run;
  run.seed = planned.recipe.seed;
  RunOptions options;
  options.folder = planned.folder;
  options.if_exists = IfRunExists::kResume;
  options.print_summary = false;
  options.reuse = find_reusable(planned, all, run.reused);
  try {
    take_record(run_recipe(planned.recipe, options, monitor), run);
  } catch (const Error& error) {
    if (error.category() == ErrorCategory::kIo) {
      throw;
    }
    run.problem = error.problem();
    monitor.warning(str_cat(planned.name, ": ", error.what()));
    if (file_exists(planned.folder / "report.json")) {
      take_record(record_from_json(read_text_file(planned.folder / "report.json")), run);
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

std::vector<Planned> plan(const Sweep& sweep, const std::filesystem::path& folder) {
  std::vector<Planned> runs;
  for (const SweepRow& row : sweep.rows) {
    for (const std::uint64_t seed : row.seeds) {
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
      const std::string name = run_name(row.name, seed);
      runs.push_back({name, folder / name, std::move(recipe)});
    }
  }
  return runs;
}

}  // namespace

Sweep load_sweep(const std::filesystem::path& path) {
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

std::vector<SweepResult> run_sweep(const Sweep& sweep, const std::filesystem::path& folder, Monitor& monitor) {
  make_directories(folder);
  const std::vector<Planned> runs = plan(sweep, folder);
  std::vector<SweepResult> results;
  const auto write = [&] {
    write_file_atomically(folder / "sweep.json", sweep_json(sweep.name, results));
    write_file_atomically(folder / "sweep.md", sweep_table(results));
    write_file_atomically(folder / "sweep.svg", sweep_svg(results));
  };
  std::size_t next = 0;
  for (const SweepRow& row : sweep.rows) {
    results.push_back({row.name, {}, -1.0});
    for (std::size_t i = 0; i < row.seeds.size(); ++i) {
      const Planned& planned = runs[next++];
      monitor.note(str_cat("run ", next, " of ", runs.size(), ": ", planned.name));
      train::configure_process(static_cast<std::size_t>(planned.recipe.threads));
      results.back().runs.push_back(execute(planned, runs, monitor));
      write();
    }
  }
  time_artifacts(results, monitor);
  write();
  return results;
}

}  // namespace pare::pipeline
