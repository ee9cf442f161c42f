#include "pare/pipeline/sensitivity.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/format/affine.h"
#include "pare/format/half.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/count_of.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"
#include "pare/pipeline/training.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::quiet;
using ::pare::testing::TinyRun;

constexpr std::int64_t kImages = 200;

// A tiny convnet that was trained densely (and 2:4 after that), and what was measured of it.
struct Measured {
  TinyRun tiny;
  Recipe recipe = load_recipe(tiny.recipe(), {"stage.dense.epochs=3"});
  std::filesystem::path checkpoint = tiny.out() / "stages" / "dense.ckpt";
  Sensitivity sensitivity;

  Measured() {
    RunOptions run;
    run.folder = tiny.out();
    run.train_only = true;
    run.print_summary = false;
    static_cast<void>(run_recipe(recipe, run, quiet()));
    SensitivityProbe probe(recipe, options());
    sensitivity = probe.measure(quiet());
  }
  [[nodiscard]] SensitivityOptions options() const {
    SensitivityOptions result;
    result.checkpoint = checkpoint;
    result.images = kImages;
    result.calibration_images = 64;
    result.patterns = {"2:4", "16:2:4"};
    result.bits = bits_names();
    return result;
  }
};
const Measured& measured() {
  static const Measured result;
  return result;
}

// Independently: the stage's own model, one weight changed by `change`, on the last images.
template <typename Change>
train::Evaluation with_weight(const std::string& fqn, const Change& change) {
  const Recipe& recipe = measured().recipe;
  const RunData data = load_run_data(recipe);
  const auto model = load_stage_model(recipe, data.image, data.classes(), measured().checkpoint);
  {
    const torch::NoGradGuard no_gradient;
    torch::Tensor dense = model->weight(fqn).dense().detach();
    dense.copy_(change(dense.clone()));
  }
  train::Dataset last = data.train;
  last.images = last.images.slice(0, last.images.size(0) - kImages);
  last.labels = last.labels.slice(0, last.labels.size(0) - kImages);
  return train::evaluate(*model, last, recipe.data.normalize);
}

void expect_candidate(const std::string& fqn, const std::string& pattern, const std::string& bits,
                      const train::Evaluation& expected) {
  SCOPED_TRACE(str_cat(fqn, " ", pattern, " ", bits));
  for (const LayerSensitivity& layer : measured().sensitivity.layers) {
    if (layer.weight != fqn) continue;
    const SensitivityCandidate* const candidate = layer.find(pattern, bits);
    ASSERT_NE(candidate, nullptr);
    EXPECT_EQ(candidate->loss, expected.loss);
    EXPECT_DOUBLE_EQ(100.0 * static_cast<double>(candidate->correct) / kImages, expected.accuracy);
    return;
  }
  FAIL() << "the layer was not measured";
}

torch::Tensor masked(const torch::Tensor& weight, const std::string& pattern) {
  return weight * sparsity::weight_norm_mask(weight, sparsity::MaskConfig::from_pattern(pattern));
}

// By the scalar formulas: a scale for each row of `group` elements (0: the whole row).
torch::Tensor rounded(const torch::Tensor& weight, std::int64_t group) {
  torch::Tensor result = weight.flatten(1).contiguous().clone();
  const std::int64_t k = result.size(1);
  for (std::int64_t row = 0; row < result.size(0); ++row) {
    for (std::int64_t first = 0; first < k; first += group == 0 ? k : group) {
      const torch::Tensor values = result[row].slice(0, first, group == 0 ? k : std::min(k, first + group));
      const auto largest = values.abs().max().item<float>();
      const format::AffineParams params =
          group == 0 ? format::choose_qparams_symmetric(values.min().item<float>(), values.max().item<float>(),
                                                        format::kInt8WeightRange)
                     : format::AffineParams{format::float_from_half(format::half_from_float(largest / 7.0F)), 0};
      float* const numbers = values.data_ptr<float>();
      for (std::int64_t i = 0; i < values.numel(); ++i) {
        numbers[i] = group == 0 ? format::fake_quantize(numbers[i], params, format::kInt8WeightRange)
                                : std::nearbyint(numbers[i] / params.scale) * params.scale;
      }
    }
  }
  return result.view(weight.sizes());
}

