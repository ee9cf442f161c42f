#include "pare/cli/pare_suggest.h"

#include <cstdio>
#include <filesystem>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/cli/pare_commands.h"
#include "pare/cli/set_option.h"
#include "pare/pipeline/recipe.h"
#include "pare/pipeline/suggest.h"
#include "pare/train/environment.h"

namespace pare::cli {
namespace {

constexpr std::size_t kMaxSensitivityBytes = std::size_t{16} << 20;

// `command`: gets the options of a measurement. Returns those that a measurement on file has settled.
std::vector<CLI::Option*> add_measure_options(CLI::App& command, MeasureArguments& arguments) {
  pipeline::SensitivityOptions& options = arguments.options;
  command.add_option("recipe", arguments.recipe, "TOML file (docs/recipe.md)")->required();
  add_set_option(command, arguments.set, "Change a key of the recipe");
  command
      .add_option("--checkpoint", options.checkpoint, "Trained: runs/NAME/stages/dense.ckpt; else [model] checkpoint")
      ->type_name("FILE");
  command.add_flag("--quiet", arguments.quiet, "Warnings and the tables only");
  command.add_option("--progress", arguments.progress, "auto, bar or plain")
      ->check(CLI::IsMember({"auto", "bar", "plain"}))
      ->capture_default_str();
  return {
      command.add_option("--images", options.images, "The last so many training images measure the loss")
          ->check(CLI::PositiveNumber)
          ->capture_default_str(),
      command.add_option("--calibration-images", options.calibration_images, "The first so many calibrate")
          ->check(CLI::PositiveNumber)
          ->capture_default_str(),
      command.add_option("--patterns", options.patterns, "N:M and V:N:M, with commas; dense is always there")
          ->delimiter(',')
          ->capture_default_str(),
      command.add_option("--sparsifier", options.sparsifier, "weight_norm, wanda or sparse_gpt")->capture_default_str(),
  };
}

pipeline::Recipe load(const MeasureArguments& arguments) {
  pipeline::Recipe recipe = pipeline::load_recipe(arguments.recipe, arguments.set);
  train::configure_process(static_cast<std::size_t>(recipe.threads));
  return recipe;
}

// Writes the files and says where.
pipeline::Sensitivity measure(pipeline::SensitivityProbe& probe, const std::filesystem::path& folder,
                              pipeline::Monitor& monitor) {
  pipeline::Sensitivity result = probe.measure(monitor);
  pipeline::write_sensitivity(folder, result);
  monitor.note("written: " + (folder / "sensitivity.html").string() + ", .json, .md");
  return result;
}

std::filesystem::path default_folder(const pipeline::Recipe& recipe) {
  return std::filesystem::path("runs") / (recipe.name + "-sensitivity");
}

pipeline::Budget budget_of(const SuggestArguments& arguments) {
  using pipeline::BudgetKind;
  std::vector<pipeline::Budget> given;
  const auto take = [&](const std::optional<double>& limit, BudgetKind kind) {
    if (limit) {
      given.push_back(
          {kind, *limit, arguments.minimize == "time" ? pipeline::Minimize::kTime : pipeline::Minimize::kBytes});
    }
  };
  take(arguments.max_accuracy_drop, BudgetKind::kAccuracyDrop);
  take(arguments.max_bytes, BudgetKind::kBytes);
  take(arguments.max_time_us, BudgetKind::kTimeUs);
  if (given.size() != 1) {
    throw Error(ErrorCategory::kUsage,
                given.empty() ? "there is no budget" : str_cat("there are ", given.size(), " budgets"), "pare suggest",
                "give one of --max-accuracy-drop POINTS, --max-bytes BYTES and --max-time-us MICROSECONDS");
  }
  return given.front();
}

// As the file was measured.
pipeline::SensitivityOptions options_of(const pipeline::Sensitivity& measured,
                                        const std::filesystem::path& checkpoint) {
  pipeline::SensitivityOptions options;
  options.checkpoint = checkpoint.empty() ? std::filesystem::path(measured.checkpoint) : checkpoint;
  options.images = measured.images;
  options.calibration_images = measured.calibration_images;
  options.patterns = measured.patterns;
  options.bits = measured.bits;
  options.sparsifier = measured.sparsifier;
  return options;
}

void check_out(const SuggestArguments& arguments) {
  const std::filesystem::path out = arguments.out;
  if (!file_exists(out)) {
    return;
  }
  std::error_code ignored;
  if (std::filesystem::equivalent(out, arguments.measure.recipe, ignored)) {
    throw Error(ErrorCategory::kUsage, "--out names the recipe itself", arguments.out, "give it another name");
  }
  if (!arguments.overwrite) {
    throw Error(ErrorCategory::kUsage, "the file is there already", arguments.out,
                "name another --out, or --overwrite");
  }
}

}  // namespace

CLI::App* add_sensitivity_command(CLI::App& app, SensitivityArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("sensitivity", "What each layer alone costs a trained network, by pattern and bits");
  add_measure_options(*command, arguments.measure);
  command->add_option("--bits", arguments.measure.options.bits, join(pipeline::bits_names(), ", ") + ", with commas")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--out", arguments.out, "Folder; runs/<name>-sensitivity if not given")->type_name("FOLDER");
  return command;
}

CLI::App* add_suggest_command(CLI::App& app, SuggestArguments& arguments) {
  CLI::App* command = app.add_subcommand("suggest", "A recipe with a pattern for each layer, under a budget");
  const std::vector<CLI::Option*> settled = add_measure_options(*command, arguments.measure);
  CLI::Option* file = command
                          ->add_option("--sensitivity", arguments.sensitivity,
                                       "sensitivity.json; measured first, into runs/<name>-sensitivity, if not given")
                          ->type_name("FILE");
  for (CLI::Option* option : settled) {
    file->excludes(option);
  }
  command->add_option("--max-accuracy-drop", arguments.max_accuracy_drop, "Budget: points, against the trained network")
      ->type_name("POINTS");
  command->add_option("--max-bytes", arguments.max_bytes, "Budget: bytes of all layers as stored")->type_name("BYTES");
  command->add_option("--max-time-us", arguments.max_time_us, "Budget: microseconds an image")->type_name("US");
  command->add_option("--minimize", arguments.minimize, "With --max-accuracy-drop: time or bytes")
      ->check(CLI::IsMember({"time", "bytes"}))
      ->capture_default_str();
  command->add_option("--target", arguments.target,
                      "Predict nominal times for a target of `pare check` instead of timing this machine");
  command->add_option("--out", arguments.out, "Recipe to write")->type_name("FILE")->capture_default_str();
  command->add_flag("--overwrite", arguments.overwrite, "Replace that file");
  command->add_flag("--verify", arguments.verify, "Measure the combination too, all layers at once, in one shot");
  std::string footer = "what a suggestion assumes:\n";
  for (const std::string& sentence : pipeline::assumptions()) {
    footer += "  * " + sentence + "\n";
  }
  command->footer(footer);
  return command;
}

int sensitivity(const SensitivityArguments& arguments) {
  const pipeline::Recipe recipe = load(arguments.measure);
  pipeline::Monitor monitor(monitor_options(arguments.measure.quiet, arguments.measure.progress));
  pipeline::SensitivityProbe probe(recipe, arguments.measure.options);
  const std::filesystem::path folder =
      arguments.out.empty() ? default_folder(recipe) : std::filesystem::path(arguments.out);
  std::fputs(pipeline::sensitivity_table(measure(probe, folder, monitor)).c_str(), stdout);
  return kExitDone;
}

int suggest(const SuggestArguments& arguments) {
  const pipeline::Budget budget = budget_of(arguments);
  check_out(arguments);
  const pipeline::Recipe recipe = load(arguments.measure);
  pipeline::Monitor monitor(monitor_options(arguments.measure.quiet, arguments.measure.progress));
  std::optional<pipeline::SensitivityProbe> probe;
  pipeline::Sensitivity measured;
  if (arguments.sensitivity.empty()) {
    pipeline::SensitivityOptions options = arguments.measure.options;
    options.bits = {pipeline::kInt8Bits};
    probe.emplace(recipe, options);
    measured = measure(*probe, default_folder(recipe), monitor);
  } else {
    measured = pipeline::sensitivity_from_json(read_text_file(arguments.sensitivity, kMaxSensitivityBytes),
                                               arguments.sensitivity);
  }
  const pipeline::TimeBasis time =
      arguments.target.empty()
          ? pipeline::measured_time_basis(recipe, arguments.out + ".dense" + std::string(kTemporarySuffix))
          : pipeline::nominal_time_basis(recipe, arguments.target);
  pipeline::Suggestion suggestion = pipeline::suggest(recipe, measured, budget, time);
  if (arguments.verify) {
    if (!probe) {
      probe.emplace(recipe, options_of(measured, arguments.measure.options.checkpoint));
    }
    suggestion.verified = pipeline::verify_suggestion(*probe, measured, suggestion);
  }
  pipeline::write_suggestion(arguments.out, recipe, measured, suggestion);
  std::fputs(pipeline::suggestion_table(suggestion).c_str(), stdout);
  std::printf("\nwritten: %s; train it with `pare run %s`\n", arguments.out.c_str(), arguments.out.c_str());
  return kExitDone;
}

}  // namespace pare::cli
