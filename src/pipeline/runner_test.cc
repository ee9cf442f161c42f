#include "pare/pipeline/runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/artifact.h"
#include "pare/pipeline/commands.h"
#include "pare/pipeline/convert_step.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"
#include "pare/pipeline/training.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::checkpoints_of;
using ::pare::testing::error_of;
using ::pare::testing::get_file;
using ::pare::testing::put_file;
using ::pare::testing::quiet;
using ::pare::testing::run;
using ::pare::testing::tiny_header;
using ::pare::testing::tiny_recipe;
using ::pare::testing::TinyRun;

// The run of tiny_recipe that several tests look at.
struct Shared {
  TinyRun tiny;
  RunRecord record = run(tiny);
};
const Shared& shared() {
  static const Shared result;
  return result;
}

TEST(Runner, GoesThroughAllStagesToAnArtifactThatAgreesWithQat) {
  const RunRecord& record = shared().record;
  ASSERT_EQ(record.stages.size(), 3U);
  EXPECT_EQ(record.stages[0].kind, "dense");
  EXPECT_EQ(record.stages[0].sparsity, 0.0);
  EXPECT_EQ(record.stages[1].kind, "sparse");
  EXPECT_GE(record.stages[1].sparsity, 0.49);  // conv1 stays dense
  EXPECT_EQ(record.stages[2].kind, "qat");
  EXPECT_GE(record.stages[2].sparsity, record.stages[1].sparsity);  // small weights round to 0 as well
  EXPECT_EQ(record.stages[1].first_step, record.stages[0].steps);
  EXPECT_EQ(record.runtime.samples, 101);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_DOUBLE_EQ(record.runtime.accuracy, record.stages[2].accuracy);
  // The images can be told apart; a network that learned nothing is right in a quarter of them.
  EXPECT_GT(record.runtime.accuracy, 60.0);
  EXPECT_TRUE(record.accepted);
}

TEST(Runner, ReportsEveryLayerAndTheReasonForADenseOne) {
  const RunRecord& record = shared().record;
  ASSERT_EQ(record.layers.size(), 4U);
  for (const LayerRecord& layer : record.layers) {
    SCOPED_TRACE(layer.name);
    EXPECT_FALSE(layer.kernel.empty());
    EXPECT_EQ(layer.weight_bits, 8);
    if (layer.name == "conv1") {
      EXPECT_EQ(layer.pattern, "dense");
      EXPECT_EQ(layer.note, "one input channel");
    } else {
      EXPECT_EQ(layer.pattern, "2:4");
      EXPECT_GE(layer.zeros, element_count(layer.shape) / 2);
    }
  }
  EXPECT_EQ(record.artifact.bytes,
            static_cast<std::int64_t>(std::filesystem::file_size(shared().tiny.out() / "model.pare")));
  EXPECT_EQ(record.class_names.size(), 4U);
  std::int64_t counted = 0;
  for (const auto& row : record.confusion) {
    for (const std::int64_t count : row) {
      counted += count;
    }
  }
  EXPECT_EQ(counted, 101);
}

TEST(Runner, WritesTheFilesThatItSays) {
  for (const char* file : {"model.pare", "report.json", "report.html", "recipe.toml", "stages/dense.ckpt",
                           "stages/sparse.ckpt", "stages/qat.ckpt"}) {
    EXPECT_TRUE(std::filesystem::is_regular_file(shared().tiny.out() / file)) << file;
  }
  EXPECT_EQ(get_file(shared().tiny.out() / "status"), "finished\n");
  EXPECT_FALSE(std::filesystem::is_empty(shared().tiny.out() / "events"));
  const RunRecord read = record_from_json(get_file(shared().tiny.out() / "report.json"));
  EXPECT_EQ(report_json(read), report_json(shared().record));
}

TEST(Runner, SeriesRunOverAllStagesByGlobalStep) {
  const RunRecord& record = shared().record;
  std::int64_t steps = 0;
  for (const StageRecord& stage : record.stages) {
    steps += stage.steps;
  }
  for (const char* name : {"loss", "lr", "accuracy", "sparsity"}) {
    SCOPED_TRACE(name);
    const std::vector<SeriesPoint>& points = record.series.at(name);
    ASSERT_FALSE(points.empty());
    EXPECT_EQ(points.back().step, steps);
    EXPECT_TRUE(std::is_sorted(points.begin(), points.end(),
                               [](const auto& a, const auto& b) { return a.step <= b.step && &a != &b; }));
  }
  EXPECT_EQ(record.series.at("accuracy").back().value, record.stages.back().accuracy);
}