TEST(Sensitivity, MeasuresWhatOneChangedWeightCosts) {
  const train::Evaluation trained = with_weight("fc1.weight", [](const torch::Tensor& w) { return w; });
  EXPECT_EQ(measured().sensitivity.loss, trained.loss);
  EXPECT_EQ(measured().sensitivity.images, kImages);
  expect_candidate("fc1.weight", "dense", "float32", trained);
  for (const std::string pattern : {"2:4", "16:2:4"}) {
    const auto pruned = [&](const torch::Tensor& w) { return masked(w, pattern); };
    const auto pruned_int8 = [&](const torch::Tensor& w) { return rounded(masked(w, pattern), 0); };
    expect_candidate("conv2.weight", pattern, "float32", with_weight("conv2.weight", pruned));
    expect_candidate("fc1.weight", pattern, "float32", with_weight("fc1.weight", pruned));
    expect_candidate("fc1.weight", pattern, "int8", with_weight("fc1.weight", pruned_int8));
  }
  const auto int8 = [](const torch::Tensor& w) { return rounded(w, 0); };
  expect_candidate("conv1.weight", "dense", "int8", with_weight("conv1.weight", int8));
  const auto int4 = [](const torch::Tensor& w) { return rounded(w, 64); };
  expect_candidate("fc1.weight", "dense", "int4/64", with_weight("fc1.weight", int4));
  const auto both = [](const torch::Tensor& w) { return rounded(masked(w, "2:4"), 32); };
  expect_candidate("fc2.weight", "2:4", "int4/32", with_weight("fc2.weight", both));
}

TEST(Sensitivity, NamesEveryLayerAndWhatIsNotPossible) {
  const Sensitivity& sensitivity = measured().sensitivity;
  ASSERT_EQ(sensitivity.layers.size(), 4U);
  EXPECT_EQ(sensitivity.layers[0].weight, "conv1.weight");
  EXPECT_EQ(sensitivity.layers[0].op, "Conv");
  EXPECT_EQ(sensitivity.layers[3].weight, "fc2.weight");
  for (const LayerSensitivity& layer : sensitivity.layers) {
    EXPECT_EQ(layer.candidates.size() + layer.impossible.size(), 15U) << layer.weight;
  }
  const LayerSensitivity& first = sensitivity.layers[0];
  EXPECT_EQ(first.candidates.size(), 2U) << "dense in float32 and int8";
  EXPECT_EQ(first.impossible.front().pattern, "dense");
  EXPECT_EQ(first.impossible.front().reason, "int4 weights are those of matrix products (format/int4.h)");
  EXPECT_EQ(first.impossible.back().reason, "groups of 4 run along the input channels and it has 1");
  EXPECT_EQ(sensitivity.layers[3].impossible.size(), 0U);
}

TEST(Sensitivity, LeavesTheNetworkAsItWasAndMeasuresCombinations) {
  SensitivityOptions options = measured().options();
  options.bits = {"float32"};
  SensitivityProbe probe(measured().recipe, options);
  EXPECT_EQ(probe.evaluate().loss, measured().sensitivity.loss);
  const auto alone = probe.together({{"fc1.weight", "2:4"}}, "float32");
  expect_candidate("fc1.weight", "2:4", "float32", alone);
  const auto dense = probe.together({{"fc1.weight", "dense"}}, "float32");
  EXPECT_EQ(dense.loss, measured().sensitivity.loss);
  const auto both = probe.together({{"fc1.weight", "2:4"}, {"fc2.weight", "2:4"}}, "float32");
  EXPECT_NE(both.loss, alone.loss);
  EXPECT_EQ(probe.evaluate().loss, measured().sensitivity.loss);
}

// SparseGPT changes what stays, so its candidates are others, and the dense ones are not.
TEST(Sensitivity, TakesASparsifierThatLooksAtData) {
  SensitivityOptions options = measured().options();
  options.sparsifier = "sparse_gpt";
  options.patterns = {"2:4", "dense", "2:4"};
  options.bits = {"int8", "int8"};
  SensitivityProbe probe(measured().recipe, options);
  const Sensitivity sensitivity = probe.measure(quiet());
  EXPECT_EQ(sensitivity.patterns, (std::vector<std::string>{"dense", "2:4"})) << "each once";
  EXPECT_EQ(sensitivity.bits, (std::vector<std::string>{"int8"}));
  const LayerSensitivity& ours = sensitivity.layers[2];
  const LayerSensitivity& other = measured().sensitivity.layers[2];
  EXPECT_EQ(ours.find("dense", "int8")->loss, other.find("dense", "int8")->loss);
  EXPECT_NE(ours.find("2:4", "int8")->loss, other.find("2:4", "int8")->loss);
  EXPECT_EQ(probe.evaluate().loss, measured().sensitivity.loss);
}

