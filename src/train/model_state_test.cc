// What Model gives away of itself and takes back: its graph and its state.
#include <gtest/gtest.h>

#include "pare/base/testing.h"
#include "pare/train/model.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using testing::copy_of_state;
using testing::first_difference;
using testing::GridQuantizer;
using testing::half_mask;
using testing::random_images;
using testing::same_bits;
using testing::tiny_graph;

TEST(Model, ToGraphGivesCurrentValuesAndOnRequestMaskedOnes) {
  Model model(tiny_graph());
  WeightPipeline& fc = model.weight("fc1.weight");
  fc.set_mask(half_mask(fc.dense()));
  {
    const torch::NoGradGuard no_gradient;
    fc.dense().mul_(3.0);
  }
  model.forward(random_images(3));
  const auto tensor = [](const graph::Graph& graph, const std::string& name) {
    const auto values = graph.initializers.at(name).data.as<float>();
    return torch::tensor(std::vector<float>(values.begin(), values.end()));
  };
  const graph::Graph dense = model.to_graph(Model::Weights::kDense);
  const graph::Graph masked = model.to_graph(Model::Weights::kMasked);
  EXPECT_TRUE(torch::equal(tensor(dense, "fc1.weight"), fc.dense().view({-1})));
  EXPECT_TRUE(torch::equal(tensor(masked, "fc1.weight"), fc.masked().view({-1})));
  EXPECT_TRUE(torch::equal(tensor(masked, "conv1.weight"), tensor(dense, "conv1.weight")));
  EXPECT_TRUE(torch::equal(tensor(dense, "bn1.running_mean"), model.named_buffers()["bn1.running_mean"]));
  Model copy(masked);
  model.eval();
  copy.eval();
  EXPECT_TRUE(same_bits(model.forward(random_images(2)), copy.forward(random_images(2))));
}

TEST(Model, StateGoesRoundWithMasksQuantizersAndGradientRules) {
  Model model(tiny_graph(1));
  model.fold_batch_norm();
  WeightPipeline& fc = model.weight("fc1.weight");
  fc.set_mask(half_mask(fc.dense()));
  fc.set_mask_gradient(MaskGradient::kMasked);
  fc.set_sr_ste_decay(2e-4);
  model.set_weight_quantizer("fc1.weight", std::make_shared<GridQuantizer>());
  model.set_qat_state(QatState::kPrepared);
  model.forward(random_images(2));
  const auto state = copy_of_state(model);

  Model other(tiny_graph(2));
  other.fold_batch_norm();
  other.set_mask("conv1.weight", half_mask(other.weight("conv1.weight").dense()));  // to be removed
  other.set_weight_quantizer("fc1.weight", std::make_shared<GridQuantizer>());
  other.load_state(state);
  EXPECT_EQ(first_difference(state, copy_of_state(other)), "");
  EXPECT_EQ(other.qat_state(), QatState::kPrepared);
  EXPECT_FALSE(other.weight("conv1.weight").mask().defined());
  EXPECT_TRUE(same_bits(other.weight("fc1.weight").mask(), fc.mask()));
  EXPECT_EQ(other.weight("fc1.weight").mask_gradient(), MaskGradient::kMasked);
  EXPECT_EQ(other.weight("fc1.weight").sr_ste_decay(), 2e-4);
  EXPECT_TRUE(same_bits(other.forward(random_images(2)), model.forward(random_images(2))));
}

TEST(Model, SavingAndLoadingTwiceKeepsTheMask) {
  // In Python's stack the second round loses it.
  Model model(tiny_graph());
  model.set_mask("fc1.weight", half_mask(model.weight("fc1.weight").dense()));
  auto state = copy_of_state(model);
  for (int round = 0; round < 3; ++round) {
    Model next(tiny_graph(static_cast<std::uint64_t>(round) + 5));
    next.load_state(state);
    EXPECT_TRUE(same_bits(next.weight("fc1.weight").used(), model.weight("fc1.weight").used()));
    state = copy_of_state(next);
  }
}

TEST(Model, StatesThatDoNotFitAreRefusedAndChangeNothing) {
  Model model(tiny_graph(1));
  model.set_mask("fc1.weight", half_mask(model.weight("fc1.weight").dense()));
  const auto own = copy_of_state(model);
  auto good = copy_of_state(Model(tiny_graph(2)));
  const auto expect_refusal = [&](const std::string& text, const std::function<void(decltype(good)&)>& spoil) {
    auto bad = good;
    spoil(bad);
    EXPECT_PARE_ERROR(model.load_state(bad), kCorruptData, text);
    EXPECT_EQ(first_difference(own, copy_of_state(model)), "") << text;
  };
  expect_refusal("'fc1.bias' is missing", [](auto& s) { s.erase("fc1.bias"); });
  expect_refusal("fc1.bias", [](auto& s) { s["fc1.bais"] = torch::zeros({3}); });
  expect_refusal("[4]", [](auto& s) { s["fc1.bias"] = torch::zeros({4}); });
  expect_refusal("Double", [](auto& s) { s["fc1.bias"] = torch::zeros({3}, torch::kFloat64); });
  expect_refusal("nothing", [](auto& s) { s["fc1.bias"] = torch::Tensor(); });
  expect_refusal("[3, 44]", [](auto& s) { s["fc1.weight_mask"] = torch::ones({3, 44}); });
  expect_refusal("other than 0 and 1", [](auto& s) { s["fc1.weight_mask"] = torch::full({3, 45}, 0.5); });
  expect_refusal("mask is float32", [](auto& s) { s["fc1.weight_mask"] = torch::ones({3, 45}, torch::kBool); });
  expect_refusal("impossible", [](auto& s) {
    s["fc1.weight_mask_gradient"] = torch::tensor({2.0, 0.0}, torch::kFloat64);
  });
  expect_refusal("impossible", [](auto& s) {
    s["fc1.weight_mask_gradient"] = torch::tensor({0.0, -1.0}, torch::kFloat64);
  });
  expect_refusal("qat_state", [](auto& s) { s["qat_state"] = torch::full({}, 3, torch::kInt64); });
  model.load_state(good);
  EXPECT_EQ(first_difference(good, copy_of_state(model)), "");
}

}  // namespace
}  // namespace pare::train
