// The folder of a run: who may write into it, and how far what lies there has come.
//
//   recipe.toml     the recipe as understood
//   status          "running", "stopped", "trained" or "finished"
//   lock            held (flock) while a process works here; nothing to clean up after a crash
//   checkpoints/    the last two, with everything that --resume needs
//   stages/NAME.ckpt  the model at the end of each stage
//   model.pare, report.json, report.html, events/
#pragma once

#include <filesystem>
#include <string>

#include "pare/pipeline/recipe.h"

namespace pare::pipeline {

enum class RunStatus {
  kNone,      // nothing there yet
  kRunning,   // begun; a process works on it or was killed
  kStopped,   // a stage lost more accuracy than it may
  kTrained,   // `pare train` has done all stages
  kFinished,  // artifact and reports are there
};

enum class IfRunExists {
  kRefuse,     // an error that says what to do
  kResume,     // go on where it stands
  kOverwrite,  // remove what a run makes there, then start anew
};

class RunFolder {
 public:
  // Makes the folder, takes its lock and looks at what is there. Throws kIo; kState if another process works in it, if
  // a run is there that `if_exists` does not cover, or if the folder holds files of another kind; kInvalidArgument,
  // with the lines that differ, if it is to be resumed with another recipe.
  RunFolder(std::filesystem::path folder, const Recipe& recipe, IfRunExists if_exists);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  // As found; kNone after kOverwrite.
  [[nodiscard]] RunStatus status() const { return status_; }
  void set_status(RunStatus status);

  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  [[nodiscard]] std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }
  [[nodiscard]] std::filesystem::path stage_checkpoint(const std::string& stage) const;
  [[nodiscard]] std::filesystem::path artifact() const { return folder_ / "model.pare"; }

 private:
  void lock();
  void clear();
  void check_recipe(const Recipe& recipe) const;

  std::filesystem::path folder_;
  RunStatus status_ = RunStatus::kNone;
  int lock_ = -1;
};

// Whether a process holds the folder's lock, this one included.
[[nodiscard]] bool is_worked_on(const std::filesystem::path& folder);

[[nodiscard]] std::string to_string(RunStatus status);
// kNone where there is no run. Throws kCorruptData for a status file that nobody wrote.
[[nodiscard]] RunStatus read_run_status(const std::filesystem::path& folder);

}  // namespace pare::pipeline
