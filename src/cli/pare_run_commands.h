// The subcommands of pare-run. Each prints to standard output, throws pare::Error, and returns the exit code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/runtime/session.h"

namespace pare::cli {

// Exit codes of pare and pare-run.
inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitVerification = 4;

struct RunOptions {
  std::filesystem::path model;
  std::size_t threads = 0;
  bool json = false;
};

// The model of `run` for that many images at a time. Warnings of the session go to standard error.
[[nodiscard]] runtime::Session load_session(const RunOptions& run, std::int64_t max_batch);

struct InferOptions {
  std::filesystem::path images;
  std::filesystem::path labels;     // empty: unknown
  std::int64_t first = 0;           // 0: ten, or as many as there are
  std::vector<std::int64_t> index;  // instead of `first`
};
int run_infer(const RunOptions& run, const InferOptions& options);

struct EvalOptions {
  std::filesystem::path images;  // both, or `set`
  std::filesystem::path labels;
  std::string set;
  std::int64_t first = 0;  // 0: all
};
int run_eval(const RunOptions& run, const EvalOptions& options);

struct BenchOptions {
  std::int64_t batch = 64;
  std::int64_t rounds = 30;
  bool profile = false;
  std::filesystem::path html;  // empty: none
};
int run_bench(const RunOptions& run, const BenchOptions& options);

struct TuneOptions {
  std::int64_t batch = 64;
  std::int64_t rounds = 30;
  bool dry_run = false;  // nothing is written
};
int run_tune(const RunOptions& run, const TuneOptions& options);

struct InspectOptions {
  std::int64_t batch = 1;
};
int run_inspect(const RunOptions& run, const InspectOptions& options);
int run_verify(const RunOptions& run);

}  // namespace pare::cli
