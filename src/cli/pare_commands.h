// The commands of `pare`: each takes what was parsed, calls the pipeline, prints, and returns the exit code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/pipeline/monitor.h"

namespace pare::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;         // the user's, a file's or the machine's
inline constexpr int kExitUsage = 2;         // the command line is wrong
inline constexpr int kExitAccuracy = 3;      // below the recipe's limit; files are kept
inline constexpr int kExitVerification = 4;  // an artifact breaks a promise, or differs from QAT; files are kept

[[nodiscard]] int exit_code_of(ErrorCategory category);

// `progress`: "auto", "bar" or "plain".
[[nodiscard]] pipeline::MonitorOptions monitor_options(bool quiet, const std::string& progress);

struct RunArguments {
  std::string recipe;
  std::vector<std::string> set;
  std::string out;  // "": runs/<name of the recipe>
  bool resume = false;
  bool overwrite = false;
  bool no_summary = false;
  bool dry_run = false;
  bool quiet = false;
  std::string progress = "auto";  // bar, plain
  int threads = -1;               // -1: as the recipe says
  double checkpoint_seconds = 30.0;
  int checkpoint_steps = 0;
};
int run(const RunArguments& arguments, bool train_only);

struct EvalArguments {
  std::string file;
  std::string data;
  std::string images;
  std::string labels;
  std::string recipe;
  std::vector<std::string> set;
  int threads = 0;
  bool quiet = false;
};
int eval(const EvalArguments& arguments);

struct ConvertArguments {
  std::string checkpoint;
  std::string out = "model.pare";
  std::vector<std::string> set;
  bool quiet = false;
};
int convert(const ConvertArguments& arguments);

int verify(const std::string& file);
int inspect(const std::string& file);

struct CheckArguments {
  std::string target;  // "": list them
  std::string file;
  std::string model;
};
int check(const CheckArguments& arguments);

struct SweepArguments {
  std::string file;
  std::vector<std::string> set;
  std::string out;  // "": runs/<name of the sweep>
  std::vector<std::string> rows;
  std::vector<std::uint64_t> seeds;
  bool overwrite = false;
  bool quiet = false;
};
int sweep(const SweepArguments& arguments);

int report(const std::string& folder);

}  // namespace pare::cli
