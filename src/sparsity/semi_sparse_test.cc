#include "pare/sparsity/semi_sparse.h"

#include <gtest/gtest.h>

#include "pare/base/testing.h"
#include "pare/sparsity/testing/small_model.h"
#include "pare/sparsity/transposable.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

using testing::small_convnet;
using testing::two_four_violations;

using Names = std::vector<std::string>;

const MaskConfig kTransposable = MaskConfig::from_pattern("2:4t");

void train_step(train::Model& model, torch::optim::Optimizer& optimizer) {
  optimizer.zero_grad();
  model.forward(torch::randn({8, 1, 8, 8})).pow(2).sum().backward();
  optimizer.step();
}

TEST(SemiSparseLinear, TrainsUnderTransposableMasksThatFollowTheDenseWeights) {
  torch::manual_seed(5);
  train::Model model(small_convnet(5));
  const auto sparsifier = swap_linear_with_semi_sparse_linear(model);
  EXPECT_FALSE(model.weight("conv2.weight").mask().defined()) << "a convolution is no linear layer";
  const train::WeightPipeline& fc1 = model.weight("fc1.weight");
  const torch::Tensor first = fc1.mask();
  torch::optim::SGD optimizer(model.parameters(), torch::optim::SGDOptions(0.05));
  for (int step = 0; step < 10; ++step) {
    train_step(model, optimizer);
    EXPECT_TRUE((fc1.dense().grad().masked_select(fc1.mask() == 0) != 0).any().item<bool>()) << "straight through";
    sparsifier->step();
    for (const char* name : {"fc1.weight", "fc2.weight"}) {
      const train::WeightPipeline& weight = model.weight(name);
      // What torchao's layer makes anew in its forward.
      EXPECT_TRUE(torch::equal(weight.mask(), weight_norm_mask(weight.dense(), kTransposable))) << name;
      EXPECT_EQ(two_four_violations(weight.used().detach()), 0) << name;
      EXPECT_EQ(two_four_violations(weight.used().detach().t()), 0) << name;
    }
  }
  EXPECT_FALSE(torch::equal(fc1.mask(), first)) << "weights have come back";
}

TEST(SemiSparseLinear, SwapsBackToTheDenseWeightAndLeavesOtherMasksOn) {
  train::Model model(small_convnet(6));
  const torch::Tensor dense = model.weight("fc2.weight").dense().detach().clone();
  WeightNormSparsifier others(MaskConfig::from_pattern("2:4"));
  others.prepare(model);
  others.step();
  const auto sparsifier = swap_linear_with_semi_sparse_linear(model, {.tensor_fqns = {"fc2*"}});
  EXPECT_EQ(sparsifier->groups().size(), 1U);
  EXPECT_EQ(sparsifier->groups().at(0).pattern, "2:4t");
  EXPECT_EQ(swap_semi_sparse_linear_with_linear(model), (Names{"fc2.weight"}));
  EXPECT_FALSE(model.weight("fc2.weight").mask().defined());
  EXPECT_TRUE(torch::equal(model.weight("fc2.weight").used(), dense));
  EXPECT_TRUE(model.weight("fc1.weight").mask().defined());
  EXPECT_TRUE(model.weight("conv2.weight").mask().defined());
  EXPECT_EQ(swap_semi_sparse_linear_with_linear(model), Names{});
  // A mask that keeps almost nothing breaks no rule, and is nobody's transposable mask.
  torch::Tensor sparse = torch::zeros_like(dense);
  sparse[0][0] = 1.0F;
  model.set_mask("fc2.weight", sparse);
  EXPECT_EQ(swap_semi_sparse_linear_with_linear(model), Names{});
}

TEST(SemiSparseLinear, IsKnownAgainAfterACheckpoint) {
  train::Model model(small_convnet(7));
  (void)swap_linear_with_semi_sparse_linear(model);
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : model.state()) {
    state[name] = tensor.detach().clone();
  }
  train::Model loaded(small_convnet(8));
  loaded.load_state(state);
  EXPECT_EQ(swap_semi_sparse_linear_with_linear(loaded), (Names{"fc1.weight", "fc2.weight"}));
}

TEST(SemiSparseLinear, RefusesConvolutionsAndUnknownNames) {
  train::Model model(small_convnet(9));
  EXPECT_PARE_ERROR((void)swap_linear_with_semi_sparse_linear(model, {.tensor_fqns = {"conv2.weight"}}),
                    kInvalidArgument, "is the weight of a convolution");
  EXPECT_PARE_ERROR((void)swap_linear_with_semi_sparse_linear(model, {.tensor_fqns = {"fc3.weight"}}), kNotFound,
                    "did you mean");
  EXPECT_FALSE(model.weight("fc1.weight").mask().defined());
}

}  // namespace
}  // namespace pare::sparsity
