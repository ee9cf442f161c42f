// pare: trains, prunes, quantizes and converts by recipe.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/cli/pare_commands.h"
#include "pare/cli/pare_suggest.h"
#include "pare/cli/set_option.h"
#include "pare/pipeline/version.h"
#include "pare/train/environment.h"

namespace pare::cli {
namespace {

constexpr const char* kExamples = R"(examples:
  pare run recipes/quick.toml                      the whole flow in under a minute
  pare run recipes/fashion_mnist.toml --resume     go on where it stands, or start
  pare run recipes/quick.toml --set stage.qat.epochs=2 --out runs/longer
  pare run recipes/quick.toml --dry-run            what it would do
  pare eval runs/quick/model.pare                  on the recipe's test images
  pare verify runs/quick/model.pare
  pare check --target x86-avx512-vnni recipes/quick.toml
  pare sweep recipes/sweeps/fashion_mnist.toml     a table of recipes; stopped, it goes on where it stood
  pare sensitivity recipes/fashion_mnist.toml --checkpoint runs/fashion_mnist/stages/dense.ckpt
  pare suggest recipes/fashion_mnist.toml --sensitivity runs/fashion_mnist-sensitivity/sensitivity.json --max-bytes 400000

exit codes: 0 done, 1 user or file error, 2 wrong command line, 3 accuracy below the recipe's limit,
4 verification failed. With 3 and 4 all files are kept.)";

void add_run_options(CLI::App& command, RunArguments& arguments) {
  command.add_option("recipe", arguments.recipe, "TOML file (docs/recipe.md)")->required();
  add_set_option(command, arguments.set, "Change a key: data.batch=64, stage.qat.epochs=2, stage[1].epochs=2");
  command.add_option("--out", arguments.out, "Run folder; runs/<name> if not given")->type_name("FOLDER");
  auto* resume = command.add_flag("--resume", arguments.resume, "Go on with the run in the folder, if there is one");
  command.add_flag("--overwrite", arguments.overwrite, "Remove the run in the folder and start anew")->excludes(resume);
  command.add_flag("--dry-run", arguments.dry_run, "Check the recipe and print the plan");
  command.add_flag("--quiet", arguments.quiet, "Warnings and the last line only");
  command.add_flag("--no-summary", arguments.no_summary, "No closing table; `pare report FOLDER` prints it");
  command.add_option("--progress", arguments.progress, "auto, bar or plain")
      ->check(CLI::IsMember({"auto", "bar", "plain"}))
      ->capture_default_str();
  command.add_option("--threads", arguments.threads, "0: one per core")->check(CLI::Range(0, 1024));
  command.add_option("--checkpoint-every-seconds", arguments.checkpoint_seconds, "0: at the end of an epoch only")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--checkpoint-every-steps", arguments.checkpoint_steps, "0: by time only")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

int main_of_pare(int argc, char** argv) {
  CLI::App app("pare: sparse, low-bit, exact and fast neural networks for the CPU", "pare");
  app.set_version_flag("--version",
                       std::string("pare ") + pipeline::version() + ", LibTorch " + train::libtorch_version());
  app.require_subcommand(1);
  app.footer(kExamples);

  RunArguments run_arguments;
  RunArguments train_arguments;
  EvalArguments eval_arguments;
  ConvertArguments convert_arguments;
  CheckArguments check_arguments;
  std::string verify_file;
  std::string inspect_file;
  std::string report_folder;

  CLI::App* run_command = app.add_subcommand("run", "Train all stages, convert, verify, evaluate, report");
  add_run_options(*run_command, run_arguments);
  CLI::App* train_command = app.add_subcommand("train", "The stages only; `pare run --resume` converts afterwards");
  add_run_options(*train_command, train_arguments);

  CLI::App* eval_command = app.add_subcommand("eval", "Accuracy of an artifact (in the runtime) or of a checkpoint");
  eval_command->add_option("file", eval_arguments.file, "model.pare or a checkpoint")->required();
  eval_command->add_option("--data", eval_arguments.data, "A known set: fashion-mnist");
  eval_command->add_option("--images", eval_arguments.images, "IDX file");
  eval_command->add_option("--labels", eval_arguments.labels, "IDX file");
  eval_command->add_option("--recipe", eval_arguments.recipe, "Test images of this recipe");
  add_set_option(*eval_command, eval_arguments.set, "Change a key of a checkpoint's recipe");
  eval_command->add_option("--threads", eval_arguments.threads, "0: one per core")->check(CLI::Range(0, 1024));
  eval_command->add_flag("--quiet", eval_arguments.quiet, "The last line only");

  CLI::App* convert_command = app.add_subcommand("convert", "Artifact from the checkpoint of a finished training");
  convert_command->add_option("checkpoint", convert_arguments.checkpoint, "As in runs/quick/stages/qat.ckpt")
      ->required();
  convert_command->add_option("--out", convert_arguments.out, "Artifact to write")->capture_default_str();
  add_set_option(*convert_command, convert_arguments.set, "Change a key of the checkpoint's recipe");
  convert_command->add_flag("--quiet", convert_arguments.quiet, "The last line only");

  CLI::App* verify_command = app.add_subcommand("verify", "Re-derive every promise of an artifact from its bytes");
  verify_command->add_option("file", verify_file, "model.pare")->required();
  CLI::App* inspect_command = app.add_subcommand("inspect", "Describe an artifact, a checkpoint or a recipe");
  inspect_command->add_option("file", inspect_file, "File")->required();

  CLI::App* check_command = app.add_subcommand("check", "Is each layer supported, and fast, on a target?");
  check_command->add_option("--target", check_arguments.target, "Target; without it, lists them");
  check_command->add_option("file", check_arguments.file, "Recipe, artifact or checkpoint");
  check_command->add_option("--model", check_arguments.model, "Built-in model, as dense int8");

  CLI::App* report_command = app.add_subcommand("report", "Write report.json, report.html and events of a run anew");
  report_command->add_option("folder", report_folder, "As in runs/quick")->required();

  SweepArguments sweep_arguments;
  CLI::App* sweep_command =
      app.add_subcommand("sweep", "Run a table of recipes; stages that they have in common are trained once");
  sweep_command->add_option("file", sweep_arguments.file, "TOML file (docs/recipe.md)")->required();
  sweep_command->add_option("--out", sweep_arguments.out, "Folder; runs/<name> if not given")->type_name("FOLDER");
  add_set_option(*sweep_command, sweep_arguments.set, "Change a key in all rows: threads=1");
  sweep_command->add_option("--row", sweep_arguments.rows, "Run these rows only: a name or a glob, as often as needed")
      ->expected(1)
      ->take_all()
      ->type_name("GLOB");
  sweep_command->add_option("--seed", sweep_arguments.seeds, "Run these seeds only")->expected(1)->take_all();
  sweep_command->add_flag("--overwrite", sweep_arguments.overwrite,
                          "Run anew what lies there of another recipe, as after a change of the file");
  sweep_command->add_flag("--quiet", sweep_arguments.quiet, "Warnings and the table only");

  SensitivityArguments sensitivity_arguments;
  CLI::App* sensitivity_command = add_sensitivity_command(app, sensitivity_arguments);
  SuggestArguments suggest_arguments;
  CLI::App* suggest_command = add_suggest_command(app, suggest_arguments);

  if (argc < 2) {
    std::fputs(app.help().c_str(), stderr);
    return kExitUsage;
  }
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands.push_back(command->get_name());
  }
  const std::string first = argv[1];
  if (!first.starts_with('-') && std::find(commands.begin(), commands.end(), first) == commands.end()) {
    throw Error(ErrorCategory::kUsage, "there is no command '" + first + "'", {}, did_you_mean(first, commands));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCategory::kUsage, error.what(), {}, "see pare --help, or pare run --help");
  }
  if (run_command->parsed()) {
    return run(run_arguments, /*train_only=*/false);
  }
  if (train_command->parsed()) {
    return run(train_arguments, /*train_only=*/true);
  }
  if (eval_command->parsed()) {
    return eval(eval_arguments);
  }
  if (convert_command->parsed()) {
    return convert(convert_arguments);
  }
  if (verify_command->parsed()) {
    return verify(verify_file);
  }
  if (inspect_command->parsed()) {
    return inspect(inspect_file);
  }
  if (check_command->parsed()) {
    return check(check_arguments);
  }
  if (sweep_command->parsed()) {
    return sweep(sweep_arguments);
  }
  if (sensitivity_command->parsed()) {
    return sensitivity(sensitivity_arguments);
  }
  if (suggest_command->parsed()) {
    return suggest(suggest_arguments);
  }
  return report(report_folder);
}

}  // namespace
}  // namespace pare::cli

int main(int argc, char** argv) {
  try {
    pare::train::configure_process();
    return pare::cli::main_of_pare(argc, argv);
  } catch (const pare::Error& error) {
    std::fprintf(stderr, "pare: error: %s\n", error.what());
    return pare::cli::exit_code_of(error.category());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pare: error: %s\n", error.what());
    return pare::cli::kExitError;
  }
}