TEST(Runner, TheArtifactKeepsItsPromises) {
  const graph::VerifyReport verified = graph::verify_artifact(shared().tiny.out() / "model.pare");
  EXPECT_TRUE(verified.ok()) << format_findings(verified);
  EXPECT_GT(verified.facts_checked, 10);
}

TEST(Runner, AnEditedModelShowsAsMismatches) {
  // The same comparison as in a run, with a model that is not the artifact's.
  TinyRun tiny;
  const Recipe recipe = load_recipe(shared().tiny.recipe());
  const RunData data = load_run_data(recipe);
  Training training(recipe, data.image, data.classes(), 10,
                    train::read_checkpoint(shared().tiny.out() / "stages" / "qat.ckpt"));
  RunRecord record;
  EXPECT_EQ(check_artifact(training, data, shared().tiny.out() / "model.pare", record), "");
  EXPECT_EQ(record.runtime.mismatches, 0);
  {
    const torch::NoGradGuard no_gradient;
    training.model().bias("conv2").add_(0.05);
  }
  const std::string problem = check_artifact(training, data, shared().tiny.out() / "model.pare", record);
  EXPECT_NE(problem.find("differ from QAT's"), std::string::npos) << problem;
  EXPECT_NE(problem.find("relu2.out"), std::string::npos) << problem;
  EXPECT_GT(record.runtime.mismatches, 0);
}

TEST(Runner, TrainingThenRunGivesTheArtifactOfOneRun) {
  const TinyRun tiny;
  const RunRecord trained = run(tiny, {}, IfRunExists::kRefuse, /*train_only=*/true);
  EXPECT_EQ(trained.artifact.bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(tiny.out() / "model.pare"));
  const RunRecord record = run(tiny, {}, IfRunExists::kResume);
  EXPECT_EQ(get_file(tiny.out() / "model.pare"), get_file(shared().tiny.out() / "model.pare"));
  EXPECT_EQ(record.runtime.mismatches, 0);
}

TEST(Runner, ConvertOfACheckpointGivesTheArtifactOfTheRun) {
  const TinyRun tiny;
  const RunRecord record =
      convert_checkpoint(shared().tiny.out() / "stages" / "qat.ckpt", tiny / "converted.pare", {}, quiet());
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_EQ(get_file(tiny / "converted.pare"), get_file(shared().tiny.out() / "model.pare"));
}

