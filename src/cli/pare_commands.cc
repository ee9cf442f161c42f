#include "pare/cli/pare_commands.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/graph/artifact.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/commands.h"
#include "pare/pipeline/convert_step.h"
#include "pare/pipeline/plan.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/sweep.h"
#include "pare/train/environment.h"

namespace pare::cli {
namespace {

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

}  // namespace

pipeline::MonitorOptions monitor_options(bool quiet, const std::string& progress) {
  pipeline::MonitorOptions options;
  options.style = quiet                 ? pipeline::MonitorStyle::kQuiet
                  : progress == "bar"   ? pipeline::MonitorStyle::kBar
                  : progress == "plain" ? pipeline::MonitorStyle::kPlain
                                        : pipeline::MonitorStyle::kAuto;
  return options;
}

int exit_code_of(ErrorCategory category) {
  switch (category) {
    case ErrorCategory::kUsage:
      return kExitUsage;
    case ErrorCategory::kAccuracy:
      return kExitAccuracy;
    case ErrorCategory::kVerification:
      return kExitVerification;
    default:
      return kExitError;
  }
}

int run(const RunArguments& arguments, bool train_only) {
  std::vector<std::string> overrides = arguments.set;
  if (arguments.threads >= 0) {
    overrides.push_back(str_cat("threads=", arguments.threads));
  }
  if (arguments.resume && arguments.overwrite) {
    throw Error(ErrorCategory::kUsage, "--resume and --overwrite exclude each other");
  }
  const pipeline::Recipe recipe = pipeline::load_recipe(arguments.recipe, overrides);
  train::configure_process(static_cast<std::size_t>(recipe.threads));
  pipeline::Monitor monitor(monitor_options(arguments.quiet, arguments.progress));
  if (arguments.dry_run) {
    if (!train_only) {
      pipeline::require_convertible(recipe);
    }
    print(pipeline::describe_run(recipe));
    for (const std::string& warning : pipeline::early_warnings(recipe)) {
      monitor.warning(warning);
    }
    return kExitDone;
  }
  pipeline::RunOptions options;
  options.folder =
      arguments.out.empty() ? std::filesystem::path("runs") / recipe.name : std::filesystem::path(arguments.out);
  options.if_exists = arguments.resume      ? pipeline::IfRunExists::kResume
                      : arguments.overwrite ? pipeline::IfRunExists::kOverwrite
                                            : pipeline::IfRunExists::kRefuse;
  options.train_only = train_only;
  options.print_summary = !arguments.no_summary;
  options.checkpoint_seconds = arguments.checkpoint_seconds;
  options.checkpoint_steps = arguments.checkpoint_steps;
  const pipeline::RunRecord record = pipeline::run_recipe(recipe, options, monitor);
  if (options.print_summary) {
    print(pipeline::summary_line(record) + "\n");
  }
  return kExitDone;
}

int eval(const EvalArguments& arguments) {
  pipeline::Monitor monitor(monitor_options(arguments.quiet, "auto"));
  if (arguments.images.empty() != arguments.labels.empty()) {
    throw Error(ErrorCategory::kUsage, "--images and --labels belong together");
  }
  const pipeline::FileKind kind = pipeline::kind_of_file(arguments.file);
  if (kind == pipeline::FileKind::kRecipe) {
    throw Error(ErrorCategory::kUsage, "a recipe has no weights to evaluate", arguments.file,
                "name an artifact or a checkpoint, or train it with `pare run`");
  }
  if (kind == pipeline::FileKind::kArtifact) {
    if (!arguments.set.empty()) {
      throw Error(ErrorCategory::kUsage, "--set goes with a checkpoint, which carries its recipe", arguments.file);
    }
    const auto result = pipeline::evaluate_artifact(
        arguments.file, {arguments.data, arguments.images, arguments.labels, arguments.recipe},
        static_cast<std::size_t>(arguments.threads), monitor);
    std::printf("accuracy %.2f %% of %lld images, in the runtime\n", result.accuracy,
                static_cast<long long>(result.samples));
    return kExitDone;
  }
  if (!arguments.data.empty() || !arguments.images.empty() || !arguments.recipe.empty()) {
    throw Error(ErrorCategory::kUsage, "a checkpoint is evaluated on the data of its own recipe", arguments.file,
                "change it with --set, as in --set data.limit_test=1000");
  }
  const auto result = pipeline::evaluate_checkpoint(arguments.file, arguments.set);
  std::printf("accuracy %.2f %%, loss %.4f, %lld images, %s\n", result.evaluation.accuracy, result.evaluation.loss,
              static_cast<long long>(result.evaluation.samples),
              result.exact ? "in exact integers (QAT)" : "in float32");
  return kExitDone;
}

int convert(const ConvertArguments& arguments) {
  pipeline::Monitor monitor(monitor_options(arguments.quiet, "auto"));
  const pipeline::RunRecord record =
      pipeline::convert_checkpoint(arguments.checkpoint, arguments.out, arguments.set, monitor);
  std::printf("%s: %s, accuracy %.2f %% of %lld images in the runtime, %lld mismatches with QAT\n",
              arguments.out.c_str(), pipeline::format_bytes(record.artifact.bytes).c_str(), record.runtime.accuracy,
              static_cast<long long>(record.runtime.samples), static_cast<long long>(record.runtime.mismatches));
  return kExitDone;
}

int verify(const std::string& file) {
  const graph::VerifyReport verified = graph::verify_artifact(file);
  if (!verified.ok()) {
    print(pipeline::format_findings(verified) + "\n");
    throw Error(ErrorCategory::kVerification, str_cat(verified.findings.size(), " broken promises"), file);
  }
  std::printf("%s: %lld facts re-derived, all promises are kept\n", file.c_str(),
              static_cast<long long>(verified.facts_checked));
  return kExitDone;
}

int inspect(const std::string& file) {
  switch (pipeline::kind_of_file(file)) {
    case pipeline::FileKind::kRecipe:
      print(pipeline::describe_run(pipeline::load_recipe(file)));
      break;
    case pipeline::FileKind::kArtifact:
      print(pipeline::describe_artifact(file));
      break;
    case pipeline::FileKind::kCheckpoint:
      print(pipeline::describe_checkpoint(file));
      break;
  }
  return kExitDone;
}

int check(const CheckArguments& arguments) {
  if (arguments.target.empty()) {
    for (const std::string& name : pipeline::target_names()) {
      print(name + "\n");
    }
    return kExitDone;
  }
  if (arguments.file.empty() == arguments.model.empty()) {
    throw Error(ErrorCategory::kUsage, "name what to check: a recipe, an artifact, or --model with a built-in",
                "pare check", "as in pare check --target x86-avx512-vnni recipes/quick.toml");
  }
  const auto layers = arguments.file.empty() ? pipeline::layer_plans_of_builtin(arguments.model)
                                             : pipeline::layer_plans_of_file(arguments.file);
  bool supported = true;
  std::vector<std::string> notes;  // each reason once, though many layers share it
  TextTable table({{"layer"}, {"op"}, {"pattern"}, {"weights"}, {"support"}, {"note"}});
  for (const pipeline::LayerVerdict& verdict : pipeline::check_target(arguments.target, layers)) {
    const std::string note = str_cat(verdict.reason, "\n      source: ", verdict.source);
    const auto known = std::find(notes.begin(), notes.end(), note);
    const std::string number = str_cat("[", known - notes.begin() + 1, "]");
    if (known == notes.end()) {
      notes.push_back(note);
    }
    table.add_row({verdict.layer.name, verdict.layer.op, verdict.layer.pattern,
                   str_cat(verdict.layer.weight_bits, " bits"), pipeline::to_string(verdict.support), number});
    supported = supported && verdict.support != pipeline::Support::kUnsupported;
  }
  print(table.text());
  for (std::size_t i = 0; i < notes.size(); ++i) {
    print(str_cat("  [", i + 1, "] ", notes[i], "\n"));
  }
  if (!supported) {
    throw Error(ErrorCategory::kUnsupported, str_cat("some layers are not supported on ", arguments.target));
  }
  return kExitDone;
}

int sweep(const SweepArguments& arguments) {
  const pipeline::Sweep plan = pipeline::load_sweep(arguments.file, arguments.set);
  const std::filesystem::path folder =
      arguments.out.empty() ? std::filesystem::path("runs") / plan.name : std::filesystem::path(arguments.out);
  pipeline::Monitor monitor(monitor_options(arguments.quiet, "auto"));
  const auto results =
      pipeline::run_sweep(plan, {folder, arguments.rows, arguments.seeds, arguments.overwrite}, monitor);
  print(pipeline::sweep_table(results));
  print(str_cat((folder / "sweep.md").string(), ", sweep.json, sweep.svg\n"));
  const bool complete = std::all_of(results.begin(), results.end(), [](const pipeline::SweepResult& result) {
    return std::all_of(result.runs.begin(), result.runs.end(),
                       [](const pipeline::SweepRun& run) { return run.accuracy >= 0.0 && run.mismatches == 0; });
  });
  return complete ? kExitDone : kExitError;
}

int report(const std::string& folder) {
  const pipeline::RunRecord record = pipeline::rewrite_reports(folder);
  print(pipeline::format_summary(record, folder));
  print(pipeline::summary_line(record) + "\n");
  return kExitDone;
}

}  // namespace pare::cli
