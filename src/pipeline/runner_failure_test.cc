// What a run does with data, checkpoints and disks that are not as they should be.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/base/testing.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::checkpoints_of;
using ::pare::testing::error_of;
using ::pare::testing::get_file;
using ::pare::testing::put_file;
using ::pare::testing::run;
using ::pare::testing::TinyRun;

// A run in which nothing went wrong.
const TinyRun& finished() {
  static const TinyRun tiny;
  static const RunRecord record = run(tiny);
  return tiny;
}

TEST(RunnerFailure, BadDataIsRefusedBeforeTheFolderIsMade) {
  const auto refused = [](const std::string& file, const std::string& bytes, ErrorCategory category) {
    SCOPED_TRACE(file + " of " + std::to_string(bytes.size()) + " bytes");
    const TinyRun tiny;
    put_file(tiny / file, bytes);
    const auto error = error_of([&] { return run(tiny); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->category(), category) << error->what();
    EXPECT_NE(std::string(error->what()).find(file), std::string::npos) << error->what();
    EXPECT_FALSE(std::filesystem::exists(tiny.out()));
  };
  const std::string images = get_file(finished() / "train-images");
  const std::string labels = get_file(finished() / "train-labels");
  refused("train-images", "", ErrorCategory::kCorruptData);
  refused("train-images", images.substr(0, images.size() - 1), ErrorCategory::kCorruptData);
  refused("train-images", images + "x", ErrorCategory::kCorruptData);
  refused("train-images", "PK" + images.substr(2), ErrorCategory::kCorruptData);
  refused("train-labels", std::string("\x00\x00\x08\x01\x00\x00\x00\x01\x00", 9), ErrorCategory::kCorruptData);
  refused("train-images", std::string("\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16),
          ErrorCategory::kCorruptData);
  refused("train-images", std::string("\x00\x00\x08\x03\x00\x00\x01\x40\x00\x00\x00\x00\x00\x00\x00\x08", 16),
          ErrorCategory::kCorruptData);
  std::string bad_label = labels;
  bad_label.back() = 9;
  refused("train-labels", bad_label, ErrorCategory::kCorruptData);
}

TEST(RunnerFailure, ImagesThatDoNotFitTheRecipeAreRefused) {
  const TinyRun tiny;
  EXPECT_PARE_ERROR(run(tiny, {"data.batch=321"}), kInvalidArgument, "a batch of 321");
  EXPECT_PARE_ERROR(run(tiny, {"data.limit_test=102"}), kInvalidArgument,
                    "limit_test asks for 102 images; there are 101");
  EXPECT_PARE_ERROR(run(tiny, {"data.normalize={ mean = [0.1, 0.2, 0.3], std = [1, 1, 1] }"}), kInvalidArgument,
                    "3 channels; the images have 1");
}

TEST(RunnerFailure, AnotherDataSetCannotBeResumed) {
  const TinyRun tiny;
  run(tiny, {}, IfRunExists::kRefuse, /*train_only=*/true);
  testing::write_tiny_images((tiny / "x").parent_path(), "train", 320, 99);
  EXPECT_PARE_ERROR(run(tiny, {}, IfRunExists::kResume), kInvalidArgument, "other data");
}

TEST(RunnerFailure, DamagedCheckpointsArePassedOverOrRefused) {
  const TinyRun tiny;
  run(tiny, {}, IfRunExists::kRefuse, /*train_only=*/true);
  const std::vector<std::filesystem::path> files = checkpoints_of(tiny);
  ASSERT_EQ(files.size(), 2U);
  std::string newest = get_file(files[1]);
  newest[newest.size() / 2] = static_cast<char>(newest[newest.size() / 2] ^ 1);
  put_file(files[1], newest);
  // From the one before it, the run comes out the same.
  run(tiny, {}, IfRunExists::kResume);
  EXPECT_EQ(get_file(tiny.out() / "model.pare"), get_file(finished().out() / "model.pare"));

  for (const auto& entry : std::filesystem::directory_iterator(tiny.out() / "checkpoints")) {
    put_file(entry.path(), get_file(entry.path()).substr(0, 1000));
  }
  put_file(tiny.out() / "status", "running\n");
  EXPECT_PARE_ERROR(run(tiny, {}, IfRunExists::kResume), kCorruptData, "");
}

// While it lives no file may grow beyond `bytes`, as on a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    PARE_CHECK(getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    PARE_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST(RunnerFailure, AFullDiskIsAnIoErrorThatLeavesNoHalfFile) {
  const TinyRun tiny;
  run(tiny, {}, IfRunExists::kRefuse, /*train_only=*/true);
  const std::string report = get_file(tiny.out() / "report.json");
  const auto files = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(tiny.out())) {
      names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  const std::vector<std::string> before = files();
  {
    const FullDisk full(4096);
    EXPECT_PARE_ERROR(run(tiny, {}, IfRunExists::kResume), kIo, "");
  }
  EXPECT_EQ(files(), before);
  EXPECT_EQ(get_file(tiny.out() / "report.json"), report);
  // With room again it goes on as if nothing had been.
  run(tiny, {}, IfRunExists::kResume);
  EXPECT_EQ(get_file(tiny.out() / "model.pare"), get_file(finished().out() / "model.pare"));
}

TEST(RunnerFailure, AFullDiskInTheMidstOfTrainingKeepsTheCheckpointBefore) {
  const TinyRun tiny;
  {
    // Room for a stage's checkpoint of 400 kB, but not for one with an optimizer beside it.
    const FullDisk full(700 * 1000);
    EXPECT_PARE_ERROR(run(tiny, {"stage.sparse.epochs=2"}), kIo, "");
  }
  const RunRecord record = run(tiny, {"stage.sparse.epochs=2"}, IfRunExists::kResume);
  EXPECT_EQ(record.stages.size(), 3U);
  EXPECT_EQ(record.runtime.mismatches, 0);
}

TEST(RunnerFailure, AnOutputThatCannotBeWrittenIsAnIoError) {
  const TinyRun tiny;
  std::filesystem::create_directories(tiny.out());
  put_file(tiny.out() / "checkpoints", "a file where a folder belongs");
  EXPECT_PARE_ERROR(run(tiny), kIo, "checkpoints");
  EXPECT_FALSE(std::filesystem::exists(tiny.out() / "model.pare"));
}

}  // namespace
}  // namespace pare::pipeline