TEST(Runner, SquashingBeforeQatHasFinishedIsRefusedWithTheStage) {
  const TinyRun tiny;
  const auto error = error_of([&] {
    return convert_checkpoint(shared().tiny.out() / "stages" / "sparse.ckpt", tiny / "converted.pare", {}, quiet());
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->category(), ErrorCategory::kState);
  EXPECT_NE(std::string(error->what()).find("'qat'"), std::string::npos) << error->what();
  EXPECT_FALSE(std::filesystem::exists(tiny / "converted.pare"));
}

TEST(Runner, ACheckpointEvaluatesAsTheRunDid) {
  for (std::size_t i = 0; i < 3; ++i) {
    const StageRecord& stage = shared().record.stages[i];
    const CheckpointEvaluation result =
        evaluate_checkpoint(shared().tiny.out() / "stages" / (stage.name + ".ckpt"), {});
    EXPECT_EQ(result.evaluation.accuracy, stage.accuracy) << stage.name;
    EXPECT_EQ(result.exact, stage.kind == "qat");
  }
}

TEST(Runner, ACompleteRunIsOnlyJudgedAnew) {
  const TinyRun tiny;
  run(tiny);
  const auto before = std::filesystem::last_write_time(tiny.out() / "model.pare");
  EXPECT_EQ(run(tiny, {}, IfRunExists::kResume).runtime.samples, 101);
  EXPECT_EQ(std::filesystem::last_write_time(tiny.out() / "model.pare"), before);
  EXPECT_PARE_ERROR(run(tiny), kState, "complete");
}

// A mask that keeps nothing leaves no accuracy, whatever was learned before.
const char* const kRuin =
    "stage.sparse.sparsifier={ sparse_block_shape = [1, 1], zeros_per_block = 1, sparsity_level = 1.0 }";

TEST(Runner, AStageThatLosesTooMuchStopsTheRunAndKeepsTheLastGoodModel) {
  const TinyRun tiny;
  std::vector<std::string> overrides = {"stage.sparse.max_accuracy_drop=0", kRuin, "stage.dense.epochs=4"};
  const auto error = error_of([&] { return run(tiny, overrides); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->category(), ErrorCategory::kAccuracy) << error->what();
  EXPECT_NE(error->problem().find("stage 'sparse' lost"), std::string::npos) << error->what();
  EXPECT_NE(error->remedy().find("stages/dense.ckpt"), std::string::npos) << error->what();
  EXPECT_TRUE(std::filesystem::exists(tiny.out() / "stages" / "dense.ckpt"));
  EXPECT_FALSE(std::filesystem::exists(tiny.out() / "stages" / "qat.ckpt"));
  EXPECT_EQ(get_file(tiny.out() / "status"), "stopped\n");
  const RunRecord record = record_from_json(get_file(tiny.out() / "report.json"));
  EXPECT_EQ(record.stages.size(), 2U);
  EXPECT_FALSE(record.accepted);

  // The same limit stops it again; a higher one lets it go on from there.
  EXPECT_PARE_ERROR(run(tiny, overrides, IfRunExists::kResume), kAccuracy, "'sparse' lost");
  overrides[0] = "stage.sparse.max_accuracy_drop=100";
  overrides.emplace_back("accept.max_accuracy_drop=100");
  EXPECT_EQ(run(tiny, overrides, IfRunExists::kResume).stages.size(), 3U);
}

TEST(Runner, AnArtifactBelowTheLimitFailsAndKeepsItsFiles) {
  const TinyRun tiny;
  const std::vector<std::string> overrides = {"accept.max_accuracy_drop=0", "stage.dense.epochs=4", kRuin,
                                              "convert.sparsify=dense"};
  EXPECT_PARE_ERROR(run(tiny, overrides), kAccuracy, "below the dense stage");
  EXPECT_TRUE(std::filesystem::exists(tiny.out() / "model.pare"));
  EXPECT_TRUE(std::filesystem::exists(tiny.out() / "report.html"));
  EXPECT_FALSE(record_from_json(get_file(tiny.out() / "report.json")).accepted);
  EXPECT_EQ(get_file(tiny.out() / "status"), "finished\n");
  EXPECT_PARE_ERROR(run(tiny, overrides, IfRunExists::kResume), kAccuracy, "below the dense stage");
}

TEST(Runner, ALossThatIsNotFiniteNamesStageStepAndRemedy) {
  const TinyRun tiny;
  const auto error = error_of([&] {
    return run(tiny, {"stage.sparse.optimizer.lr=1e30", "stage.sparse.optimizer.weight_decay=0"});
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->category(), ErrorCategory::kNumeric) << error->what();
  EXPECT_EQ(error->where(), "stage 'sparse'");
  EXPECT_NE(error->problem().find("at step"), std::string::npos) << error->what();
  EXPECT_NE(error->problem().find("1e+30"), std::string::npos) << error->what();
  EXPECT_NE(error->remedy().find("--set stage.sparse.optimizer.lr="), std::string::npos) << error->what();
}

TEST(Runner, ReportsOfTheStagesSoFarAreThereDuringARun) {
  const TinyRun tiny;
  // The second stage breaks off in its first steps, so these are the files of the boundary before it.
  EXPECT_PARE_ERROR(run(tiny, {"stage.sparse.optimizer.lr=1e30", "stage.sparse.optimizer.weight_decay=0"}), kNumeric,
                    "");
  const RunRecord record = record_from_json(get_file(tiny.out() / "report.json"));
  ASSERT_EQ(record.stages.size(), 1U);
  EXPECT_EQ(record.stages[0].accuracy, record.series.at("accuracy").back().value);
  EXPECT_TRUE(record.accepted);
  EXPECT_NE(get_file(tiny.out() / "report.html").find(summary_line(record)), std::string::npos);
  const std::string step = std::to_string(record.stages[0].steps);
  EXPECT_TRUE(std::filesystem::exists(
      tiny.out() / "events" / str_cat("events.out.tfevents.", std::string(10 - step.size(), '0'), step, ".pare")));
}

TEST(Runner, ADenseStageAfterASparseOneLiftsTheMasks) {
  const TinyRun tiny(tiny_header() + R"(
[[stage]]
kind = "sparse"
optimizer = { lr = 2e-3 }
[[stage]]
kind = "dense"
optimizer = { lr = 2e-3 }
[[stage]]
kind = "qat"
)");
  const RunRecord record = run(tiny);
  EXPECT_GE(record.stages[0].sparsity, 0.49);
  EXPECT_EQ(record.stages[1].sparsity, 0.0);
  EXPECT_LT(record.stages[2].sparsity, 0.2);
  for (const LayerRecord& layer : record.layers) {
    EXPECT_EQ(layer.pattern, "dense") << layer.name;
  }
  EXPECT_TRUE(std::any_of(record.warnings.begin(), record.warnings.end(), [](const std::string& warning) {
    return warning.find("lifts the masks") != std::string::npos;
  }));
}

TEST(Runner, MasksMayMoveDuringQat) {
  const TinyRun tiny(tiny_header() + R"(
[[stage]]
kind = "dense"
[[stage]]
kind = "qat"
epochs = 2
optimizer = { lr = 1e-3 }
sparsifier = { pattern = "2:4" }
sparsity_schedule = { name = "linear", until_epoch = 1, update_every = 1 }
)");
  const RunRecord record = run(tiny);
  EXPECT_GE(record.stages[1].sparsity, 0.49);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_EQ(record.layers.back().pattern, "2:4");
}

TEST(Runner, MasksThatOutputsShareArePackedAsSuchUnlessTheRecipeAsksForAnother) {
  for (const auto& [sparsify, stored] : {std::pair{"auto", "16:2:4"}, {"2:4", "2:4"}, {"dense", "dense"}}) {
    const TinyRun tiny;
    const RunRecord record =
        run(tiny, {"stage.sparse.sparsifier.pattern=16:2:4", str_cat("convert.sparsify=", sparsify)});
    EXPECT_GE(record.stages[2].sparsity, 0.49) << sparsify;
    for (const std::size_t layer : {1U, 2U, 3U}) {
      EXPECT_EQ(record.layers.at(layer).pattern, stored) << sparsify << " " << record.layers[layer].name;
    }
    EXPECT_EQ(record.layers[0].pattern, "dense");
    EXPECT_EQ(record.runtime.mismatches, 0) << sparsify;
    EXPECT_TRUE(graph::verify_artifact(record.artifact.path).ok()) << sparsify;
  }
}

// Dense training, masks in one shot, QAT with them held.
std::string one_shot_recipe(const std::string& sparsifier) {
  return tiny_header() + R"([[stage]]
kind = "dense"
epochs = 2
optimizer = { lr = 2e-3 }
[[stage]]
kind = "one_shot"
sparsifier = )" +
         sparsifier +
         R"(
calibrate = { images = 70 }
layers = [ { tensor_fqn = "conv1.weight", pattern = "dense" } ]
[[stage]]
kind = "qat"
epochs = 1
optimizer = { lr = 1e-3 }
)";
}

TEST(Runner, PrunesInOneShotAndHoldsTheMasksInQat) {
  for (const char* name : {"weight_norm", "wanda", "sparse_gpt"}) {
    const TinyRun tiny(one_shot_recipe(str_cat("{ name = \"", name, "\", pattern = \"2:4\" }")));
    const RunRecord record = run(tiny);
    ASSERT_EQ(record.stages.size(), 3U) << name;
    const StageRecord& pruned = record.stages[1];
    EXPECT_EQ(pruned.kind, "one_shot");
    EXPECT_EQ(pruned.steps, 0);
    EXPECT_EQ(pruned.first_step, record.stages[2].first_step);
    EXPECT_GE(pruned.sparsity, 0.49) << name;
    EXPECT_GE(record.stages[2].sparsity, pruned.sparsity) << name;
    EXPECT_EQ(record.layers.at(1).pattern, "2:4") << name;
    EXPECT_EQ(record.layers.at(2).pattern, "2:4") << name;
    EXPECT_EQ(record.runtime.mismatches, 0) << name;
  }
}

TEST(Runner, QuantizesATrainedCheckpointWithoutTraining) {
  const TinyRun trained;
  const RunRecord first = run(trained);
  const std::string checkpoint = (trained.out() / "stages" / "dense.ckpt").string();
  const std::string header = tiny_header();
  const std::size_t at = header.find("[data]");
  for (const char* calibrate : {"images = 64", "images = 64, rounding = \"gptq\"",
                                "images = 64, rounding = \"gptq\", rescale = \"smooth_quant\""}) {
    SCOPED_TRACE(calibrate);
    const TinyRun tiny(header.substr(0, at) + "checkpoint = \"" + checkpoint + "\"\n" + header.substr(at) +
                       "[[stage]]\nkind = \"one_shot\"\nsparsifier = { name = \"sparse_gpt\", pattern = \"2:4\" }\n"
                       "[[stage]]\nkind = \"calibrate\"\ncalibrate = { " +
                       calibrate + " }\n");
    const RunRecord record = run(tiny);
    ASSERT_EQ(record.stages.size(), 2U);
    EXPECT_EQ(record.stages[1].kind, "calibrate");
    EXPECT_EQ(record.stages[1].steps, 0);
    EXPECT_EQ(record.runtime.mismatches, 0);
    EXPECT_EQ(record.layers.at(1).pattern, "2:4");
    // A network that learned nothing is right in a quarter of the images.
    EXPECT_GT(record.runtime.accuracy, 50.0);
    EXPECT_DOUBLE_EQ(record.runtime.accuracy, record.stages[1].accuracy);
  }
}

TEST(Runner, LearnedStepsGoOnInTheSameBitsAmidTheirStage) {
  const std::string text = tiny_header() + R"([[stage]]
kind = "dense"
[[stage]]
kind = "sparse"
[[stage]]
kind = "qat"
epochs = 2
quantize = { learned_steps = true }
)";
  const TinyRun whole(text);
  const RunRecord record = run(whole);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_EQ(record.layers.back().pattern, "2:4");
  const TinyRun parts(text);
  (void)run(parts, {}, IfRunExists::kRefuse, /*train_only=*/true);
  const std::vector<std::filesystem::path> files = checkpoints_of(parts);
  ASSERT_EQ(files.size(), 2U);
  put_file(files[1], "");  // from the one before it: at half of the stage
  (void)run(parts, {}, IfRunExists::kResume);
  EXPECT_EQ(get_file(parts.out() / "model.pare"), get_file(whole.out() / "model.pare"));
}

