#include "pare/pipeline/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <system_error>
#include <thread>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxDifferences = 8;

// What a run makes; --overwrite removes these and nothing else.
const std::array<const char*, 8> kOwnEntries = {"recipe.toml", "status",      "checkpoints", "stages",
                                                "model.pare",  "report.json", "report.html", "events"};

bool holds_other_files(const std::filesystem::path& folder) {
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(folder, code)) {
    if (entry.path().filename() != "lock") {
      return true;
    }
  }
  return false;
}

// 0, or errno.
int try_lock(int file, int kind) { return ::flock(file, kind | LOCK_NB) == 0 ? 0 : errno; }

}  // namespace

std::string to_string(RunStatus status) {
  switch (status) {
    case RunStatus::kNone:
      return "none";
    case RunStatus::kRunning:
      return "running";
    case RunStatus::kStopped:
      return "stopped";
    case RunStatus::kTrained:
      return "trained";
    case RunStatus::kFinished:
      return "finished";
  }
  return "none";
}

RunStatus read_run_status(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "status";
  if (!file_exists(file)) {
    return RunStatus::kNone;
  }
  const std::string text = read_text_file(file, kMaxTextBytes);
  for (const RunStatus status : {RunStatus::kRunning, RunStatus::kStopped, RunStatus::kTrained, RunStatus::kFinished}) {
    if (text == to_string(status) + "\n") {
      return status;
    }
  }
  throw Error(ErrorCategory::kCorruptData, "this is no status of a run", file.string(),
              "--overwrite starts the run anew");
}

bool is_worked_on(const std::filesystem::path& folder) {
  const int file = ::open((folder / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return false;
  }
  const int reason = try_lock(file, LOCK_SH);
  ::close(file);
  return reason == EWOULDBLOCK;
}

RunFolder::RunFolder(std::filesystem::path folder, const Recipe& recipe, IfRunExists if_exists)
    : folder_(std::move(folder)) {
  make_directories(folder_);
  lock();
  try {
    if (if_exists == IfRunExists::kOverwrite) {
      if (holds_other_files(folder_) && !file_exists(folder_ / "status") && !file_exists(folder_ / "recipe.toml")) {
        throw Error(ErrorCategory::kState, "the folder holds files, but no run", folder_.string(),
                    "nothing was removed; name another folder with --out");
      }
      clear();
    }
    status_ = read_run_status(folder_);
    if (status_ == RunStatus::kNone) {
      write_file_atomically(folder_ / "recipe.toml", recipe.canonical_text);
    } else if (if_exists == IfRunExists::kRefuse) {
      const bool complete = status_ == RunStatus::kFinished;
      throw Error(ErrorCategory::kState,
                  complete ? std::string("a complete run is there already")
                           : str_cat("an unfinished run is there (", to_string(status_), ")"),
                  folder_.string(),
                  complete
                      ? "--overwrite removes it and starts anew, --out names another folder"
                      : "--resume continues it, --overwrite removes it and starts anew, --out names another folder");
    } else {
      check_recipe(recipe);
      // Limits may have changed; they do not touch what was trained.
      write_file_atomically(folder_ / "recipe.toml", recipe.canonical_text);
    }
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

RunFolder::~RunFolder() { ::close(lock_); }

void RunFolder::lock() {
  const std::filesystem::path file = folder_ / "lock";
  lock_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    throw Error(ErrorCategory::kIo, str_cat("cannot be opened for writing: ", std::strerror(errno)), file.string(),
                "name another folder with --out");
  }
  int reason = try_lock(lock_, LOCK_EX);
  // is_worked_on() of another process holds it for a moment.
  for (int again = 0; again < 3 && reason == EWOULDBLOCK; ++again) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    reason = try_lock(lock_, LOCK_EX);
  }
  if (reason != 0) {
    ::close(lock_);
    if (reason == EWOULDBLOCK) {
      throw Error(ErrorCategory::kState, "another process works in this run folder", folder_.string(),
                  "wait for it, or name another folder with --out");
    }
    throw Error(ErrorCategory::kIo, str_cat("cannot be locked: ", std::strerror(reason)), file.string());
  }
}

void RunFolder::clear() {
  for (const char* entry : kOwnEntries) {
    std::error_code code;
    std::filesystem::remove_all(folder_ / entry, code);
    if (code) {
      throw Error(ErrorCategory::kIo, str_cat("cannot be removed: ", code.message()), (folder_ / entry).string());
    }
  }
}

void RunFolder::check_recipe(const Recipe& recipe) const {
  const std::vector<std::string> differences =
      recipe_differences(read_text_file(folder_ / "recipe.toml", kMaxTextBytes), recipe.canonical_text);
  if (differences.empty()) {
    return;
  }
  const std::size_t shown = std::min(differences.size(), kMaxDifferences);
  std::string text = join(std::span(differences).first(shown), ", ");
  if (differences.size() > shown) {
    text += str_cat(" and ", differences.size() - shown, " more lines");
  }
  throw Error(ErrorCategory::kInvalidArgument,
              str_cat("this run was begun with another recipe (- then, + now): ", text), folder_.string(),
              "resume with the recipe and --set that it was begun with, or start anew with --overwrite");
}

std::filesystem::path RunFolder::stage_checkpoint(const std::string& stage) const {
  return folder_ / "stages" / (stage + ".ckpt");
}

void RunFolder::set_status(RunStatus status) {
  write_file_atomically(folder_ / "status", to_string(status) + "\n");
  status_ = status;
}

}  // namespace pare::pipeline
