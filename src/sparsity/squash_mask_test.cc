#include "pare/sparsity/squash_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "pare/base/error.h"
#include "pare/base/testing.h"
#include "pare/sparsity/testing/small_model.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

using testing::small_convnet;
using testing::small_mlp;
using testing::two_four_groups;
using testing::two_four_violations;

void mask_two_four(train::Model& model) {
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  sparsifier.step();
}

void train_a_little(train::Model& model, int steps) {
  torch::manual_seed(11);
  torch::optim::SGD optimizer(model.parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  for (int i = 0; i < steps; ++i) {
    optimizer.zero_grad();
    model.forward(torch::randn({8, 1, 5, 6})).pow(2).sum().backward();
    optimizer.step();
  }
}

TEST(SquashMask, IsRefusedBeforeQatHasFinished) {
  train::Model model(small_mlp(1));
  mask_two_four(model);
  const torch::Tensor dense = model.weight("fc2.weight").dense().detach().clone();
  for (const train::QatState state : {train::QatState::kNone, train::QatState::kPrepared}) {
    model.set_qat_state(state);
    try {
      squash_mask(model, {}, "sparse-2");
      FAIL() << "squash_mask was accepted";
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(error.category(), ErrorCategory::kState);
      EXPECT_NE(text.find("stage 'sparse-2'"), std::string::npos) << text;
      EXPECT_NE(text.find("finish_qat"), std::string::npos) << text;
      EXPECT_NE(text.find("before_qat_finished"), std::string::npos) << text;
    }
    EXPECT_TRUE(model.weight("fc2.weight").mask().defined()) << "nothing has happened";
    EXPECT_TRUE(torch::equal(model.weight("fc2.weight").dense(), dense));
  }
}

TEST(SquashMask, LeavesExactZerosAndThePatternAndNoMask) {
  train::Model model(small_convnet(2));
  mask_two_four(model);
  const torch::Tensor mask = model.weight("conv2.weight").mask();
  const torch::Tensor used = model.weight("conv2.weight").used().detach().clone();
  const torch::Tensor untouched = model.weight("conv1.weight").dense().detach().clone();
  model.set_qat_state(train::QatState::kFinished);
  squash_mask(model);
  for (const auto& weight : model.weights()) {
    EXPECT_FALSE(weight->mask().defined()) << weight->fqn();
  }
  for (const auto& [name, tensor] : model.state()) {
    EXPECT_FALSE(name.ends_with("weight_mask")) << name;
  }
  const torch::Tensor dense = model.weight("conv2.weight").dense().detach();
  EXPECT_TRUE(torch::equal(dense, used));
  EXPECT_TRUE((dense.masked_select(mask == 0) == 0).all().item<bool>());
  for (const char* name : {"conv2.weight", "fc1.weight", "fc2.weight"}) {
    EXPECT_EQ(two_four_violations(model.weight(name).dense()), 0) << name;
  }
  EXPECT_TRUE(torch::equal(model.weight("conv1.weight").dense(), untouched));
}

TEST(SquashMask, ZeroesWhatIsNotFiniteUnderneath) {
  train::Model model(small_mlp(3));
  mask_two_four(model);
  train::WeightPipeline& weight = model.weight("fc2.weight");
  {
    const torch::NoGradGuard no_grad;
    torch::Tensor dense = weight.dense();
    dense.masked_fill_(weight.mask() == 0, std::numeric_limits<float>::quiet_NaN());
  }
  model.set_qat_state(train::QatState::kFinished);
  squash_mask(model);
  EXPECT_TRUE(torch::isfinite(weight.dense()).all().item<bool>());
  EXPECT_EQ(two_four_violations(weight.dense()), 0);
}

TEST(SquashMask, LeavesAModelWithoutMasksAsItIs) {
  train::Model model(small_mlp(4));
  const torch::Tensor dense = model.weight("fc1.weight").dense().detach().clone();
  model.set_qat_state(train::QatState::kFinished);
  squash_mask(model);
  EXPECT_TRUE(torch::equal(model.weight("fc1.weight").dense(), dense));
}

// Why it is refused: what the peers do silently. The same training with the masks on keeps every group.
TEST(SquashMask, WithTheOverrideLaterTrainingLosesThePattern) {
  train::Model squashed(small_mlp(5));
  mask_two_four(squashed);
  squash_mask(squashed, {.before_qat_finished = true});
  EXPECT_EQ(two_four_violations(squashed.weight("fc2.weight").used()), 0);

  train::Model masked(small_mlp(5));
  mask_two_four(masked);

  train_a_little(squashed, 5);
  train_a_little(masked, 5);
  const torch::Tensor lost = squashed.weight("fc2.weight").used();
  EXPECT_GT(two_four_violations(lost), two_four_groups(lost) / 2);
  EXPECT_EQ(two_four_violations(masked.weight("fc2.weight").used()), 0);
}

TEST(SquashMask, OfASparsifierTellsTheParamsToKeep) {
  train::Model model(small_mlp(6));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  EXPECT_PARE_ERROR((void)squash_mask(sparsifier), kState, "prepare");
  sparsifier.prepare(model);
  sparsifier.step();
  SquashOptions options;
  options.before_qat_finished = true;
  options.params_to_keep = {"sparse_block_shap"};
  EXPECT_PARE_ERROR((void)squash_mask(sparsifier, options), kNotFound, "sparse_block_shape");
  options.params_to_keep = {"pattern"};
  options.params_to_keep_per_layer = {{"fc4.weight", {"norm"}}};
  EXPECT_PARE_ERROR((void)squash_mask(sparsifier, options), kNotFound, "did you mean");
  EXPECT_TRUE(model.weight("fc1.weight").mask().defined()) << "nothing has happened";

  options.params_to_keep_per_layer = {{"fc1.weight", {"sparse_block_shape", "zeros_per_block"}}};
  const SparseParams kept = squash_mask(sparsifier, options);
  EXPECT_EQ(kept,
            (SparseParams{{"fc1.weight", {{"pattern", "2:4"}, {"sparse_block_shape", "1x4"}, {"zeros_per_block", "2"}}},
                          {"fc2.weight", {{"pattern", "2:4"}}},
                          {"fc3.weight", {{"pattern", "2:4"}}}}));
  EXPECT_FALSE(model.weight("fc1.weight").mask().defined());
  EXPECT_EQ(two_four_violations(model.weight("fc1.weight").dense()), 0);
}

}  // namespace
}  // namespace pare::sparsity
