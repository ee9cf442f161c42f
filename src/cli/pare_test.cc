// The program itself: exit codes, what it prints, and a run that is killed again and again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/format/safetensors.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::cli {
namespace {

using ::pare::testing::get_file;
using ::pare::testing::put_file;
using ::pare::testing::TempDir;
using ::pare::testing::tiny_header;
using ::pare::testing::tiny_recipe;
using ::pare::testing::TinyRun;
using Strings = std::vector<std::string>;

struct Result {
  int code = -1;  // -1: killed
  std::string out;
  std::string err;
};

pid_t start(const Strings& arguments, const std::filesystem::path& out, const std::filesystem::path& err) {
  std::vector<char*> argv;
  // The environment may name another build, as when one checks that these tests can fail.
  const char* other = std::getenv("PARE_PROGRAM");
  std::string program = other != nullptr ? other : PARE_PROGRAM;
  argv.push_back(program.data());
  Strings copy = arguments;
  for (std::string& argument : copy) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  const pid_t child = fork();
  PARE_CHECK(child >= 0);  // kill() takes -1 for every process there is
  if (child == 0) {
    dup2(open(out.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), 1);
    dup2(open(err.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  return child;
}

int wait_for(pid_t child) {
  int status = 0;
  PARE_CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Result pare(const Strings& arguments) {
  const TempDir folder;
  Result result;
  result.code = wait_for(start(arguments, folder / "out", folder / "err"));
  result.out = get_file(folder / "out");
  result.err = get_file(folder / "err");
  return result;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Pare, HelpAndVersionAreNoErrors) {
  const Result help = pare({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_TRUE(contains(help.out, "examples:")) << help.out;
  EXPECT_TRUE(contains(help.out, "exit codes:")) << help.out;
  const Result version = pare({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("pare ")) << version.out;
  for (const char* command :
       {"run", "train", "eval", "convert", "verify", "inspect", "check", "report", "sensitivity", "suggest"}) {
    EXPECT_EQ(pare({command, "--help"}).code, 0) << command;
  }
}

TEST(Pare, AWrongCommandLineIsTwo) {
  for (const Strings& arguments :
       {Strings{}, Strings{"rnu"}, Strings{"run"}, Strings{"run", "a.toml", "--resmue"},
        Strings{"run", "a.toml", "--threads", "x"}, Strings{"run", "a.toml", "--resume", "--overwrite"},
        Strings{"run", "a.toml", "--set"}, Strings{"check", "--target", "x86-avx2"},
        Strings{"eval", "a.pare", "--progress"}}) {
    const Result result = pare(arguments);
    EXPECT_EQ(result.code, 2) << (arguments.empty() ? "" : arguments[0]) << result.err;
    EXPECT_FALSE(result.err.empty());
  }
  EXPECT_TRUE(contains(pare({"rnu"}).err, "did you mean 'run'"));
  const TinyRun tiny;
  EXPECT_EQ(pare({"run", tiny.recipe(), "--set", "nonsense"}).code, 2);
}

TEST(Pare, AWrongFileIsOneWithItsPlace) {
  const TinyRun tiny(tiny_header() + "[[stage]]\nkind = \"dense\"\nepoch = 1\n");
  const Result result = pare({"run", tiny.recipe()});
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(result.err.starts_with("pare: error: " + tiny.recipe().string() + ":")) << result.err;
  EXPECT_TRUE(contains(result.err, "did you mean 'epochs'")) << result.err;
  EXPECT_EQ(pare({"run", "no/such.toml"}).code, 1);
  EXPECT_EQ(pare({"verify", "no/such.pare"}).code, 1);
  EXPECT_EQ(pare({"inspect", "no/such.pare"}).code, 1);
  EXPECT_EQ(pare({"report", tiny.out()}).code, 1);
  put_file(tiny / "empty.pare", "");
  put_file(tiny / "junk.pare", std::string(4096, '\xff'));
  for (const char* file : {"empty.pare", "junk.pare"}) {
    for (const char* command : {"inspect", "eval", "convert"}) {
      const Result bad = pare({command, tiny / file});
      EXPECT_EQ(bad.code, 1) << command << " " << file << bad.err;
      EXPECT_TRUE(contains(bad.err, file)) << bad.err;
    }
    EXPECT_EQ(pare({"verify", tiny / file}).code, 4) << file;
  }
}

TEST(Pare, ADryRunPrintsThePlanAndTouchesNothing) {
  const TinyRun tiny;
  const Result result =
      pare({"run", tiny.recipe(), "--out", tiny.out(), "--dry-run", "--set", "stage.sparse.layers=[]"});
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* part : {"convnet", "320 images", "dense", "sparse", "qat", "(10 steps)", "2:4", "conv1"}) {
    EXPECT_TRUE(contains(result.out, part)) << part << "\n" << result.out;
  }
  EXPECT_TRUE(contains(result.err, "'conv1.weight' stays dense")) << result.err;
  EXPECT_FALSE(std::filesystem::exists(tiny.out()));
}

TEST(Pare, ChecksTargets) {
  const TinyRun tiny;
  const Result list = pare({"check"});
  EXPECT_EQ(list.code, 0);
  EXPECT_TRUE(contains(list.out, "x86-avx512-vnni")) << list.out;
  const Result recipe = pare({"check", "--target", "x86-avx512-vnni", tiny.recipe()});
  EXPECT_EQ(recipe.code, 0) << recipe.err;
  EXPECT_TRUE(contains(recipe.out, "fc1")) << recipe.out;
  EXPECT_EQ(pare({"check", "--target", "x86-avx512-vnni", "--model", "mlp"}).code, 0);
  const Result unknown = pare({"check", "--target", "x86-avx5", "--model", "mlp"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_TRUE(contains(unknown.err, "did you mean")) << unknown.err;
}

TEST(Pare, RunsAndTheOtherCommandsTakeWhatItMade) {
  const TinyRun tiny;
  const std::string out = tiny.out();
  const Result run = pare({"run", tiny.recipe(), "--out", out});
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_FALSE(contains(run.out, "\033")) << "a pipe gets no control characters";
  for (const char* part :
       {"[1/3] dense", "[3/3] qat", "accuracy", "0 mismatches", "model.pare", "report.html", "report.json"}) {
    EXPECT_TRUE(contains(run.out, part)) << part << "\n" << run.out;
  }

  EXPECT_EQ(pare({"verify", out + "/model.pare"}).code, 0);
  EXPECT_TRUE(contains(pare({"inspect", out + "/model.pare"}).out, "QLinearConv"));
  EXPECT_TRUE(contains(pare({"inspect", out + "/stages/sparse.ckpt"}).out, "fc1.weight_mask"));
  EXPECT_EQ(pare({"inspect", tiny.recipe()}).code, 0);
  EXPECT_TRUE(contains(pare({"eval", out + "/model.pare", "--quiet"}).out, "101 images"));
  EXPECT_TRUE(contains(pare({"eval", out + "/stages/qat.ckpt"}).out, "exact integers"));
  EXPECT_EQ(pare({"eval", out + "/model.pare", "--data", "fashion-mnist"}).code, 1);  // 28 x 28 into 8 x 8
  EXPECT_EQ(pare({"convert", out + "/stages/qat.ckpt", "--out", tiny / "again.pare", "--quiet"}).code, 0);
  EXPECT_EQ(get_file(tiny / "again.pare"), get_file(out + "/model.pare"));
  const Result early = pare({"convert", out + "/stages/sparse.ckpt", "--out", tiny / "early.pare"});
  EXPECT_EQ(early.code, 1);
  EXPECT_TRUE(contains(early.err, "squash_mask before")) << early.err;
  const std::string report = get_file(out + "/report.json");
  std::filesystem::remove(out + "/report.html");
  EXPECT_EQ(pare({"report", out}).code, 0);
  EXPECT_EQ(get_file(out + "/report.json"), report);
  EXPECT_TRUE(std::filesystem::exists(out + "/report.html"));

  const Result again = pare({"run", tiny.recipe(), "--out", out});
  EXPECT_EQ(again.code, 1);
  EXPECT_TRUE(contains(again.err, "complete run") && contains(again.err, "--overwrite")) << again.err;
  const Result resumed = pare({"run", tiny.recipe(), "--out", out, "--resume"});
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_TRUE(contains(resumed.out, "is complete")) << resumed.out;
  const std::string last_line = "0 mismatches in 101 images: accepted";
  EXPECT_TRUE(contains(resumed.out, "ms/step") && contains(resumed.out, last_line)) << resumed.out;
  const Result silent = pare({"run", tiny.recipe(), "--out", out, "--resume", "--no-summary"});
  EXPECT_TRUE(contains(silent.out, "is complete") && !contains(silent.out, "ms/step")) << silent.out;
  EXPECT_FALSE(contains(silent.out, last_line)) << silent.out;
  const Result other = pare({"run", tiny.recipe(), "--out", out, "--resume", "--set", "seed=4"});
  EXPECT_EQ(other.code, 1);
  EXPECT_TRUE(contains(other.err, "- seed = 3, + seed = 4")) << other.err;
  const Result overwritten = pare({"run", tiny.recipe(), "--out", out, "--overwrite", "--quiet"});
  EXPECT_EQ(overwritten.code, 0) << overwritten.err;
  EXPECT_EQ(std::count(overwritten.out.begin(), overwritten.out.end(), '\n'), 1) << overwritten.out;

  // Any damage is a broken promise.
  std::string artifact = get_file(out + "/model.pare");
  artifact[artifact.size() / 2] = static_cast<char>(artifact[artifact.size() / 2] ^ 4);
  put_file(tiny / "damaged.pare", artifact);
  const Result damaged = pare({"verify", tiny / "damaged.pare"});
  EXPECT_EQ(damaged.code, 4);
  EXPECT_TRUE(contains(damaged.out, "checksum")) << damaged.out;
  EXPECT_EQ(pare({"eval", tiny / "damaged.pare", "--recipe", tiny.recipe()}).code, 1);
}

TEST(Pare, TwoSweepsOfOneFolderShareTheWork) {
  const TinyRun tiny;
  put_file(tiny / "sweep.toml",
           "recipe = \"tiny.toml\"\n[[row]]\nname = \"a\"\n"
           "[[row]]\nname = \"b\"\nset = [\"stage.qat.optimizer.lr=2e-3\"]\n"
           "[[row]]\nname = \"c\"\nset = [\"stage.sparse.sparsifier.pattern=1:4\"]\n");
  const auto sweep = [&](const std::string& name) {
    return start({"sweep", (tiny / "sweep.toml").string(), "--set", "threads=1", "--out", tiny.out().string()},
                 tiny / (name + ".out"), tiny / (name + ".err"));
  };
  const pid_t first = sweep("first");
  const pid_t second = sweep("second");
  EXPECT_EQ(wait_for(first), 0) << get_file(tiny / "first.err");
  EXPECT_EQ(wait_for(second), 0) << get_file(tiny / "second.err");
  std::vector<double> dense_seconds;
  for (const std::string row : {"a", "b", "c"}) {
    for (const std::string name : {"first", "second"}) {
      EXPECT_TRUE(contains(get_file(tiny / (name + ".out")), "| " + row + " |")) << name;
    }
    dense_seconds.push_back(
        pipeline::record_from_json(get_file(tiny.out() / row / "seed-0" / "report.json")).stages[0].seconds);
  }
  // A stage that was taken over keeps the time that it took where it was trained.
  EXPECT_EQ(dense_seconds[1], dense_seconds[0]);
  EXPECT_EQ(dense_seconds[2], dense_seconds[0]);
}

TEST(Pare, BelowTheLimitIsThreeAndKeepsTheFiles) {
  const TinyRun tiny;
  const std::string ruin =
      "stage.sparse.sparsifier={ sparse_block_shape = [1, 1], zeros_per_block = 1, sparsity_level = 1.0 }";
  const Result artifact = pare({"run", tiny.recipe(), "--out", tiny.out("a"), "--quiet", "--set", ruin, "--set",
                                "stage.dense.epochs=4", "--set", "accept.max_accuracy_drop=1"});
  EXPECT_EQ(artifact.code, 3) << artifact.err;
  EXPECT_TRUE(std::filesystem::exists(tiny.out("a") / "model.pare"));
  const Result stage = pare({"run", tiny.recipe(), "--out", tiny.out("b"), "--quiet", "--set", ruin, "--set",
                             "stage.dense.epochs=4", "--set", "stage.sparse.max_accuracy_drop=1"});
  EXPECT_EQ(stage.code, 3) << stage.err;
  EXPECT_TRUE(contains(stage.err, "stage 'sparse' lost")) << stage.err;
  EXPECT_TRUE(std::filesystem::exists(tiny.out("b") / "stages" / "dense.ckpt"));
}

// A dense stage, what it is sensitive to, a suggestion, and its dry run.
TEST(Pare, MeasuresSuggestsAndTheSuggestionRuns) {
  const TinyRun tiny;
  ASSERT_EQ(pare({"train", tiny.recipe(), "--out", tiny.out(), "--quiet"}).code, 0);
  const std::string dense = tiny.out() / "stages" / "dense.ckpt";
  const std::string folder = tiny.out("measured");
  const Strings measure = {"sensitivity", tiny.recipe(),          "--checkpoint", dense,   "--images",
                           "100",         "--calibration-images", "64",           "--out", folder};
  const Result measured = pare(measure);
  ASSERT_EQ(measured.code, 0) << measured.err;
  for (const char* part : {"| layer | pattern | float32 | int8 | int4/32 |", "| fc2.weight | 64:1:4 |",
                           "Not possible:", "* conv1.weight, 2:4, 64:2:4, 64:1:4: groups of 4", "sensitivity.html"}) {
    EXPECT_TRUE(contains(measured.out, part)) << part << "\n" << measured.out;
  }
  EXPECT_TRUE(contains(get_file(folder + "/sensitivity.html"), "</html>"));
  EXPECT_TRUE(contains(measured.out, get_file(folder + "/sensitivity.md")));

  const std::string file = folder + "/sensitivity.json";
  const std::string out = tiny / "suggested.toml";
  const auto suggest = [&](Strings more, const std::string& to) {
    Strings arguments = {"suggest", tiny.recipe(), "--sensitivity", file, "--out", to};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return pare(arguments);
  };
  const Result suggested = suggest({"--max-bytes", "60000", "--verify"}, out);
  ASSERT_EQ(suggested.code, 0) << suggested.err;
  for (const char* part : {"Chosen: the least loss within 60000 bytes", "<- chosen", "times of patterns are that times",
                           "Verified in one shot, all layers at once: loss "}) {
    EXPECT_TRUE(contains(suggested.out, part)) << part << "\n" << suggested.out;
  }
  EXPECT_TRUE(contains(get_file(out), "# Verified:     all layers at once: loss "));
  const Result planned = pare({"run", out, "--dry-run"});
  EXPECT_EQ(planned.code, 0) << planned.err;
  EXPECT_EQ(planned.err, "");
  // With less room for harm: a recipe of its own for each budget.
  for (const Strings& budget :
       {Strings{"--max-accuracy-drop", "20", "--minimize", "bytes"}, Strings{"--max-time-us", "1000"}}) {
    Strings arguments = budget;
    arguments.insert(arguments.end(), {"--target", "arm-dotprod"});
    const Result result = suggest(arguments, tiny / (budget[0].substr(2) + ".toml"));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(contains(result.out, "nominal, not measured: a core of arm-dotprod")) << result.out;
    EXPECT_EQ(pare({"run", tiny / (budget[0].substr(2) + ".toml"), "--dry-run"}).code, 0) << budget[0];
  }

  const Result both = suggest({"--max-bytes", "60000", "--max-time-us", "9"}, tiny / "both.toml");
  EXPECT_EQ(both.code, 2);
  EXPECT_TRUE(contains(both.err, "there are 2 budgets")) << both.err;
  const Result none = suggest({}, tiny / "none.toml");
  EXPECT_EQ(none.code, 2);
  EXPECT_TRUE(contains(none.err, "give one of --max-accuracy-drop")) << none.err;
  const Result tight = suggest({"--max-bytes", "1000"}, tiny / "tight.toml");
  EXPECT_EQ(tight.code, 1);
  EXPECT_TRUE(contains(tight.err, "the smallest that can be kept is ")) << tight.err;
  EXPECT_FALSE(std::filesystem::exists(tiny / "tight.toml"));
  const Result again = suggest({"--max-bytes", "60000"}, out);
  EXPECT_EQ(again.code, 2);
  EXPECT_TRUE(contains(again.err, "--overwrite")) << again.err;
  const Result itself = suggest({"--max-bytes", "60000", "--overwrite"}, tiny.recipe());
  EXPECT_EQ(itself.code, 2);
  EXPECT_TRUE(contains(itself.err, "names the recipe itself")) << itself.err;
  EXPECT_EQ(suggest({"--max-bytes", "60000", "--images", "10"}, tiny / "x.toml").code, 2) << "it was measured already";
  EXPECT_EQ(suggest({"--max-bytes", "60000", "--target", "x86-avx3"}, tiny / "x.toml").code, 1);
  put_file(tiny / "broken.json", "{");
  const Result broken = pare({"suggest", tiny.recipe(), "--sensitivity", tiny / "broken.json", "--max-bytes", "60000"});
  EXPECT_EQ(broken.code, 1);
  EXPECT_TRUE(contains(broken.err, "broken.json")) << broken.err;

  const auto with = [&](const Strings& more) {
    Strings arguments = measure;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return pare(arguments);
  };
  const Result pattern = with({"--patterns", "2:4,2:9:4"});
  EXPECT_EQ(pattern.code, 1);
  EXPECT_TRUE(contains(pattern.err, "'2:9:4' is not a pattern N:M or V:N:M")) << pattern.err;
  const Result bits = with({"--bits", "int8,int5"});
  EXPECT_EQ(bits.code, 1);
  EXPECT_TRUE(contains(bits.err, "did you mean 'int8'")) << bits.err;
  EXPECT_EQ(with({"--set", "model.builtin=mlp", "--set", "stage.sparse.layers=[]"}).code, 1) << "another network";
  EXPECT_EQ(pare({"sensitivity", tiny.recipe()}).code, 2) << "no checkpoint";
  EXPECT_EQ(pare({"sensitivity", tiny.recipe(), "--checkpoint", tiny / "no.ckpt"}).code, 1);
}

// Everything but times and paths.
std::string comparable_report(const std::filesystem::path& folder) {
  pipeline::RunRecord record = pipeline::record_from_json(get_file(folder / "report.json"));
  for (pipeline::StageRecord& stage : record.stages) {
    stage.seconds = 0.0;
    stage.ms_per_step = 0.0;
  }
  record.artifact.path.clear();
  return pipeline::report_json(record);
}

// Names and bytes of a checkpoint's tensors: weights, masks, observers, generator.
std::map<std::string, std::string> tensors_of(const std::filesystem::path& checkpoint) {
  const format::SafetensorsFile file(checkpoint);
  std::map<std::string, std::string> tensors;
  for (const format::TensorView& tensor : file.tensors()) {
    tensors[tensor.name] =
        std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()) + to_string(tensor.shape);
  }
  return tensors;
}

void expect_same_results(const std::filesystem::path& a, const std::filesystem::path& b) {
  EXPECT_EQ(get_file(a / "model.pare"), get_file(b / "model.pare"));
  EXPECT_EQ(comparable_report(a), comparable_report(b));
  for (const char* stage : {"dense", "sparse", "qat"}) {
    const std::string name = std::string("stages/") + stage + ".ckpt";
    EXPECT_TRUE(tensors_of(a / name) == tensors_of(b / name)) << name;
  }
}

std::string newest_checkpoint(const std::filesystem::path& folder) {
  std::string newest;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "checkpoints", ignored)) {
    if (entry.path().extension() == ".ckpt") {
      newest = std::max(newest, entry.path().filename().string());
    }
  }
  return newest;
}

// Kills the process once it has written a new checkpoint and `delay` has gone by. Returns the exit code, -1 if killed.
int kill_after_checkpoint(pid_t child, const std::filesystem::path& folder, const std::string& before,
                          std::chrono::microseconds delay) {
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (newest_checkpoint(folder) > before) {
      std::this_thread::sleep_for(delay);
      kill(child, SIGKILL);
      return wait_for(child);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Runs the recipe whole, and again with `kills` kills, each a while after a checkpoint of its own.
void expect_kills_change_nothing(const std::string& recipe, const std::string& checkpoint_steps, int kills,
                                 double longest_delay) {
  const TinyRun tiny(recipe);
  const auto arguments = [&](const std::string& out) {
    return Strings{"run",      tiny.recipe(), "--quiet",    "--checkpoint-every-steps", checkpoint_steps,
                   "--resume", "--out",       tiny.out(out)};
  };
  const auto began = std::chrono::steady_clock::now();
  const Result whole = pare(arguments("whole"));
  const std::chrono::duration<double> duration = std::chrono::steady_clock::now() - began;
  ASSERT_EQ(whole.code, 0) << whole.err;

  const auto seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  SCOPED_TRACE("seed " + std::to_string(seed));
  Rng rng(seed);
  int killed = 0;
  int code = -1;
  while (code == -1) {
    const pid_t child = start(arguments("killed"), tiny / "out.txt", tiny / "err.txt");
    if (killed < kills) {
      const auto delay = std::chrono::duration_cast<std::chrono::microseconds>(
          duration * (longest_delay * static_cast<double>(rng.uniform())));
      code = kill_after_checkpoint(child, tiny.out("killed"), newest_checkpoint(tiny.out("killed")), delay);
    } else {
      code = wait_for(child);
      ASSERT_NE(code, -1) << get_file(tiny / "err.txt");
    }
    killed += code == -1 ? 1 : 0;
  }
  ASSERT_EQ(code, 0) << get_file(tiny / "err.txt");
  EXPECT_GE(killed, 2);
  expect_same_results(tiny.out("killed"), tiny.out("whole"));
}

TEST(PareResume, KillsAtRandomMomentsChangeNoBit) { expect_kills_change_nothing(tiny_recipe("3"), "4", 7, 0.1); }

TEST(PareResume, KillsRightAfterACheckpointChangeNoBit) { expect_kills_change_nothing(tiny_recipe("1"), "3", 9, 0.0); }

TEST(PareResume, AKillBeforeTheFirstCheckpointStartsAnew) {
  const TinyRun tiny;
  const Strings arguments = {"run", tiny.recipe(), "--quiet", "--resume", "--out", tiny.out()};
  const pid_t child = start(arguments, tiny / "out.txt", tiny / "err.txt");
  while (!std::filesystem::exists(tiny.out() / "status")) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  kill(child, SIGKILL);
  ASSERT_EQ(wait_for(child), -1);
  const Result result = pare(arguments);
  EXPECT_EQ(result.code, 0) << result.err;
}

}  // namespace
}  // namespace pare::cli