TEST(Sensitivity, SurvivesItsFile) {
  Sensitivity written = measured().sensitivity;
  written.correct = 7;  // as no other number is
  const std::string json = sensitivity_json(written);
  EXPECT_EQ(sensitivity_json(sensitivity_from_json(json, "s.json")), json);
  EXPECT_PARE_ERROR(sensitivity_from_json("{", "s.json"), kCorruptData, "s.json: it cannot be read");
  EXPECT_PARE_ERROR(sensitivity_from_json("{}", "s.json"), kCorruptData, "version");
  std::string newer = json;
  newer.replace(newer.find("\"version\": 1"), 12, "\"version\": 9");
  EXPECT_PARE_ERROR(sensitivity_from_json(newer, "s.json"), kCorruptData, "version 9 is not known");
  Sensitivity other = measured().sensitivity;
  other.patterns.front() = "2:8";
  EXPECT_PARE_ERROR(sensitivity_from_json(sensitivity_json(other), "s.json"), kCorruptData, "first pattern");
  other.layers.clear();
  EXPECT_PARE_ERROR(sensitivity_from_json(sensitivity_json(other), "s.json"), kCorruptData, "measures nothing");
}

TEST(Sensitivity, ShowsEveryCandidateOnceInThePageAndTheTable) {
  Sensitivity sensitivity = measured().sensitivity;
  std::size_t candidates = 0;
  for (const LayerSensitivity& layer : sensitivity.layers) candidates += layer.candidates.size();
  const std::string html = sensitivity_html(sensitivity);
  EXPECT_EQ(testing::count_of("<title>", html), 1 + sensitivity.bits.size() + candidates) << "page, legend, marks";
  EXPECT_EQ(testing::count_of("not possible", html), 2U) << "conv1 at 2:4 and 16:2:4";
  EXPECT_EQ(testing::count_of("http", html), testing::count_of("http-equiv", html)) << "nothing is fetched";
  const std::string table = sensitivity_table(sensitivity);
  // Above: a line for the reader and a blank one, then two of the table's head. 4 layers by 3 patterns, less conv1's
  // two.
  EXPECT_EQ(testing::count_of("\n| ", table), 1U + 10U) << table;
  EXPECT_TRUE(table.find("* conv1.weight, 2:4, 16:2:4: groups of 4") != std::string::npos) << table;

  sensitivity.recipe = "</title><script>alert(1)</script>";
  sensitivity.layers[0].weight = "<b>'\"&";
  const std::string hostile = sensitivity_html(sensitivity);
  EXPECT_EQ(testing::count_of("<script", hostile), 0U);
  EXPECT_EQ(testing::count_of("<b>'", hostile), 0U);
}

TEST(Sensitivity, SaysWhatIsWrong) {
  const Recipe& recipe = measured().recipe;
  const auto probe = [&](const auto& change) {
    SensitivityOptions options = measured().options();
    change(options);
    const SensitivityProbe made(recipe, options);
    return 0;
  };
  EXPECT_PARE_ERROR(probe([](auto& o) { o.checkpoint.clear(); }), kUsage, "--checkpoint runs/NAME/stages/dense.ckpt");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.patterns = {"2:5:4"}; }), kInvalidArgument, "'2:5:4' is not a pattern");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.bits = {"int9"}; }), kInvalidArgument, "did you mean 'int8'");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.sparsifier = "wnada"; }), kInvalidArgument, "did you mean 'wanda'");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.sparsifier = "global_magnitude"; }), kInvalidArgument, "single");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.images = 300; }), kInvalidArgument, "there are 320 training images");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.calibration_images = 0; }), kInvalidArgument, "at least 1");
  EXPECT_PARE_ERROR(probe([](auto& o) { o.checkpoint.replace_filename("sparse.ckpt"); }), kUnsupported,
                    "its weights are masked");
  const Recipe other = load_recipe(measured().tiny.recipe(), {"model.builtin=mlp", "stage.sparse.layers=[]"});
  EXPECT_PARE_ERROR(SensitivityProbe(other, measured().options()).evaluate(), kCorruptData,
                    "it must be of the same network");
}

}  // namespace
}  // namespace pare::pipeline
