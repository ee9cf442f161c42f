#include "pare/pipeline/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/pipeline/recipe_overrides.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::error_of;
using ::pare::testing::tiny_header;
using ::pare::testing::tiny_recipe;
using ::pare::testing::TinyRun;

const char* const kDense = "[[stage]]\nkind = \"dense\"\n";
const char* const kPrune = "[[stage]]\nkind = \"prune_channels\"\n";
const char* const kCalibrate = "[[stage]]\nkind = \"calibrate\"\n";
const char* const kQat = "[[stage]]\nkind = \"qat\"\n";

// A recipe that is wrong, where the error has to point, and what it has to say.
struct Wrong {
  std::string name;
  std::string text;
  std::string place;  // text of the line that the error names
  std::string problem;
  std::string remedy;
  ErrorCategory category = ErrorCategory::kInvalidArgument;
};

// Number of the line that holds `text`, from 1.
std::int64_t line_of(const std::string& document, const std::string& text) {
  const std::size_t at = document.find(text);
  EXPECT_NE(at, std::string::npos) << text;
  return 1 + std::count(document.begin(), document.begin() + static_cast<std::ptrdiff_t>(at), '\n');
}

std::string with(std::string text, const std::string& old, const std::string& fresh) {
  const std::size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << old;
  return text.replace(at, old.size(), fresh);
}

// A dense stage, and one that prunes it.
std::string one_shot(const std::string& lines) {
  return tiny_header() + kDense + "[[stage]]\nkind = \"one_shot\"\n" + lines + "\n";
}

// A dense stage that teaches a sparse one.
std::string distilled(const std::string& keys) {
  return tiny_header() + kDense + "[[stage]]\nkind = \"sparse\"\ndistill = { teacher = \"dense\", " + keys + " }\n";
}

