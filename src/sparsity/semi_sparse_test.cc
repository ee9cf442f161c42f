#include "pare/sparsity/semi_sparse.h"

#include <gtest/gtest.h>

#include <limits>

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

// Against torchao's definition, put together from the mask of its weights.
TEST(SemiStructuredSparsify, KeepsTheBestPatternOfEachTileAndHandsGradientsThrough) {
  torch::manual_seed(11);
  torch::Tensor x = torch::randn({8, 12}).requires_grad_(true);
  const torch::Tensor sparse = semi_structured_sparsify(x);
  const torch::Tensor mask = weight_norm_mask(x.detach(), kTransposable);
  EXPECT_TRUE(torch::equal(sparse, x.detach() * mask));
  EXPECT_EQ(sparse.count_nonzero().item<std::int64_t>(), 8 * 12 / 2);
  EXPECT_TRUE(is_transposable(mask.data_ptr<float>(), 8, 12));
  const torch::Tensor weight = torch::randn({8, 12});
  (sparse * weight).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), weight)) << "what was masked learns as well";
  // What goes is +0 whatever it was, and a batch need not fill its tiles.
  torch::Tensor odd = torch::randn({3, 10});
  odd[0][0] = -std::numeric_limits<float>::infinity();
  odd[0][1] = -std::numeric_limits<float>::infinity();
  odd[0][2] = -std::numeric_limits<float>::infinity();
  const torch::Tensor kept = semi_structured_sparsify(odd);
  EXPECT_EQ(two_four_violations(kept), 0);
  EXPECT_EQ(two_four_violations(kept.t()), 0);
  EXPECT_FALSE(kept.isnan().any().item<bool>());
  EXPECT_FALSE(torch::signbit(kept.masked_select(kept == 0)).any().item<bool>());
  EXPECT_PARE_ERROR((void)semi_structured_sparsify(torch::ones({2, 2, 2})), kInvalidArgument, "[rows, cols]");
  EXPECT_PARE_ERROR((void)semi_structured_sparsify(torch::ones({2, 2}, torch::kInt64)), kInvalidArgument, "float32");
}

TEST(SemiSparseActivationLinear, ReadsSparseActivationsUntilItIsSwappedBack) {
  torch::manual_seed(12);
  train::Model model(small_convnet(12));
  model.eval();
  const torch::Tensor images = torch::randn({8, 1, 8, 8});
  const torch::Tensor dense_weight = model.weight("fc2.weight").dense().detach().clone();
  const torch::Tensor plain = model.forward(images).detach();
  const torch::Tensor read = model.layer_input("fc2.weight", images).detach();

  EXPECT_EQ(swap_linear_with_semi_sparse_activation_linear(model, {.tensor_fqns = {"fc2*"}}), (Names{"fc2.weight"}));
  EXPECT_FALSE(model.weight("fc2.weight").mask().defined());
  const torch::Tensor sparse = read * weight_norm_mask(read, kTransposable);
  EXPECT_FALSE(torch::equal(sparse, read));
  const torch::Tensor logits = model.forward(images);
  EXPECT_TRUE(torch::equal(logits, torch::linear(sparse, dense_weight, model.bias("fc2"))));
  const torch::Tensor upstream = torch::randn_like(logits);
  logits.backward(upstream);
  EXPECT_TRUE(torch::allclose(model.weight("fc2.weight").dense().grad(), upstream.t().mm(sparse)));

  // Both kinds at once come off at once.
  const auto masks = swap_linear_with_semi_sparse_linear(model, {.tensor_fqns = {"fc1.weight"}});
  EXPECT_EQ(swap_semi_sparse_linear_with_linear(model), (Names{"fc1.weight", "fc2.weight"}));
  EXPECT_TRUE(torch::equal(model.forward(images), plain));
  EXPECT_EQ(swap_linear_with_semi_sparse_activation_linear(model), (Names{"fc1.weight", "fc2.weight"}));
  EXPECT_PARE_ERROR(swap_linear_with_semi_sparse_activation_linear(model, {.tensor_fqns = {"conv2.weight"}}),
                    kInvalidArgument, "is the weight of a convolution");
}

}  // namespace
}  // namespace pare::sparsity
