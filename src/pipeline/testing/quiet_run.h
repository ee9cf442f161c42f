// Runs of recipes that print nothing. For tests only.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::testing {

inline pipeline::Monitor& quiet() {
  static pipeline::Monitor monitor({pipeline::MonitorStyle::kQuiet, 0.0, stdout, stderr});
  return monitor;
}

inline pipeline::RunRecord run(const pipeline::Recipe& recipe, const std::filesystem::path& folder,
                               pipeline::IfRunExists if_exists = pipeline::IfRunExists::kRefuse,
                               bool train_only = false) {
  pipeline::RunOptions options;
  options.folder = folder;
  options.if_exists = if_exists;
  options.train_only = train_only;
  return pipeline::run_recipe(recipe, options, quiet());
}

inline pipeline::RunRecord run(const TinyRun& tiny, const std::vector<std::string>& overrides = {},
                               pipeline::IfRunExists if_exists = pipeline::IfRunExists::kRefuse,
                               bool train_only = false) {
  return run(pipeline::load_recipe(tiny.recipe(), overrides), tiny.out(), if_exists, train_only);
}

// The oldest first.
inline std::vector<std::filesystem::path> checkpoints_of(const TinyRun& tiny) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(tiny.out() / "checkpoints")) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace pare::testing