std::vector<Wrong> wrong_recipes() {
  const std::string good = tiny_recipe();
  const auto stage = [&](const std::string& lines) { return tiny_header() + kDense + lines + "\n"; };
  const auto sparse = [&](const std::string& lines) {
    return tiny_header() + "[[stage]]\nkind = \"sparse\"\n" + lines + "\n";
  };
  return {
      {"UnknownTopKey", "sead = 1\n" + with(good, "seed = 3\n", ""), "sead", "unknown key 'sead'",
       "did you mean 'seed'?"},
      {"UnknownStageKey", stage("epoch = 3"), "epoch = 3", "unknown key 'epoch' in stage[0]", "did you mean 'epochs'"},
      {"UnknownDataKey", with(good, "batch = 32", "batch_size = 32"), "batch_size", "unknown key 'batch_size' in data",
       "batch"},
      {"TopLevelEpochs", "epochs = 3\n" + good, "epochs = 3", "unknown key 'epochs'", "belongs to a [[stage]]"},
      {"TextForNumber", stage("epochs = \"three\""), "three",
       "'epochs' in stage[0] must be a number, not the text \"three\"", ""},
      {"NumberForText", with(good, "\"tiny\"", "7"), "name = 7", "'name' must be a text, not the number 7", ""},
      {"FloatForInteger", with(good, "batch = 32", "batch = 3.5"), "batch",
       "must be a whole number, not the number 3.5", ""},
      {"TableForBoolean", with(good, "flip = false", "flip = {}"), "flip", "must be true or false, not a table", ""},
      {"StageAsTable", tiny_header() + "[stage]\nkind = \"dense\"\n", "[stage]", "must be written [[stage]]", ""},
      {"NoStage", tiny_header(), "", "the recipe has no [[stage]]", "[[stage]]"},
      {"NoModel", with(good, "[model]\nbuiltin = \"convnet\"\n", ""), "", "there is no [model]", "convnet"},
      {"UnknownModel", with(good, "convnet", "convnett"), "convnett", "\"convnett\" is no value for 'builtin'",
       "did you mean 'convnet'"},
      {"NoData", "name = \"x\"\n[model]\nbuiltin = \"mlp\"\n" + std::string(kDense), "", "there is no [data]",
       "fashion-mnist"},
      {"UnknownSet", "[model]\nbuiltin = \"mlp\"\n[data]\nset = \"fashion-mnst\"\n" + std::string(kDense),
       "fashion-mnst", "is no value for 'set'", "fashion-mnist"},
      {"OnlyTrain", with(good, "test = { format = \"idx\", images = \"test-images\", labels = \"test-labels\" }\n", ""),
       "[data]", "there is no 'test'", "test"},
      {"MissingFile", with(good, "\"test-images\"", "\"tset-images\""), "tset-images", "there is no file",
       "recipe's folder", ErrorCategory::kNotFound},
      {"SetAndFiles", with(good, "batch = 32", "batch = 32\nset = \"fashion-mnist\""), "set = \"fashion",
       "exclude each other", "either"},
      {"OneClassName", with(good, "[\"top left\", \"top right\", \"bottom left\", \"bottom right\"]", "[\"a\"]"),
       "class_names", "at least two", ""},
      {"StdZero", with(good, "std = [0.2]", "std = [0.0]"), "std", "must be above 0, not 0", ""},
      {"MeanWithoutStd", with(good, ", std = [0.2]", ""), "normalize", "needs 'mean' and 'std'", "std"},
      {"MeanAndStdDiffer", with(good, "mean = [0.4]", "mean = [0.4, 0.5]"), "normalize",
       "'mean' has 2 numbers and 'std' has 1", ""},
      {"BatchZero", with(good, "batch = 32", "batch = 0"), "batch", "must be from 1 to 65536, not 0", ""},
      {"EpochsZero", stage("epochs = 0"), "epochs = 0", "must be above 0", ""},
      {"EpochsNan", stage("epochs = nan"), "epochs = nan", "must be above 0", ""},
      {"NegativeLr", stage("optimizer = { lr = -1.0 }"), "lr", "'lr' in stage[0].optimizer must be above 0, not -1",
       ""},
      {"UnknownOptimizer", stage("optimizer = { name = \"adamv\" }"), "adamv", "is no value for 'name'", "adam"},
      {"MomentumForAdam", stage("optimizer = { name = \"adam\", momentum = 0.9 }"), "momentum",
       "unknown key 'momentum'", "belongs to sgd"},
      {"OneBeta", stage("optimizer = { betas = [0.9] }"), "betas", "needs two numbers", "0.999"},
      {"BetaOne", stage("optimizer = { betas = [0.9, 1.0] }"), "betas", "must be", ""},
      {"StepWithoutMilestones", stage("schedule = { name = \"step\" }"), "schedule", "needs 'milestones'",
       "milestones"},
      {"MilestonesDescend", stage("epochs = 9\nschedule = { name = \"step\", milestones = [4, 2] }"), "milestones",
       "must ascend", ""},
      {"MilestoneAfterEnd", stage("schedule = { name = \"step\", milestones = [4] }"), "milestones",
       "must be above 0 and at most 1, not 4", ""},
      {"FinalFractionForStep", stage("schedule = { name = \"constant\", final_fraction = 0.1 }"), "final_fraction",
       "unknown key", "belongs to cosine"},
      {"UnknownKind", tiny_header() + "[[stage]]\nkind = \"qta\"\n", "qta", "\"qta\" is no value for 'kind'", "qat"},
      {"NoKind", tiny_header() + "[[stage]]\nepochs = 1\n", "[[stage]]", "there is no 'kind'", "dense"},
      {"BadStageName", stage("name = \"a/b\""), "a/b", "no good file name", "letters"},
      {"TwoStagesOneName", tiny_header() + kDense + "name = \"a\"\n" + kDense + "name = \"a\" # again\n", "# again",
       "two stages are called 'a'", "another name"},
      {"StageAfterQat", tiny_header() + kQat + kDense, "kind = \"dense\"", "comes after the qat stage", "last stage"},
      {"SparsifierInDense", stage("sparsifier = {}"), "sparsifier", "unknown key 'sparsifier'", "kind = \"sparse\""},
      {"QuantizeInDense", stage("quantize = {}"), "quantize", "unknown key 'quantize'", "kind = \"qat\""},
      {"UnknownPattern", sparse("sparsifier = { pattern = \"2-4\" }"), "2-4", "2-4", ""},
      {"PatternAndBlock", sparse("sparsifier = { pattern = \"2:4\", sparsity_level = 0.5 }"), "pattern",
       "exclude each other", "either"},
      {"LevelAboveOne", sparse("sparsifier = { sparsity_level = 1.7 }"), "sparsity_level",
       "must be from 0 to 1, not 1.7", ""},
      {"TooManyZeros", sparse("sparsifier = { sparse_block_shape = [1, 4], zeros_per_block = 5 }"), "zeros_per_block",
       "from 0 to 4, not 5", ""},
      {"SharedMaskPattern", sparse("sparsifier = { pattern = \"64:4:4\" }"), "64:4:4", "V:N:M", "64:2:4"},
      {"PartOfAColumn",
       sparse("sparsifier = { sparse_block_shape = [8, 4], zeros_per_block = 12, whole_columns = true }"), "sparsifier",
       "no whole number of columns", "multiple"},
      {"UnknownSparsifier", sparse("sparsifier = { name = \"wander\" }"), "wander", "is no value for 'name'", "wanda"},
      {"WandaWhileTraining", sparse("sparsifier = { name = \"wanda\" }"), "wanda", "not while weights train",
       "one_shot"},
      {"BlocksInAGlobalRanking", sparse("sparsifier = { name = \"global_magnitude\", pattern = \"2:4\" }"),
       "global_magnitude", "single weights", "weight_norm"},
      {"SparseGptOfBlocks", one_shot("sparsifier = { name = \"sparse_gpt\", sparse_block_shape = [4, 1] }"),
       "sparse_gpt", "makes no masks of the pattern block 4x1", "N:M"},
      {"EpochsOfAOneShotStage", one_shot("epochs = 2"), "epochs = 2", "unknown key 'epochs'", "without training"},
      {"NothingToPrune", tiny_header() + "[[stage]]\nkind = \"one_shot\"\n", "kind = \"one_shot\"",
       "nothing trained yet", "kind = \"dense\""},
      {"NothingToCalibrate", tiny_header() + kCalibrate, "kind = \"calibrate\"", "nothing trained yet", "checkpoint"},
      {"StageAfterCalibrate", tiny_header() + kDense + kCalibrate + kQat, "kind = \"qat\"", "comes after",
       "last stage"},
      {"OptimizerOfCalibrate", tiny_header() + kDense + kCalibrate + "optimizer = { lr = 1.0 }\n", "optimizer",
       "unknown key 'optimizer'", "without training"},
      {"LearnedStepsInCalibrate", tiny_header() + kDense + kCalibrate + "quantize = { learned_steps = true }\n",
       "learned_steps", "unknown key 'learned_steps'", "does not train"},
      {"ObserverOfLearnedSteps",
       tiny_header() + kDense + kQat + "quantize = { learned_steps = true, observer = \"minmax\" }\n", "observer",
       "first batch", "leave 'observer' out"},
      {"RoundingThatIsNone", tiny_header() + kDense + kCalibrate + "calibrate = { rounding = \"gptqq\" }\n", "rounding",
       "gptqq", "gptq"},
      {"RoundingWithoutQuantization", one_shot("calibrate = { rounding = \"gptq\" }"), "rounding",
       "unknown key 'rounding'", "only a stage of kind = \"calibrate\""},
      {"FreezeInCalibrate", tiny_header() + kDense + kCalibrate + "quantize = { freeze_observers_epoch = 1 }\n",
       "freeze_observers_epoch", "unknown key", "when it has seen its images"},
      {"MissingCheckpoint", with(good, "builtin = \"convnet\"", "builtin = \"convnet\"\ncheckpoint = \"no.ckpt\""),
       "no.ckpt", "there is no file", "recipe's folder", ErrorCategory::kNotFound},
      {"CalibrateWhileTraining", sparse("calibrate = { images = 8 }"), "calibrate", "unknown key 'calibrate'",
       "one_shot"},
      {"NoCalibrationImages", one_shot("calibrate = { images = 0 }"), "images = 0", "must be from 1", ""},
      {"PowerOfCubic", sparse("sparsity_schedule = { name = \"cubic\", power = 2 }"), "power", "unknown key 'power'",
       "polynomial"},
      {"ExponentialToAll", sparse("sparsity_schedule = { name = \"exponential\" }"), "exponential",
       "never reaches level 1", "cubic"},
      {"TeacherThatComesLater", stage("distill = { teacher = \"sparse\" }"), "distill", "no stage before this one",
       "trained first", ErrorCategory::kNotFound},
      {"NoTeacher", sparse("distill = { temperature = 2 }"), "distill", "there is no 'teacher'", "dense"},
      {"TaughtLayer", distilled("layers = [\"conv2\"]"), "distill", "no layer 'conv2'", "", ErrorCategory::kNotFound},
      {"LayersOfReorderedChannels", distilled("layers = [\"relu2\"]") + "permute_channels = true\n", "distill",
       "channels change between 'dense' and this stage", "logits"},
      {"PermuteInQat", tiny_header() + kQat + "permute_channels = true\n", "permute_channels", "unknown key",
       "where masks are chosen"},
      {"SparseActivationsOfQat", tiny_header() + kQat + "sparse_activations = [\"fc1.weight\"]\n", "sparse_activations",
       "unknown key", "in a dense or a sparse stage"},
      {"SparseActivationsOfAConvolution", sparse("sparse_activations = [\"conv1.weight\"]"), "sparse_activations",
       "no linear layer of the model", "fc1.weight", ErrorCategory::kNotFound},
      {"UnknownCriterion", tiny_header() + kDense + kPrune + "criterion = \"hessian\"\n", "hessian",
       "is no value for 'criterion'", "fpgm"},
      {"ImagesOfSaliency", tiny_header() + kDense + kPrune + "calibrate = { images = 8 }\n", "calibrate", "unknown key",
       "only criterion = \"taylor\" looks at images"},
      {"EpochsOfPruneChannels", tiny_header() + kDense + kPrune + "epochs = 1\n", "epochs = 1", "unknown key",
       "train in a stage after it"},
      {"PrunedLayer", tiny_header() + kDense + kPrune + "layers = [ { tensor_fqn = \"conv9.weight\" } ]\n", "conv9",
       "no weight of the model", "conv1.weight", ErrorCategory::kNotFound},
      {"ColdTeacher", distilled("temperature = 0"), "temperature", "must be above 0", ""},
      {"HalfBlock", sparse("sparsifier = { sparse_block_shape = [1, 2.5] }"), "sparse_block_shape", "whole numbers",
       ""},
      {"RampAfterEnd", sparse("sparsity_schedule = { name = \"cubic\", until_epoch = 2 }"), "until_epoch",
       "at most 1, not 2", ""},
      {"HoldBeforeRampEnds", sparse("sparsity_schedule = { name = \"cubic\", until_epoch = 0.5, hold_epoch = 0.25 }"),
       "hold_epoch", "before the end of the ramp", "until_epoch"},
      {"RampForConstant", sparse("sparsity_schedule = { name = \"constant\", from = 0.2 }"), "from",
       "unknown key 'from'", "linear or cubic"},
      {"UnknownTensor", sparse("layers = [ { tensor_fqn = \"conv3.weight\", pattern = \"dense\" } ]"), "conv3.weight",
       "no weight of the model is called 'conv3.weight'", "conv1.weight", ErrorCategory::kNotFound},
      {"LayerWithoutTensor", sparse("layers = [ { pattern = \"dense\" } ]"), "layers", "there is no 'tensor_fqn'",
       "tensor_fqn"},
      {"LayerDenseKey", sparse("layers = [ { tensor_fqn = \"fc1.weight\", dense = true } ]"), "dense = true",
       "unknown key 'dense'", "pattern = \"dense\""},
      {"UnknownObserver", tiny_header() + kQat + "quantize = { observer = \"histogran\" }\n", "histogran",
       "is no value for 'observer'", "histogram"},
      {"HistogramWhileTraining", tiny_header() + kQat + "quantize = { observer = \"histogram\" }\n", "histogram",
       "cannot follow weights that train", "calibrate"},
      {"OutsideOfMinMax", tiny_header() + kDense + kCalibrate + "quantize = { outside = 0.1 }\n", "outside",
       "unknown key 'outside'", "percentile"},
      {"Activation", tiny_header() + kQat + "quantize = { activation = \"uint4\" }\n", "uint4",
       "is no value for 'activation'", "uint8"},
      {"FreezeAfterEnd", tiny_header() + kQat + "quantize = { freeze_observers_epoch = 3 }\n", "freeze",
       "at most 1, not 3", ""},
      {"QatScheduleWithoutMasks", tiny_header() + kDense + kQat + "sparsity_schedule = { name = \"linear\" }\n",
       "sparsity_schedule", "finds no masks", "sparse stage"},
      {"LimitOnFirstStage", stage("max_accuracy_drop = 1"), "max_accuracy_drop", "no stage before it", "[accept]"},
      {"ConvertWithoutQat", tiny_header() + kDense + "[convert]\nsparsify = \"2:4\"\n", "[convert]",
       "there is no stage that quantizes", "kind = \"qat\""},
      {"ConvertWithoutSquash", tiny_header() + kQat + "[convert]\nsquash_mask = false\n", "squash_mask",
       "masks must be written into them first", "QAT has finished"},
      {"UnknownSparsify", tiny_header() + kQat + "[convert]\nsparsify = \"1:2\"\n", "1:2", "is no value for 'sparsify'",
       "2:4"},
      {"NegativeLimit", with(good, "max_accuracy_drop = 50", "max_accuracy_drop = -1"), "max_accuracy_drop",
       "from 0 to 100, not -1", ""},
      {"LimitWithoutDense", tiny_header() + kQat + "[accept]\nmax_accuracy_drop = 1\n", "max_accuracy_drop",
       "begins with no dense stage", "dense"},
      {"UnknownTarget", good + "[check]\ntarget = \"x86-avx3\"\n", "x86-avx3", "is no value for 'target'", "x86-avx2"},
      {"Device", "device = \"gpu\"\n" + good, "gpu", "\"gpu\" is no device", "cuda"},
      {"NegativeSeed", with(good, "seed = 3", "seed = -3"), "seed", "must be from 0", ""},
      {"TooManyThreads", with(good, "threads = 1", "threads = 4096"), "threads", "from 0 to 1024", ""},
      {"BadName", with(good, "\"tiny\"", "\"../tiny\""), "../tiny", "no good folder name", "letters"},
      {"Syntax", good + "[[stage\n", "[[stage\n", "this is not TOML", ""},
      {"TwiceTheKey", "seed = 1\n" + good, "seed = 3", "this is not TOML", ""},
  };
}