TEST(Runner, SparseActivationsEndWithTheirStageAndGoOnInTheSameBitsAmidIt) {
  const std::string text = tiny_header() + R"([[stage]]
kind = "sparse"
epochs = 2
sparse_activations = ["fc1.weight"]
)";
  const auto weights = [](const TinyRun& tiny) {
    return train::read_checkpoint(tiny.out() / "stages" / "sparse.ckpt").tensors.at("model.fc1.weight");
  };
  const TinyRun whole(text);
  (void)run(whole, {}, IfRunExists::kRefuse, /*train_only=*/true);
  const TinyRun parts(text);
  (void)run(parts, {}, IfRunExists::kRefuse, /*train_only=*/true);
  put_file(checkpoints_of(parts).at(1), "");  // from the one before it: at half of the stage
  (void)run(parts, {}, IfRunExists::kResume, /*train_only=*/true);
  EXPECT_TRUE(torch::equal(weights(parts), weights(whole)));
  const TinyRun dense(text);
  (void)run(dense, {"stage.sparse.sparse_activations=[]"}, IfRunExists::kRefuse, /*train_only=*/true);
  EXPECT_FALSE(torch::equal(weights(dense), weights(whole))) << "activations were sparse in training";
  // QAT, which refuses sparse activations, follows.
  const TinyRun on(text + "[[stage]]\nkind = \"qat\"\n");
  EXPECT_EQ(run(on).runtime.mismatches, 0);
}

