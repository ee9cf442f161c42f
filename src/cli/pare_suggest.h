// `pare sensitivity` and `pare suggest`: their options, and what they do with them.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/sensitivity.h"

namespace pare::cli {

// What both measure by.
struct MeasureArguments {
  std::string recipe;
  std::vector<std::string> set;
  pipeline::SensitivityOptions options;
  bool quiet = false;
  std::string progress = "auto";
};

struct SensitivityArguments {
  MeasureArguments measure;
  std::string out;  // "": runs/<name of the recipe>-sensitivity
};

struct SuggestArguments {
  MeasureArguments measure;
  std::string sensitivity;  // file; "": measure
  std::optional<double> max_accuracy_drop;
  std::optional<double> max_bytes;
  std::optional<double> max_time_us;
  std::string minimize = "time";
  std::string target;  // "": this machine, measured
  std::string out = "suggested.toml";
  bool overwrite = false;
  bool verify = false;
};

// Each returns the subcommand; what is parsed goes to `arguments`, which must outlive it.
CLI::App* add_sensitivity_command(CLI::App& app, SensitivityArguments& arguments);
CLI::App* add_suggest_command(CLI::App& app, SuggestArguments& arguments);

// Return the exit code.
int sensitivity(const SensitivityArguments& arguments);
int suggest(const SuggestArguments& arguments);

}  // namespace pare::cli
