#include "pare/pipeline/channel_steps.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

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

// What the Taylor criterion squares, the sum of weight * gradient over a row, is the slope of the loss along that row:
// compared with a difference of losses. Batches keep apart, and the model stays as it was.
TEST(BatchGradients, AreSlopesOfTheLossOfEachBatch) {
  train::Model model(graph::builtin("small_cnn", 1, 1, 8, 8, 4));
  model.train();
  torch::manual_seed(5);
  const torch::Tensor images = torch::randn({7, 1, 8, 8});
  const torch::Tensor labels = torch::tensor({0, 1, 2, 3, 3, 1, 0}, torch::kInt64);
  const train::CalibrationSet set{
      .batches = 2,
      .batch = [&](std::int64_t i) { return i == 0 ? images.slice(0, 0, 4) : images.slice(0, 4); },
      .progress = {}};
  const std::map<std::string, torch::Tensor> before = state_of(model);
  std::map<std::string, torch::Tensor> copies;
  for (const auto& [name, tensor] : before) copies[name] = tensor.clone();
  const std::map<std::string, std::vector<float>> gradients = batch_gradients(model, set, labels);
  EXPECT_TRUE(model.is_training());
  for (const auto& [name, tensor] : state_of(model)) EXPECT_TRUE(torch::equal(tensor, copies.at(name))) << name;
  EXPECT_EQ(gradients.size(), model.weights().size());

  model.eval();
  const torch::NoGradGuard no_gradient;
  for (const auto& weight : model.weights()) {
    torch::Tensor dense = weight->dense().detach();
    const torch::Tensor kept = dense.clone();
    const std::int64_t elems = dense.numel();
    const std::int64_t row = dense.size(0) / 2;
    const std::vector<float>& all = gradients.at(weight->fqn());
    ASSERT_EQ(all.size(), static_cast<std::size_t>(2 * elems));
    for (std::int64_t batch = 0; batch < 2; ++batch) {
      const torch::Tensor truth = batch == 0 ? labels.slice(0, 0, 4) : labels.slice(0, 4);
      const auto loss_at = [&](double scale) {
        dense.copy_(kept);
        dense[row].mul_(scale);
        return torch::nn::functional::cross_entropy(model.forward(set.batch(batch)), truth).item<double>();
      };
      constexpr double kStep = 1e-2;
      const double slope = (loss_at(1.0 + kStep) - loss_at(1.0 - kStep)) / (2.0 * kStep);
      dense.copy_(kept);
      const torch::Tensor gradient =
          torch::from_blob(const_cast<float*>(all.data()) + batch * elems, {elems}).view(dense.sizes());
      const double expected = (kept[row] * gradient[row]).sum().item<double>();
      // Rounding of the losses, 2^-24 over the step, and the curvature's change along it, of order step^2.
      EXPECT_NEAR(slope, expected, 1e-4 + 1e-2 * std::abs(expected)) << weight->fqn() << " batch " << batch;
    }
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