TEST(Runner, ACheckpointWithMasksIsNoStart) {
  const TinyRun trained;
  (void)run(trained);
  const std::string key = "model.checkpoint=" + (trained.out() / "stages" / "sparse.ckpt").string();
  const TinyRun tiny;
  EXPECT_PARE_ERROR(run(tiny, {key}), kUnsupported, "masked");
}

TEST(Runner, CalibrationImagesThatAreAllTheSameAreRefused) {
  const TinyRun tiny(one_shot_recipe("{ name = \"wanda\" }"));
  std::string images = get_file(tiny / "train-images");
  constexpr std::size_t kHeader = 16;
  constexpr std::size_t kPixels = 64;
  for (std::size_t i = kHeader + kPixels; i < images.size(); ++i) {
    images[i] = images[i - kPixels];
  }
  put_file(tiny / "train-images", images);
  EXPECT_PARE_ERROR(run(tiny), kInvalidArgument, "70 training images are the same");
}

TEST(Runner, AStageLearnsFromTheModelOfAnEarlierOne) {
  const TinyRun plain;
  const TinyRun taught;
  const std::string key = "stage.qat.distill={ teacher = \"dense\", weight = 1.0, layers = [\"relu2\"] }";
  const RunRecord alone = run(plain);
  const RunRecord record = run(taught, {key});
  EXPECT_EQ(record.stages[1].loss, alone.stages[1].loss) << "the stage before is the same";
  EXPECT_NE(record.stages[2].loss, alone.stages[2].loss);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_GT(record.runtime.accuracy, 60.0);
}

