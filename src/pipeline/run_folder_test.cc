#include "pare/pipeline/run_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "pare/base/testing.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::error_of;
using ::pare::testing::get_file;
using ::pare::testing::put_file;
using ::pare::testing::TinyRun;

struct Folder {
  TinyRun run;
  Recipe recipe = load_recipe(run.recipe());

  // Opens and closes; what it throws is the test's business.
  RunStatus open(IfRunExists if_exists) const { return RunFolder(run.out(), recipe, if_exists).status(); }
  void leave(RunStatus status) const { RunFolder(run.out(), recipe, IfRunExists::kResume).set_status(status); }
};

TEST(RunFolder, ANewOneHoldsTheRecipe) {
  const Folder f;
  EXPECT_EQ(f.open(IfRunExists::kRefuse), RunStatus::kNone);
  EXPECT_EQ(get_file(f.run.out() / "recipe.toml"), f.recipe.canonical_text);
}

TEST(RunFolder, AnUnfinishedRunAsksForResumeOrOverwrite) {
  const Folder f;
  f.leave(RunStatus::kRunning);
  const auto error = error_of([&] { return f.open(IfRunExists::kRefuse); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->category(), ErrorCategory::kState);
  EXPECT_NE(error->problem().find("unfinished"), std::string::npos);
  EXPECT_NE(error->remedy().find("--resume"), std::string::npos);
  EXPECT_NE(error->remedy().find("--overwrite"), std::string::npos);
  EXPECT_EQ(f.open(IfRunExists::kResume), RunStatus::kRunning);
}

TEST(RunFolder, ACompleteRunSaysSoAndHowToOverwrite) {
  const Folder f;
  f.leave(RunStatus::kFinished);
  const auto error = error_of([&] { return f.open(IfRunExists::kRefuse); });
  ASSERT_TRUE(error);
  EXPECT_NE(error->problem().find("complete"), std::string::npos);
  EXPECT_NE(error->remedy().find("--overwrite"), std::string::npos);
}

TEST(RunFolder, OverwriteRemovesTheRunAndNothingElse) {
  const Folder f;
  f.leave(RunStatus::kFinished);
  std::filesystem::create_directories(f.run.out() / "checkpoints");
  put_file(f.run.out() / "checkpoints" / "step-000000001.ckpt", "x");
  put_file(f.run.out() / "model.pare", "x");
  put_file(f.run.out() / "notes.txt", "mine");
  EXPECT_EQ(f.open(IfRunExists::kOverwrite), RunStatus::kNone);
  EXPECT_FALSE(std::filesystem::exists(f.run.out() / "checkpoints"));
  EXPECT_FALSE(std::filesystem::exists(f.run.out() / "model.pare"));
  EXPECT_EQ(get_file(f.run.out() / "notes.txt"), "mine");
}

TEST(RunFolder, OverwriteLeavesAFolderAloneThatIsNoRun) {
  const Folder f;
  std::filesystem::create_directories(f.run.out());
  put_file(f.run.out() / "model.pare", "somebody's");
  EXPECT_PARE_ERROR(f.open(IfRunExists::kOverwrite), kState, "holds files, but no run");
  EXPECT_EQ(get_file(f.run.out() / "model.pare"), "somebody's");
}

TEST(RunFolder, ResumingAnotherRecipeShowsTheDifference) {
  Folder f;
  f.leave(RunStatus::kRunning);
  f.recipe = load_recipe(f.run.recipe(), {"stage.qat.epochs=2"});
  EXPECT_PARE_ERROR(f.open(IfRunExists::kResume), kInvalidArgument, "- stage.qat.epochs = 1, + stage.qat.epochs = 2");
  f.recipe = load_recipe(f.run.recipe(), {"accept.max_accuracy_drop=1"});
  EXPECT_EQ(f.open(IfRunExists::kResume), RunStatus::kRunning);
}

TEST(RunFolder, OneProcessAtATime) {
  const Folder f;
  const RunFolder held(f.run.out(), f.recipe, IfRunExists::kResume);
  EXPECT_PARE_ERROR(f.open(IfRunExists::kResume), kState, "another process works");
}

TEST(RunFolder, SaysWhetherAnybodyWorksInIt) {
  const Folder f;
  EXPECT_FALSE(is_worked_on(f.run.out()));
  {
    const RunFolder held(f.run.out(), f.recipe, IfRunExists::kResume);
    EXPECT_TRUE(is_worked_on(f.run.out()));
  }
  EXPECT_FALSE(is_worked_on(f.run.out()));
}

TEST(RunFolder, TheLockOfAKilledProcessIsFree) {
  const Folder f;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const RunFolder held(f.run.out(), f.recipe, IfRunExists::kResume);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(f.open(IfRunExists::kResume), RunStatus::kNone);
}

TEST(RunFolder, AStatusThatNobodyWroteIsCorrupt) {
  const Folder f;
  f.leave(RunStatus::kRunning);
  put_file(f.run.out() / "status", "runn");
  EXPECT_PARE_ERROR(f.open(IfRunExists::kResume), kCorruptData, "no status of a run");
}

TEST(RunFolder, AFileInTheWayIsAnIoError) {
  const Folder f;
  put_file(f.run.out(), "a file");
  EXPECT_PARE_ERROR(f.open(IfRunExists::kRefuse), kIo, "");
}

}  // namespace
}  // namespace pare::pipeline
