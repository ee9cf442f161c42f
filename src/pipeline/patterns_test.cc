// Every pattern, from a recipe to the artifact: trained, stored in the form that it has, proved by verify, named in the
// report, and computed by the runtime integer for integer.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <string>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/artifact.h"
#include "pare/graph/weights.h"
#include "pare/pipeline/recipe.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/testing/quiet_run.h"
#include "pare/pipeline/testing/tiny_run.h"
#include "pare/quant/convert.h"
#include "pare/quant/qat.h"
#include "pare/quant/testing/networks.h"
#include "pare/runtime/session.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::pipeline {
namespace {

using pare::testing::tiny_header;
using pare::testing::TinyRun;

struct Case {
  std::string sparsifier;  // of the sparse stage
  std::string shown;       // of fc1 in the report
  std::string promised;    // of fc1 in the artifact
  std::string stored;      // its encoding
  double zeros;            // least fraction of fc1
  std::string note;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.sparsifier; }

class Patterns : public ::testing::TestWithParam<Case> {};

std::string recipe_text(const std::string& sparsifier) {
  return tiny_header() + R"([[stage]]
kind = "dense"
epochs = 0.5
[[stage]]
kind = "sparse"
epochs = 0.5
sparsifier = )" +
         sparsifier + R"(
sparsity_schedule = { update_every = 2 }
[[stage]]
kind = "qat"
epochs = 0.5
)";
}

TEST_P(Patterns, AreTrainedStoredProvedAndReported) {
  const Case& expected = GetParam();
  const TinyRun tiny(recipe_text(expected.sparsifier));
  const RunRecord record = testing::run(tiny);
  EXPECT_EQ(record.runtime.mismatches, 0);
  const graph::Artifact artifact = graph::read_artifact(record.artifact.path);
  EXPECT_TRUE(graph::verify_artifact(record.artifact.path).ok());
  const LayerRecord& fc1 = record.layers.at(2);
  ASSERT_EQ(fc1.name, "fc1");
  EXPECT_EQ(fc1.pattern, expected.shown);
  EXPECT_NE(fc1.note.find(expected.note), std::string::npos) << fc1.note;
  EXPECT_GE(static_cast<double>(fc1.zeros), expected.zeros * static_cast<double>(element_count(fc1.shape)));
  EXPECT_EQ(artifact.promises.at(2).pattern, expected.promised);
  EXPECT_EQ(artifact.graph.initializer("fc1.weight").pattern(), expected.stored);
}

INSTANTIATE_TEST_SUITE_P(
    ByRecipe, Patterns,
    ::testing::Values(
        Case{"{ pattern = \"2:4\" }", "2:4", "2:4", "2:4", 0.5, ""},
        Case{"{ sparse_block_shape = [1, 32], zeros_per_block = 16, sparsity_level = 1.0 }", "dense", "dense", "dense",
             0.49, "which is not packed"},
        Case{"{ pattern = \"2:4t\" }", "2:4", "2:4", "2:4", 0.5, "masked 2:4t, which is 2:4 as well"},
        Case{"{ pattern = \"1:16\" }", "2:4", "2:4", "2:4", 0.9375, "masked 1:16, which is 2:4 as well"},
        Case{"{ pattern = \"2:8\" }", "2:4", "2:4", "2:4", 0.75, "masked 2:8, which is 2:4 as well"},
        Case{"{ pattern = \"3:16\" }", "3:16", "1:3:16", "1:3:16", 0.8125, ""},
        Case{"{ pattern = \"5:8\" }", "5:8", "1:5:8", "dense", 0.375, "masked 5:8, which is not packed"},
        Case{"{ pattern = \"16:1:4\" }", "16:1:4", "16:1:4", "16:1:4", 0.75, ""},
        Case{"{ sparse_block_shape = [4, 1], sparsity_level = 0.7 }", "block 4x1", "4x1", "4x1", 0.69, ""},
        Case{"{ sparse_block_shape = [1, 4], sparsity_level = 0.7 }", "block 1x4", "1x4", "1x4", 0.69, ""},
        Case{"{ sparse_block_shape = [8, 1], sparsity_level = 0.7 }", "block 8x1", "8x1", "8x1", 0.69, ""},
        Case{"{ sparse_block_shape = [16, 16], sparsity_level = 0.7 }", "block 16x16", "16x16", "16x16", 0.69, ""},
        Case{"{ sparse_block_shape = [2, 4], zeros_per_block = 2, sparsity_level = 1.0 }", "dense", "dense", "dense",
             0.25, "masked block 2x4 keeping 6, which is not packed"},
        Case{"{ sparse_block_shape = [1, 1], sparsity_level = 0.8 }", "dense", "dense", "dense", 0.79,
             "masked unstructured, which is not packed"}),
    [](const auto& tested) { return str_cat("case", tested.index); });

// A depthwise convolution has one input channel an output: no group runs along that.
TEST(DepthwiseConvolutions, StayDenseUnderNMAndTakeBlocksOfOutputs) {
  const graph::Graph graph = quant::testing::tiny_resnet(1);  // conv3 is [8, 1, 3, 3]
  for (const char* pattern : {"2:4", "2:4t", "8:1:4"}) {
    train::Model model(graph);
    sparsity::WeightNormSparsifier sparsifier(sparsity::MaskConfig::from_pattern(pattern));
    sparsifier.prepare(model);
    const auto& left = sparsifier.dense_layers();
    const auto conv3 =
        std::find_if(left.begin(), left.end(), [](const auto& l) { return l.tensor_fqn == "conv3.weight"; });
    ASSERT_NE(conv3, left.end()) << pattern;
    EXPECT_EQ(conv3->reason, "groups of 4 run along the input channels and it has 1");
  }
  train::Model model(graph);
  sparsity::WeightNormSparsifier sparsifier({0.5, {4, 1}, 4});
  sparsifier.prepare(model);
  sparsifier.step();
  sparsifier.hold_masks();
  quant::prepare_qat(model);
  quant::testing::train_steps(model, quant::testing::synthetic_data(graph, 32, 1), 2);
  quant::finish_qat(model);
  graph::Graph integers = quant::quantize_(model);
  const auto decisions = quant::sparsify_(integers, quant::BlockSparseWeightConfig(4, 1), {});
  const auto conv3 =
      std::find_if(decisions.begin(), decisions.end(), [](const auto& d) { return d.weight == "conv3.weight"; });
  ASSERT_NE(conv3, decisions.end());
  EXPECT_EQ(conv3->pattern, "4x1");
  EXPECT_GE(graph::count_zeros(integers.initializer("conv3.weight")), 8 * 9 / 2);
  const pare::testing::TempDir folder;
  graph::write_artifact(folder / "model.pare",
                        quant::make_artifact(integers, decisions, {{0.5F, 0.5F}, {0.5F, 0.5F}}, {}));
  EXPECT_TRUE(graph::verify_artifact(folder / "model.pare").ok());
  (void)runtime::Session::load(folder / "model.pare", {});
}

}  // namespace
}  // namespace pare::pipeline