// Trained first and converted by a run that resumes, the recipe of `whole` gives the same file.
void expect_the_same_in_parts(const std::string& text, const TinyRun& whole) {
  const TinyRun parts(text);
  (void)run(parts, {}, IfRunExists::kRefuse, /*train_only=*/true);
  (void)run(parts, {}, IfRunExists::kResume);
  EXPECT_EQ(get_file(parts.out() / "model.pare"), get_file(whole.out() / "model.pare"));
}

// Channels go, the rest is reordered and masked, and all of it survives checkpoints.
TEST(Runner, PrunedAndReorderedChannelsConvertAndResume) {
  const std::string text = tiny_header() + R"([[stage]]
kind = "dense"
epochs = 2
optimizer = { lr = 2e-3 }
[[stage]]
kind = "prune_channels"
sparsity_level = 0.5
width_multiple = 4
[[stage]]
kind = "sparse"
epochs = 1
sparsifier = { pattern = "16:2:4" }
permute_channels = true
distill = { teacher = "dense" }
[[stage]]
kind = "qat"
epochs = 1
)";
  const TinyRun whole(text);
  const RunRecord record = run(whole);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_EQ(record.layers.at(1).shape, (Shape{32, 16, 3, 3}));
  EXPECT_EQ(record.layers.at(1).pattern, "16:2:4");
  EXPECT_EQ(record.stages.at(1).kind, "prune_channels");
  expect_the_same_in_parts(text, whole);
}

// Channels by the Taylor criterion: other ones than by saliency, the same ones again after a resume.
TEST(Runner, ChannelsGoByTheirEffectOnTheLoss) {
  const std::string text = tiny_header() + R"([[stage]]
kind = "dense"
epochs = 2
[[stage]]
kind = "prune_channels"
criterion = "taylor"
calibrate = { images = 100 }
sparsity_level = 0.5
[[stage]]
kind = "qat"
epochs = 1
)";
  const TinyRun whole(text);
  const RunRecord record = run(whole);
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_EQ(record.layers.at(1).shape, (Shape{32, 16, 3, 3}));
  expect_the_same_in_parts(text, whole);
  const TinyRun fewer(text);
  (void)run(fewer, {"stage.prune_channels.calibrate.images=5"});
  EXPECT_NE(get_file(fewer.out() / "model.pare"), get_file(whole.out() / "model.pare")) << "other images, other choice";
}

TEST(Runner, AResidualNetworkKeepsItsMasksAndItsNumbers) {
  const TinyRun tiny;
  const RunRecord record = run(tiny, {"model.builtin=resnet20"});
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_DOUBLE_EQ(record.runtime.accuracy, record.stages[2].accuracy);
  EXPECT_EQ(record.layers.size(), 22U);
  EXPECT_EQ(std::count_if(record.layers.begin(), record.layers.end(),
                          [](const LayerRecord& layer) { return layer.pattern == "2:4"; }),
            21)
      << "all but the first convolution";
}

TEST(Runner, OtherPatternsStayDenseInTheArtifactAndSayWhy) {
  const TinyRun tiny;
  const RunRecord record =
      run(tiny, {"stage.sparse.sparsifier={ sparse_block_shape = [1, 1], zeros_per_block = 1, sparsity_level = 0.8 }"});
  const LayerRecord& fc1 = record.layers.at(2);
  EXPECT_EQ(fc1.pattern, "dense");
  EXPECT_NE(fc1.note.find("unstructured"), std::string::npos) << fc1.note;
  EXPECT_GE(fc1.zeros, element_count(fc1.shape) * 79 / 100);
  EXPECT_EQ(record.runtime.mismatches, 0);
}

TEST(Runner, AFractionOfAnEpochIsEnough) {
  const TinyRun tiny(tiny_recipe("0.5"));
  const RunRecord record = run(tiny, {"stage.dense.epochs=0.01", "stage.qat.quantize.freeze_observers_epoch=0.25"});
  EXPECT_EQ(record.stages[0].steps, 1);
  EXPECT_EQ(record.stages[1].steps, 5);
  EXPECT_EQ(record.stages[1].epochs, 0.5);
  EXPECT_EQ(record.runtime.mismatches, 0);
}

}  // namespace
}  // namespace pare::pipeline
