#include "pare/pipeline/channel_steps.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "pare/base/testing.h"
#include "pare/graph/builtin.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::pipeline {
namespace {

using sparsity::MaskConfig;
using sparsity::WeightNormSparsifier;

double kept_squares(const train::Model& model) {
  double kept = 0.0;
  for (const auto& weight : model.weights()) {
    kept += weight->masked().square().sum(torch::kFloat64).item<double>();
  }
  return kept;
}

std::map<std::string, torch::Tensor> state_of(const train::Model& model) {
  const auto state = model.state();
  return {state.begin(), state.end()};
}

TEST(PermuteModel, IsTheSameFunctionAndLetsMasksKeepMore) {
  for (const char* pattern : {"2:4", "16:2:4"}) {
    train::Model model(graph::builtin("resnet20", 1, 1, 8, 8, 4));
    model.eval();
    torch::manual_seed(3);
    const torch::Tensor images = torch::randn({5, 1, 8, 8});
    const torch::NoGradGuard no_gradient;
    const torch::Tensor before = model.forward(images);
    WeightNormSparsifier plain(MaskConfig::from_pattern(pattern));
    plain.prepare(model);
    plain.step();
    const double without = kept_squares(model);
    plain.lift_masks();
    WeightNormSparsifier sparsifier(MaskConfig::from_pattern(pattern));
    sparsifier.prepare(model);
    const std::string note = permute_model(model, sparsifier, 7);
    EXPECT_NE(note.find("masks keep"), std::string::npos) << note;
    // Sums of at most 577 products of order 1 in another order, through 20 layers.
    EXPECT_TRUE(torch::allclose(model.forward(images), before, 1e-4, 1e-4));
    sparsifier.prepare(model);
    sparsifier.step();
    EXPECT_GT(kept_squares(model), 1.01 * without) << pattern;
  }
}

TEST(PermuteModel, LeavesAModelWithoutSuchPatternsAlone) {
  train::Model model(graph::builtin("convnet", 1, 1, 8, 8, 4));
  const torch::Tensor before = model.weight("conv2.weight").dense().clone();
  WeightNormSparsifier sparsifier({0.5, {1, 1}, 1});
  sparsifier.prepare(model);
  EXPECT_NE(permute_model(model, sparsifier, 0).find("keep their order"), std::string::npos);
  EXPECT_TRUE(torch::equal(model.weight("conv2.weight").dense(), before));
}

TEST(PruneModel, ShrinksWhatAStateOfItsCanBeLoadedInto) {
  for (const char* name : {"convnet", "resnet20"}) {
    const graph::Graph whole = graph::builtin(name, 2, 1, 8, 8, 4);
    train::Model pruned(whole);
    channels::ChannelPruningConfig config;
    config.sparsity_level = 0.5;
    config.width_multiple = 4;
    const std::string note = prune_model(pruned, config);
    EXPECT_NE(note.find("stay"), std::string::npos) << note;
    EXPECT_EQ(pruned.weight("conv1.weight").dense().size(0), name == std::string("convnet") ? 16 : 8);
    pruned.eval();
    const torch::Tensor images = torch::randn({3, 1, 8, 8});
    const torch::NoGradGuard no_gradient;
    const torch::Tensor expected = pruned.forward(images);
    train::Model fresh(whole);
    fresh.rebuild(with_extents_of(fresh.to_graph(train::Model::Weights::kDense), state_of(pruned)));
    fresh.load_state(state_of(pruned));
    fresh.eval();
    EXPECT_TRUE(torch::equal(fresh.forward(images), expected)) << name;
    // After batch norm is folded, its own tensors are gone from the state.
    pruned.fold_batch_norm();
    train::Model folded(whole);
    folded.rebuild(with_extents_of(folded.to_graph(train::Model::Weights::kDense), state_of(pruned)));
    folded.fold_batch_norm();
    folded.load_state(state_of(pruned));
    EXPECT_TRUE(torch::equal(folded.forward(images), pruned.forward(images))) << name;
  }
}

TEST(PruneModel, RefusesAModelWithMasks) {
  train::Model model(graph::builtin("convnet", 1, 1, 8, 8, 4));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  sparsifier.step();
  EXPECT_PARE_ERROR(prune_model(model, {}), kState, "under masks");
}

}  // namespace
}  // namespace pare::pipeline
