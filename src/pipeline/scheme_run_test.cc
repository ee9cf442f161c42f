// Runs with other schemes than uint8 x int8, from the recipe to the verified artifact.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/artifact.h"
#include "pare/pipeline/convert_step.h"
#include "pare/pipeline/plan.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"

namespace pare::pipeline {
namespace {

using ::pare::testing::get_file;
using ::pare::testing::run;
using ::pare::testing::TempDir;
using ::pare::testing::tiny_header;
using ::pare::testing::TinyRun;

void expect_exact(const RunRecord& record) {
  EXPECT_EQ(record.runtime.mismatches, 0);
  EXPECT_GT(record.runtime.samples, 0);
  EXPECT_DOUBLE_EQ(record.runtime.accuracy, record.stages.back().accuracy);
  const graph::VerifyReport verified = graph::verify_artifact(record.artifact.path);
  EXPECT_TRUE(verified.ok()) << format_findings(verified);
}

const LayerRecord& layer(const RunRecord& record, const std::string& name) {
  return *std::find_if(record.layers.begin(), record.layers.end(),
                       [&](const LayerRecord& item) { return item.name == name; });
}

TEST(SchemeRun, TheMlpByQatWithEveryScheme) {
  struct Case {
    std::string quantize, scheme, op;
    std::int64_t bits;
    double bytes_a_weight;  // 2:4, scales included
  };
  // 2:4 int4: 0.375 byte a weight and 2 / group of scales; int8 0.625, and 4 / 64 for fc1's scales of channels.
  for (const Case& item : std::vector<Case>{
           {"{ activation = \"dynamic_int8\" }", "dynamic int8 x int8", "DynamicQuantizeMatMul", 8, 0.625 + 4.0 / 64},
           {"{ weight = \"int4_group32\" }", "dynamic int8 x int4 group 32", "MatMulNBits", 4, 0.4375},
           {"{ weight = \"int4_group128\", int4_scale = \"amax/7.5\" }", "dynamic int8 x int4 group 128", "MatMulNBits",
            4, 0.375 + 2.0 / 64}}) {
    SCOPED_TRACE(item.quantize);
    const TinyRun tiny;
    const RunRecord record = run(load_recipe(tiny.recipe(), {"model.builtin=mlp", "stage.sparse.layers=[]",
                                                             "stage.qat.quantize=" + item.quantize}),
                                 tiny.out());
    expect_exact(record);
    EXPECT_GT(record.runtime.accuracy, 60.0);
    for (const LayerRecord& item_layer : record.layers) {
      EXPECT_EQ(item_layer.scheme, item.scheme);
      EXPECT_EQ(item_layer.op, item.op);
      EXPECT_EQ(item_layer.weight_bits, item.bits);
      EXPECT_EQ(item_layer.pattern, "2:4");
      EXPECT_FALSE(item_layer.kernel.empty());
    }
    const LayerRecord& fc1 = layer(record, "fc1");
    ASSERT_EQ(fc1.shape, (Shape{512, 64}));
    EXPECT_EQ(static_cast<double>(fc1.bytes), 512 * 64 * item.bytes_a_weight + 4 * 512);  // and the bias
    EXPECT_NE(get_file(tiny.out() / "report.json").find(item.scheme), std::string::npos);
  }
}

TEST(SchemeRun, AConvnetIsMixedAndSaysWhy) {
  const TinyRun tiny;
  const Recipe recipe = load_recipe(tiny.recipe(), {"stage.qat.quantize={ weight = \"int4_group32\" }"});
  const LayerForecast forecast = forecast_layers(recipe);
  EXPECT_EQ(forecast.layers[1].weight_bits, 8);
  EXPECT_EQ(forecast.layers[2].weight_bits, 4);
  const std::string plan = describe_run(recipe);
  EXPECT_NE(plan.find("convolutions have kernels for uint8 activations and int8 weights only"), std::string::npos);
  const RunRecord record = run(recipe, tiny.out());
  expect_exact(record);
  EXPECT_EQ(layer(record, "conv2").scheme, "uint8 x int8");
  EXPECT_NE(layer(record, "conv2").note.find("quantized uint8 x int8"), std::string::npos);
  EXPECT_EQ(layer(record, "conv1").note.find("one input channel; convolutions"), 0U) << layer(record, "conv1").note;
  EXPECT_EQ(layer(record, "fc1").scheme, "dynamic int8 x int4 group 32");
  EXPECT_EQ(layer(record, "fc1").note, "");
}

TEST(SchemeRun, ExceptionsByLayer) {
  const TinyRun tiny;
  const RunRecord record =
      run(load_recipe(tiny.recipe(),
                      {"stage.qat.quantize={ layers = [ { tensor_fqn = \"fc*.weight\", weight = \"int4_group64\" }, "
                       "{ tensor_fqn = \"fc2.weight\", activation = \"dynamic_int8\" } ] }"}),
          tiny.out());
  expect_exact(record);
  EXPECT_EQ(layer(record, "conv2").note, "");
  EXPECT_EQ(layer(record, "fc1").scheme, "dynamic int8 x int4 group 64");
  EXPECT_EQ(layer(record, "fc2").scheme, "dynamic int8 x int8");
}

TEST(SchemeRun, SharedMasksOfInt4WeightsArePacked2To4WhereTheyObeyIt) {
  const TinyRun tiny;
  const RunRecord record = run(load_recipe(tiny.recipe(), {"stage.sparse.sparsifier.pattern=16:2:4",
                                                           "stage.qat.quantize={ weight = \"int4_group32\" }"}),
                               tiny.out());
  expect_exact(record);
  EXPECT_EQ(layer(record, "conv2").pattern, "16:2:4");
  EXPECT_EQ(layer(record, "fc1").pattern, "2:4");
}

TEST(SchemeRun, CalibratedWithoutTraining) {
  for (const char* model : {"convnet", "mlp"}) {
    for (const char* quantize : {"{ activation = \"dynamic_int8\" }", "{ weight = \"int4_group32\" }"}) {
      SCOPED_TRACE(str_cat(model, " ", quantize));
      const TinyRun tiny(tiny_header() +
                         "[[stage]]\nkind = \"dense\"\nepochs = 2\noptimizer = { lr = 2e-3 }\n"
                         "[[stage]]\nkind = \"calibrate\"\ncalibrate = { images = 64 }\n");
      const RunRecord record = run(load_recipe(tiny.recipe(), {str_cat("model.builtin=", model),
                                                               str_cat("stage.calibrate.quantize=", quantize)}),
                                   tiny.out());
      expect_exact(record);
      EXPECT_GT(record.runtime.accuracy, record.stages[0].accuracy - 10.0);
    }
  }
}

TEST(SchemeRun, ResumedItEndsWithTheSameBytes) {
  const std::vector<std::string> overrides = {
      "stage.qat.quantize={ weight = \"int4_group32\", layers = [ { tensor_fqn = \"fc2.weight\", "
      "activation = \"uint8\", weight = \"int8_per_channel\" } ] }"};
  const TinyRun whole;
  const TinyRun parts;
  const RunRecord record = run(load_recipe(whole.recipe(), overrides), whole.out());
  EXPECT_EQ(layer(record, "fc2").scheme, "uint8 x int8");
  (void)run(load_recipe(parts.recipe(), overrides), parts.out(), IfRunExists::kRefuse, /*train_only=*/true);
  (void)run(load_recipe(parts.recipe(), overrides), parts.out(), IfRunExists::kResume);
  EXPECT_EQ(get_file(parts.out() / "model.pare"), get_file(whole.out() / "model.pare"));
}

// The shipped recipes by --set, on a little of the real images where they are installed.
TEST(SchemeRun, ShippedRecipesOnALittleFashionMnist) {
  const std::filesystem::path recipes = std::filesystem::path(PARE_SOURCE_DIR) / "recipes";
  const std::vector<std::string> little = {"data.limit_train=512",
                                           "data.limit_test=200",
                                           "threads=1",
                                           "stage.dense.epochs=1",
                                           "stage.sparse.epochs=1",
                                           "stage.qat.epochs=1",
                                           "accept={}",
                                           "stage.sparse.schedule={}",
                                           "stage.dense.schedule={}",
                                           "stage.qat.schedule={}",
                                           "stage.sparse.sparsity_schedule={}"};
  for (const char* file : {"mlp.toml", "fashion_mnist.toml"}) {
    for (const char* quantize : {"{ activation = \"dynamic_int8\" }", "{ weight = \"int4_group32\" }"}) {
      SCOPED_TRACE(str_cat(file, " ", quantize));
      std::vector<std::string> overrides = little;
      overrides.push_back(str_cat("stage.qat.quantize=", quantize));
      if (std::string(file) == "fashion_mnist.toml") {
        overrides.insert(overrides.end(), {"stage.sparse.max_accuracy_drop=100", "stage.qat.max_accuracy_drop=100"});
      }
      const Recipe recipe = load_recipe(recipes / file, overrides);
      try {
        (void)load_run_data(recipe);
      } catch (const Error&) {
        GTEST_SKIP() << "Fashion-MNIST is not installed";
      }
      const TempDir folder;
      expect_exact(run(recipe, folder / "out"));
    }
  }
}

TEST(SchemeRecipe, TheCanonicalTextKeepsSchemesAndLeavesTheDefaultOut) {
  const TinyRun tiny;
  const Recipe plain = load_recipe(tiny.recipe(), {"stage.qat.quantize={ activation = \"uint8\" }"});
  EXPECT_EQ(plain.canonical_text.find("activation"), std::string::npos);
  const Recipe recipe = load_recipe(
      tiny.recipe(), {"stage.qat.quantize={ weight = \"int4_group256\", int4_scale = \"amax/7.5\", layers = [ "
                      "{ tensor_fqn = \"fc2.weight\", weight = \"int8_per_channel\" } ] }"});
  const Recipe again = parse_recipe(recipe.canonical_text, tiny.recipe());
  EXPECT_EQ(again.canonical_text, recipe.canonical_text);
  const quant::QATConfig& config = again.stages.back().quantize;
  EXPECT_EQ(config.scheme.int4_group, 256);
  EXPECT_EQ(config.scheme.int4_scale, format::Int4Scale::kAmaxOver7p5);
  EXPECT_TRUE(config.scheme.is_dynamic());
  ASSERT_EQ(config.layers.size(), 1U);
  EXPECT_EQ(config.layers[0].scheme.int4_group, 0);
  EXPECT_TRUE(config.layers[0].scheme.is_dynamic());
  EXPECT_FALSE(recipe_differences(plain.canonical_text, recipe.canonical_text).empty());
}

TEST(SchemeRecipe, BadSchemesAreErrorsBeforeAnythingRuns) {
  const TinyRun tiny;
  const auto with = [&](const std::string& quantize) {
    return [&tiny, quantize] { (void)load_recipe(tiny.recipe(), {"stage.qat.quantize=" + quantize}); };
  };
  EXPECT_PARE_ERROR(with("{ weight = \"int4_group48\" }")(), kInvalidArgument, "int4_group64");
  EXPECT_PARE_ERROR(with("{ activation = \"uint8\", weight = \"int4_group32\" }")(), kInvalidArgument, "row by row");
  EXPECT_PARE_ERROR(with("{ int4_scale = \"amax/7\" }")(), kInvalidArgument, "belongs to int4 weights");
  EXPECT_PARE_ERROR(with("{ layers = [ { tensor_fqn = \"fc9.weight\", weight = \"int4_group32\" } ] }")(), kNotFound,
                    "fc1.weight");
  EXPECT_PARE_ERROR(with("{ layers = [ { weight = \"int4_group32\" } ] }")(), kInvalidArgument, "tensor_fqn");
  EXPECT_PARE_ERROR(with("{ layers = [ { tensor_fqn = \"fc1.weight\", group = 32 } ] }")(), kInvalidArgument, "group");
  EXPECT_PARE_ERROR(with("{ layers = [ { tensor_fqn = \"conv2.weight\", weight = \"int4_group32\" } ] }")(),
                    kUnsupported, "a convolution cannot be");
}

}  // namespace
}  // namespace pare::pipeline