TEST(Recipe, SaysWhatIsWrongWhereAndWhatToDo) {
  const TinyRun run;
  for (const Wrong& wrong : wrong_recipes()) {
    SCOPED_TRACE(wrong.name);
    run.write_recipe(wrong.text);
    const auto error = error_of([&] { return load_recipe(run.recipe()); });
    if (!error) {
      ADD_FAILURE() << "nothing was thrown";
      continue;
    }
    EXPECT_EQ(error->category(), wrong.category) << error->what();
    EXPECT_NE(error->problem().find(wrong.problem), std::string::npos) << error->what();
    EXPECT_NE(error->remedy().find(wrong.remedy), std::string::npos) << error->what();
    if (!wrong.place.empty()) {
      const std::string place = str_cat(run.recipe().string(), ":", line_of(wrong.text, wrong.place), ":");
      EXPECT_TRUE(error->where().starts_with(place)) << error->where() << " instead of " << place;
    }
  }
}

TEST(Recipe, DefaultsAreThoseOfTheReference) {
  const TinyRun run(tiny_header() + "[[stage]]\nkind = \"sparse\"\n" + kQat);
  const Recipe recipe = load_recipe(run.recipe());
  ASSERT_EQ(recipe.stages.size(), 2U);
  const StageRecipe& sparse = recipe.stages[0];
  EXPECT_EQ(sparse.name, "sparse");
  EXPECT_EQ(sparse.epochs, 1.0);
  EXPECT_EQ(sparse.optimizer.kind, train::OptimizerKind::kAdamW);
  ASSERT_TRUE(sparse.sparsifier);
  EXPECT_EQ(sparse.sparsifier->pattern, "2:4");
  ASSERT_TRUE(sparse.sparsity_schedule);
  EXPECT_EQ(sparse.sparsity_schedule->update_every, 8);
  const StageRecipe& qat = recipe.stages[1];
  EXPECT_FALSE(qat.sparsifier);
  EXPECT_FALSE(qat.sparsity_schedule);
  EXPECT_TRUE(qat.quantize.fold_batch_norm);
  EXPECT_EQ(recipe.sparsify, "auto");
  EXPECT_TRUE(recipe.squash_mask);
  EXPECT_FALSE(recipe.max_accuracy_drop);
}

TEST(Recipe, NumbersRepeatedKinds) {
  const TinyRun run(tiny_header() + kDense + "[[stage]]\nkind = \"sparse\"\n" + kDense + kQat);
  std::vector<std::string> names;
  for (const StageRecipe& stage : load_recipe(run.recipe()).stages) {
    names.push_back(stage.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"dense", "sparse", "dense-2", "qat"}));
}

TEST(Recipe, CanonicalTextReadsBackToItself) {
  const TinyRun run(with(tiny_recipe("1.7"), "why = \"one input channel\"", "why = \"a \\\"quote\\\" \\\\ \\u0007\"") +
                    "[check]\ntarget = \"x86-avx2\"\n");
  const Recipe recipe = load_recipe(run.recipe());
  const Recipe again = parse_recipe(recipe.canonical_text, run / "again.toml");
  EXPECT_EQ(again.canonical_text, recipe.canonical_text);
  EXPECT_EQ(again.stages[1].layers[0].why, "a \"quote\" \\ \a");
  EXPECT_EQ(again.stages[0].optimizer.lr, 2e-3);
  EXPECT_EQ(again.data.normalize.std[0], 0.2F);
  EXPECT_EQ(again.data.train->images, recipe.data.train->images);
  EXPECT_TRUE(recipe.data.train->images.is_absolute());
}

TEST(Recipe, CanonicalTextCarriesEveryKey) {
  const TinyRun run(tiny_recipe("2"));
  const std::string base = load_recipe(run.recipe()).canonical_text;
  for (const char* text : {"name=other",
                           "seed=8",
                           "device=cuda:1",
                           "threads=2",

                           "data.train.images=test-images",
                           "data.train.labels=test-labels",
                           "data.test.images=train-images",
                           "data.test.labels=train-labels",
                           "data.class_names=[\"a\", \"b\"]",
                           "data.normalize.mean=[0.1]",
                           "data.normalize.std=[0.3]",
                           "data.augment.flip=true",
                           "data.batch=8",
                           "data.limit_train=100",
                           "data.limit_test=50",
                           "stage.dense.name=first",
                           "stage.dense.epochs=0.5",
                           "stage.dense.optimizer.name=adam",
                           "stage.dense.optimizer.lr=0.123456789012345",
                           "stage.dense.optimizer.weight_decay=0.2",
                           "stage.dense.optimizer.betas=[0.8, 0.999]",
                           "stage.dense.optimizer.betas=[0.9, 0.99]",
                           "stage.dense.optimizer.eps=1e-6",
                           "stage.sparse.optimizer.momentum=0.5",
                           "stage.sparse.optimizer.nesterov=true",
                           "stage.dense.schedule.name=constant",
                           "stage.dense.schedule.warmup_steps=5",
                           "stage.dense.schedule.final_fraction=0.1",
                           "stage.dense.schedule={ name = \"step\", milestones = [1] }",
                           "stage.dense.schedule={ name = \"step\", milestones = [1], gamma = 0.5 }",
                           "stage.sparse.max_accuracy_drop=3",
                           "stage.sparse.sparsifier.pattern=1:4",
                           "stage.sparse.sparsifier={ sparsity_level = 0.4 }",
                           "stage.sparse.sparsifier={ sparse_block_shape = [2, 2] }",
                           "stage.sparse.sparsifier={ zeros_per_block = 3 }",
                           "stage.sparse.sparsifier={ whole_columns = true }",
                           "stage.sparse.sparsifier={ name = \"global_magnitude\" }",
                           "stage.sparse.sparsifier.norm=1",
                           "stage.sparse.sparsifier.sr_ste_decay=1e-3",
                           "stage.sparse.sparsity_schedule.name=linear",
                           "stage.sparse.sparsity_schedule.name=polynomial",
                           "stage.sparse.sparsity_schedule={ name = \"polynomial\", power = 2 }",
                           "stage.sparse.sparsity_schedule.moves=epoch",
                           "stage.sparse.sparsity_schedule.from=0.1",
                           "stage.sparse.sparsity_schedule.until_epoch=0.75",
                           "stage.sparse.sparsity_schedule.hold_epoch=1.5",
                           "stage.sparse.sparsity_schedule.update_every=5",
                           "stage.sparse.layers[0].tensor_fqn=conv2.weight",
                           "stage.sparse.layers[0].pattern=2:4",
                           "stage.sparse.layers[0].pattern=8:2:4",
                           "stage.sparse.layers[0].why=no reason",
                           "stage.sparse.layers=[]",
                           "stage.sparse.layers[0]={ tensor_fqn = \"fc1.weight\", sparsity_level = 0.5 }",
                           "stage.sparse.layers[0]={ tensor_fqn = \"fc1.weight\", sparse_block_shape = [1, 2] }",
                           "stage.sparse.layers[0]={ tensor_fqn = \"fc1.weight\", zeros_per_block = 1 }",
                           "stage.sparse.layers[0]={ tensor_fqn = \"fc1.weight\", norm = 1 }",
                           "stage.qat.sparsity_schedule={ name = \"linear\" }",
                           "stage.qat.sparsifier={ pattern = \"2:4\" }",
                           "stage.qat.quantize.observer=minmax",
                           "stage.qat.quantize.averaging_constant=0.5",
                           "stage.qat.quantize.freeze_observers_epoch=1.5",
                           "stage.qat.quantize.fold_batch_norm=false",
                           "convert.sparsify=dense",
                           "accept.max_accuracy_drop=2",
                           "check.target=x86-avx2"}) {
    SCOPED_TRACE(text);
    const std::string changed = load_recipe(run.recipe(), {text}).canonical_text;
    EXPECT_NE(changed, base);
    EXPECT_EQ(parse_recipe(changed, run / "again.toml").canonical_text, changed);
  }
}

TEST(Recipe, CanonicalTextCarriesAOneShotStage) {
  const TinyRun run(one_shot("") + kQat);
  const std::string base = load_recipe(run.recipe()).canonical_text;
  for (const char* text : {"stage.one_shot.calibrate.images=77", "stage.one_shot.sparsifier.name=wanda",
                           "stage.one_shot.sparsifier={ name = \"sparse_gpt\", pattern = \"16:1:4\" }",
                           "stage.one_shot.layers=[ { tensor_fqn = \"fc2.weight\", pattern = \"dense\" } ]"}) {
    const std::string changed = load_recipe(run.recipe(), {text}).canonical_text;
    EXPECT_NE(changed, base) << text;
    EXPECT_EQ(parse_recipe(changed, run / "again.toml").canonical_text, changed) << text;
  }
}

TEST(Recipe, CanonicalTextCarriesPatternsOfLayers) {
  const TinyRun run(tiny_header() + R"([[stage]]
kind = "sparse"
sparsifier = { pattern = "2:4t" }
layers = [
  { tensor_fqn = "conv2.weight", pattern = "16:1:4" },
  { tensor_fqn = "fc1.weight", pattern = "2:4t", norm = 1 },
  { tensor_fqn = "fc2.weight", pattern = "3:16" },
]
)");
  const Recipe recipe = load_recipe(run.recipe());
  const Recipe again = parse_recipe(recipe.canonical_text, run / "again.toml");
  EXPECT_EQ(again.canonical_text, recipe.canonical_text);
  EXPECT_EQ(again.stages[0].sparsifier->config, sparsity::MaskConfig::from_pattern("2:4t"));
  const auto& layers = again.stages[0].layers;
  EXPECT_EQ(layers[0].rule, sparsity::BlockRule::kWholeColumns);
  EXPECT_EQ(layers[1].rule, sparsity::BlockRule::kTransposable);
  EXPECT_EQ(layers[1].norm, 1);
  EXPECT_EQ(layers[2].rule, sparsity::BlockRule::kElements);
  EXPECT_EQ(layers[2].zeros_per_block, 13);
}

TEST(Recipe, BlocksGoAsAWholeUnlessToldOtherwise) {
  const TinyRun run(tiny_header() + "[[stage]]\nkind = \"sparse\"\nsparsifier = { sparse_block_shape = [16, 16] }\n");
  EXPECT_EQ(load_recipe(run.recipe()).stages[0].sparsifier->config.zeros_per_block, 256);
}

TEST(Recipe, CanonicalTextCarriesWhatChannelsDo) {
  const TinyRun run(tiny_header() + kDense + kPrune + "[[stage]]\nkind = \"sparse\"\n");
  const std::string base = load_recipe(run.recipe()).canonical_text;
  for (const char* text :
       {"stage.prune_channels.criterion=fpgm", "stage.prune_channels.criterion=taylor",
        "stage.prune_channels.sparsity_level=0.3", "stage.prune_channels.width_multiple=16",
        "stage.prune_channels.norm=2",
        "stage.prune_channels.layers=[ { tensor_fqn = \"conv1.weight\", sparsity_level = 0.25 } ]",
        "stage.sparse.permute_channels=true", "stage.sparse.sparse_activations=[\"fc*\", \"fc2.weight\"]"}) {
    const std::string changed = load_recipe(run.recipe(), {text}).canonical_text;
    EXPECT_NE(changed, base) << text;
    EXPECT_EQ(parse_recipe(changed, run / "again.toml").canonical_text, changed) << text;
  }
  const std::string taylor = "stage.prune_channels.criterion=taylor";
  EXPECT_NE(load_recipe(run.recipe(), {taylor, "stage.prune_channels.calibrate.images=9"}).canonical_text,
            load_recipe(run.recipe(), {taylor}).canonical_text);
}

TEST(Recipe, CanonicalTextCarriesACalibrateStage) {
  const TinyRun run(tiny_header() + kDense + kCalibrate);
  const Recipe recipe = load_recipe(run.recipe());
  EXPECT_EQ(recipe.stages[1].quantize.observer.kind, quant::ObserverKind::kMinMax);
  EXPECT_NO_THROW(require_convertible(recipe));
  for (const char* text :
       {"stage.calibrate.calibrate.images=77", "stage.calibrate.calibrate.bias_correction=false",
        "stage.calibrate.calibrate.rounding=gptq", "stage.calibrate.calibrate.rescale=smooth_quant",
        "stage.calibrate.calibrate.rescale=cross_layer", "stage.calibrate.quantize.observer=moving_average_minmax",
        "stage.calibrate.quantize={ observer = \"percentile\", outside = 0.01 }",
        "stage.calibrate.quantize.observer=histogram", "stage.calibrate.quantize.observer=mse",
        "convert.sparsify=dense"}) {
    const std::string changed = load_recipe(run.recipe(), {text}).canonical_text;
    EXPECT_NE(changed, recipe.canonical_text) << text;
    EXPECT_EQ(parse_recipe(changed, run / "again.toml").canonical_text, changed) << text;
  }
}

TEST(Recipe, CanonicalTextCarriesLearnedSteps) {
  const TinyRun run(tiny_header() + kDense + kQat);
  const std::string base = load_recipe(run.recipe()).canonical_text;
  const Recipe recipe = load_recipe(run.recipe(), {"stage.qat.quantize.learned_steps=true"});
  EXPECT_TRUE(recipe.stages[1].quantize.learned_steps);
  EXPECT_NE(recipe.canonical_text, base);
  EXPECT_EQ(parse_recipe(recipe.canonical_text, run / "again.toml").canonical_text, recipe.canonical_text);
}

TEST(Recipe, CanonicalTextCarriesDistillation) {
  const TinyRun run(distilled("temperature = 2"));
  const std::string base = load_recipe(run.recipe()).canonical_text;
  for (const char* text :
       {"stage.sparse.distill.temperature=3", "stage.sparse.distill.weight=0.9",
        "stage.sparse.distill.layers=[\"relu2\", \"fc1\"]", "stage.sparse.distill.layers_weight=2"}) {
    const std::string changed = load_recipe(run.recipe(), {text}).canonical_text;
    EXPECT_NE(changed, base) << text;
    EXPECT_EQ(parse_recipe(changed, run / "again.toml").canonical_text, changed) << text;
  }
}

TEST(Recipe, CanonicalTextCarriesTheModel) {
  const TinyRun run(tiny_header() + kDense);
  const std::string changed = load_recipe(run.recipe(), {"model.builtin=mlp"}).canonical_text;
  EXPECT_EQ(parse_recipe(changed, run / "again.toml").model, "mlp");
}

TEST(Recipe, CanonicalTextOfShippedRecipesReadsBackToItself) {
  for (const char* name : {"fashion_mnist", "quick", "mlp", "one_shot"}) {
    const Recipe recipe =
        load_recipe(std::filesystem::path(PARE_SOURCE_DIR) / "recipes" / (std::string(name) + ".toml"));
    EXPECT_EQ(recipe.name, name);
    EXPECT_EQ(parse_recipe(recipe.canonical_text, "again.toml").canonical_text, recipe.canonical_text);
    EXPECT_NO_THROW(require_convertible(recipe));
  }
}

TEST(Recipe, MissingFileIsNotFound) {
  EXPECT_PARE_ERROR(load_recipe("no/such/recipe.toml"), kNotFound, "no/such/recipe.toml");
}

TEST(Recipe, WithoutQatItTrainsButDoesNotConvert) {
  const TinyRun run(tiny_header() + kDense);
  const Recipe recipe = load_recipe(run.recipe());
  const auto error = error_of([&] {
    require_convertible(recipe);
    return 0;
  });
  ASSERT_TRUE(error);
  EXPECT_NE(error->remedy().find("pare train"), std::string::npos) << error->what();
}

TEST(RecipeOverrides, ReachStagesByNameAndByNumber) {
  const TinyRun run;
  const Recipe recipe =
      load_recipe(run.recipe(), {"stage.qat.epochs=2.5", "stage[1].epochs=4", "stage.0.optimizer.lr=0.5",
                                 "data.batch=16", "stage.sparse.layers[0].why=because it is so", "seed=9",
                                 "stage[0].optimizer.name=sgd", "stage.sparse.sparsifier.pattern=1:4"});
  EXPECT_EQ(recipe.stages[2].epochs, 2.5);
  EXPECT_EQ(recipe.stages[1].epochs, 4.0);
  EXPECT_EQ(recipe.stages[0].optimizer.lr, 0.5);
  EXPECT_EQ(recipe.stages[0].optimizer.kind, train::OptimizerKind::kSgd);
  EXPECT_EQ(recipe.data.batch, 16);
  EXPECT_EQ(recipe.stages[1].layers[0].why, "because it is so");
  EXPECT_EQ(recipe.stages[1].sparsifier->config.zeros_per_block, 3);
  EXPECT_EQ(recipe.seed, 9U);
}

TEST(RecipeOverrides, MakeTablesThatAreMissing) {
  const TinyRun run;
  EXPECT_EQ(load_recipe(run.recipe(), {"check.target=x86-avx2"}).target, "x86-avx2");
  EXPECT_EQ(load_recipe(run.recipe(), {"stage.qat.schedule={ name = \"cosine\" }"}).stages[2].schedule.curve,
            train::LrCurve::kCosine);
}

TEST(RecipeOverrides, AreTheirOwnPlaceInErrors) {
  const TinyRun run;
  const auto check = [&](const std::string& text, ErrorCategory category, const std::string& problem,
                         const std::string& remedy) {
    SCOPED_TRACE(text);
    const auto error = error_of([&] { return load_recipe(run.recipe(), {text}); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->category(), category) << error->what();
    EXPECT_EQ(error->where(), "--set " + text);
    EXPECT_NE(error->problem().find(problem), std::string::npos) << error->what();
    EXPECT_NE(error->remedy().find(remedy), std::string::npos) << error->what();
  };
  check("stage.qat.epoch=1", ErrorCategory::kInvalidArgument, "unknown key 'epoch'", "epochs");
  check("stage.qat.epochs=many", ErrorCategory::kInvalidArgument, "must be a number, not the text \"many\"", "");
  check("data.batch=0", ErrorCategory::kInvalidArgument, "must be from 1", "");
  check("stage.qta.epochs=1", ErrorCategory::kNotFound, "there is no stage 'qta'", "qat");
  check("stage[7].epochs=1", ErrorCategory::kNotFound, "has 3 elements", "");
  check("seed.of=1", ErrorCategory::kNotFound, "'seed' holds no keys", "");
  check("epochs", ErrorCategory::kUsage, "no '='", "--set key=value");
  check("=1", ErrorCategory::kUsage, "no key", "");
  check("stage..epochs=1", ErrorCategory::kUsage, "empty part", "");
  check("stage[1.epochs=1", ErrorCategory::kUsage, "'['", "");
  check("stage[1]epochs=1", ErrorCategory::kUsage, "'.' is missing", "");
}

TEST(RecipeDifferences, NameTheKeyAsSetWritesIt) {
  const TinyRun run;
  const std::string before = load_recipe(run.recipe()).canonical_text;
  const std::string after = load_recipe(run.recipe(), {"stage.qat.epochs=2", "data.batch=16"}).canonical_text;
  EXPECT_EQ(recipe_differences(before, after),
            (std::vector<std::string>{"- data.batch = 32", "+ data.batch = 16", "- stage.qat.epochs = 1",
                                      "+ stage.qat.epochs = 2"}));
  EXPECT_TRUE(recipe_differences(before, before).empty());
}

TEST(RecipeDifferences, LeaveOutWhatTrainingDoesNotDependOn) {
  const TinyRun run;
  const std::string before = load_recipe(run.recipe()).canonical_text;
  const std::string after = load_recipe(run.recipe(), {"accept.max_accuracy_drop=1", "check.target=x86-avx2",
                                                       "stage.qat.max_accuracy_drop=3"})
                                .canonical_text;
  EXPECT_NE(before, after);
  EXPECT_TRUE(recipe_differences(before, after).empty());
}

}  // namespace
}  // namespace pare::pipeline
