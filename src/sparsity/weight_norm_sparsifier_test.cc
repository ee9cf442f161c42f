#include "pare/sparsity/weight_norm_sparsifier.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/sparsity/testing/mask_reference.h"
#include "pare/sparsity/testing/small_model.h"

namespace pare::sparsity {
namespace {

using testing::random_weights;
using testing::reference_mask;
using testing::small_convnet;
using testing::small_mlp;
using testing::two_four_violations;

const MaskConfig kTwoFour = MaskConfig::from_pattern("2:4");

template <typename Act>
Error error_of(const Act& act) {
  try {
    act();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCategory::kUsage, "nothing was thrown");
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

torch::Tensor random_tensor(std::vector<std::int64_t> shape, std::uint64_t seed) {
  const torch::Tensor tensor = torch::empty(shape);
  const std::vector<float> values = random_weights(static_cast<std::size_t>(tensor.numel()), seed, seed % 2 == 0);
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor;
}

std::vector<std::string> names(const std::vector<SparseGroup>& groups) {
  std::vector<std::string> result;
  for (const SparseGroup& group : groups) {
    result.push_back(group.tensor_fqn);
  }
  return result;
}

void overwrite(const train::WeightPipeline& weight, const torch::Tensor& values) {
  const torch::NoGradGuard no_grad;
  torch::Tensor dense = weight.dense();
  dense.copy_(values);
}

TEST(WeightNormMaskOfTensor, RunsGroupsOfConvolutionsAlongTheInputChannels) {
  std::uint64_t seed = 40;
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{
           {4, 3, 3, 3}, {8, 4, 3, 3}, {4, 8, 1, 1}, {5, 7, 2, 3}, {1, 1, 1, 1}, {3, 9, 1, 5}, {2, 16, 3, 3}}) {
    for (const MaskConfig& config :
         {kTwoFour, MaskConfig{0.5, {1, 4}, 2, 2}, MaskConfig{0.5, {1, 1}, 1, 1}, MaskConfig{0.8, {4, 1}, 4, 1},
          MaskConfig{1.0, {2, 2}, 3, 2}, MaskConfig::from_pattern("4:2:4")}) {
      SCOPED_TRACE(::testing::Message() << torch::IntArrayRef(shape) << " " << pattern_name(config) << " seed "
                                        << ++seed);
      const torch::Tensor weight = random_tensor(shape, seed);
      const torch::Tensor mask = weight_norm_mask(weight, config);
      ASSERT_EQ(mask.sizes(), weight.sizes());

      // Element by element into one matrix [O, I] a tap, without LibTorch's permutations.
      const std::int64_t outs = shape[0], ins = shape[1], height = shape[2], width = shape[3];
      std::vector<float> matrices, ours;
      for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
          for (std::int64_t o = 0; o < outs; ++o) {
            for (std::int64_t i = 0; i < ins; ++i) {
              matrices.push_back(weight[o][i][y][x].item<float>());
              ours.push_back(mask[o][i][y][x].item<float>());
            }
          }
        }
      }
      EXPECT_EQ(ours, reference_mask(matrices, {outs, ins, height * width}, config));
    }
  }
}

// A 1x1 convolution is a matrix product, so here torch's masks (of the weight seen as a matrix) must come out.
TEST(WeightNormMaskOfTensor, GivesTorchsMasksForPointwiseConvolutions) {
  const auto load = [](const std::string& name) {
    std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/" + name);
    return nlohmann::json::parse(file);
  };
  const nlohmann::json input = load("weight_norm_masks.json").at("inputs").at("c4x8x1x1");
  auto values = input.at("data").get<std::vector<double>>();
  const torch::Tensor weight = torch::from_blob(values.data(), {4, 8, 1, 1}, torch::kFloat64).to(torch::kFloat32);
  int replayed = 0;
  const nlohmann::json golden = load("weight_norm_masks_conv_as_2d.json");
  for (const auto& entry : golden.at("cases")) {
    if (entry.at("input") != "c4x8x1x1") {
      continue;
    }
    const MaskConfig config{entry.at("sparsity_level").get<double>(),
                            entry.at("sparse_block_shape").get<std::array<std::int64_t, 2>>(),
                            entry.at("zeros_per_block").get<std::int64_t>(), 2};
    const torch::Tensor mask = weight_norm_mask(weight, config).reshape({-1});
    std::string bits;
    for (std::int64_t i = 0; i < mask.numel(); ++i) {
      bits += mask[i].item<float>() == 1.0F ? '1' : '0';
    }
    EXPECT_EQ(bits, entry.at("mask").at("bits").get<std::string>()) << entry.at("setting");
    ++replayed;
  }
  EXPECT_EQ(replayed, 16);
}

TEST(WeightNormMaskOfTensor, TakesMatricesThatAreNotContiguous) {
  const torch::Tensor weight = random_tensor({6, 12}, 3);
  EXPECT_TRUE(
      torch::equal(weight_norm_mask(weight.t().contiguous().t(), kTwoFour), weight_norm_mask(weight, kTwoFour)));
}

TEST(WeightNormMaskOfTensor, RefusesOtherTensors) {
  for (const torch::Tensor& wrong :
       {torch::Tensor(), torch::ones({4}), torch::ones({2, 3, 4}), torch::ones({4, 4}, torch::kFloat64)}) {
    const Error error = error_of([&] { static_cast<void>(weight_norm_mask(wrong, kTwoFour)); });
    EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument);
  }
  EXPECT_EQ(weight_norm_mask(torch::ones({0, 4}), kTwoFour).numel(), 0);
  EXPECT_EQ(weight_norm_mask(torch::ones({4, 0}), kTwoFour).numel(), 0);
}

TEST(WeightNormSparsifier, TakesAllWeightsByDefaultAndNamesTheOneLeftDense) {
  train::Model model(small_convnet(1));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  EXPECT_EQ(names(sparsifier.groups()), (std::vector<std::string>{"conv2.weight", "fc1.weight", "fc2.weight"}));
  ASSERT_EQ(sparsifier.dense_layers().size(), 1U);
  EXPECT_EQ(sparsifier.dense_layers()[0].tensor_fqn, "conv1.weight");
  EXPECT_EQ(sparsifier.dense_layers()[0].reason, "groups of 4 run along the input channels and it has 1");
  sparsifier.step();
  EXPECT_FALSE(model.weight("conv1.weight").mask().defined());
  for (const SparseGroup& group : sparsifier.groups()) {
    EXPECT_EQ(group.pattern, "2:4");
    EXPECT_EQ(two_four_violations(model.weight(group.tensor_fqn).used()), 0) << group.tensor_fqn;
    EXPECT_EQ(model.weight(group.tensor_fqn).mask().mean().item<double>(), 0.5) << group.tensor_fqn;
  }
}

TEST(WeightNormSparsifier, MasksTheOneChannelLayerUnderPatternsThatFit) {
  train::Model model(small_convnet(1));
  for (const MaskConfig& config : {MaskConfig{0.5, {1, 1}, 1, 2}, MaskConfig{0.5, {1, 4}, 4, 2}}) {
    WeightNormSparsifier sparsifier(config);
    sparsifier.prepare(model);
    EXPECT_TRUE(sparsifier.dense_layers().empty());
    sparsifier.step();
    EXPECT_EQ(model.weight("conv1.weight").mask().mean().item<double>(), 0.5);
  }
}

TEST(WeightNormSparsifier, HandlesATailOfInputFeatures) {
  train::Model model(small_mlp(1));
  ASSERT_EQ(model.weight("fc1.weight").dense().size(1) % 4, 2);
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.step();
  const torch::Tensor mask = model.weight("fc1.weight").mask();
  EXPECT_EQ(two_four_violations(mask), 0);
  EXPECT_TRUE((mask.slice(1, 28) == 1).all().item<bool>()) << "two of the four positions are padding already";
  EXPECT_TRUE((mask.slice(1, 0, 28).sum(1) == 14).all().item<bool>());
}

TEST(WeightNormSparsifier, LaterEntriesWinAndUnsetFieldsComeFromTheDefaults) {
  train::Model model(small_convnet(1));
  WeightNormSparsifier sparsifier(kTwoFour);
  SparseLayerConfig all_fc;
  all_fc.tensor_fqn = "fc*.weight";
  all_fc.sparsity_level = 0.25;
  SparseLayerConfig fc2;
  fc2.tensor_fqn = "fc2.weight";
  fc2.zeros_per_block = 1;
  SparseLayerConfig conv2;
  conv2.tensor_fqn = "conv2.weight";
  conv2.dense = true;
  conv2.why = "measured: it costs accuracy";
  sparsifier.prepare(model, {all_fc, fc2, conv2});

  ASSERT_EQ(names(sparsifier.groups()), (std::vector<std::string>{"fc1.weight", "fc2.weight"}));
  EXPECT_EQ(sparsifier.groups()[0].config, (MaskConfig{0.25, {1, 4}, 2, 2}));
  EXPECT_EQ(sparsifier.groups()[0].pattern, "2:4 in 0.25 of the blocks");
  EXPECT_EQ(sparsifier.groups()[1].config, (MaskConfig{1.0, {1, 4}, 1, 2}));
  EXPECT_EQ(sparsifier.groups()[1].pattern, "3:4");
  ASSERT_EQ(sparsifier.dense_layers().size(), 2U);
  EXPECT_EQ(sparsifier.dense_layers()[1].tensor_fqn, "conv2.weight");
  EXPECT_EQ(sparsifier.dense_layers()[1].reason, "measured: it costs accuracy");

  sparsifier.prepare(model, {conv2, all_fc}, /*layers_only=*/true);
  EXPECT_EQ(names(sparsifier.groups()), (std::vector<std::string>{"fc1.weight", "fc2.weight"}));
  EXPECT_EQ(sparsifier.dense_layers().size(), 1U) << "conv1 is nobody's business";
}

TEST(WeightNormSparsifier, RefusesUnknownNamesAndImpossibleValues) {
  train::Model model(small_convnet(1));
  WeightNormSparsifier sparsifier(kTwoFour);
  const auto prepare_with = [&](const std::function<void(SparseLayerConfig&)>& change) {
    SparseLayerConfig layer;
    layer.tensor_fqn = "fc1.weight";
    change(layer);
    return error_of([&] { sparsifier.prepare(model, {layer}); });
  };
  const Error unknown = prepare_with([](SparseLayerConfig& layer) { layer.tensor_fqn = "fc3.weight"; });
  EXPECT_EQ(unknown.category(), ErrorCategory::kNotFound);
  EXPECT_TRUE(contains(unknown.what(), "fc1.weight")) << unknown.what();
  EXPECT_TRUE(contains(unknown.what(), "fc3.weight")) << unknown.what();
  EXPECT_EQ(prepare_with([](SparseLayerConfig& layer) { layer.tensor_fqn = "lstm*.weight"; }).category(),
            ErrorCategory::kNotFound);

  const std::vector<std::function<void(SparseLayerConfig&)>> impossible = {
      [](SparseLayerConfig& layer) { layer.sparsity_level = 1.7; },
      [](SparseLayerConfig& layer) { layer.sparsity_level = -0.5; },
      [](SparseLayerConfig& layer) { layer.sparsity_level = std::numeric_limits<double>::quiet_NaN(); },
      [](SparseLayerConfig& layer) { layer.zeros_per_block = 5; },
      [](SparseLayerConfig& layer) { layer.zeros_per_block = -1; },
      [](SparseLayerConfig& layer) {
        layer.sparse_block_shape = {0, 4};
      },
      [](SparseLayerConfig& layer) { layer.norm = 3; }};
  for (std::size_t i = 0; i < impossible.size(); ++i) {
    const Error error = prepare_with(impossible[i]);
    EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument) << i;
    EXPECT_EQ(error.where(), "fc1.weight") << i;
  }
  EXPECT_EQ(error_of([] {
              WeightNormSparsifier wrong({1.7, {1, 4}, 2, 2});
            }).category(),
            ErrorCategory::kInvalidArgument);
  EXPECT_TRUE(sparsifier.groups().empty());

  EXPECT_EQ(error_of([&] { sparsifier.step(); }).category(), ErrorCategory::kState);
  sparsifier.prepare(model);
  sparsifier.groups()[0].sparsity_level = 1.5;
  EXPECT_EQ(error_of([&] { sparsifier.step(); }).category(), ErrorCategory::kInvalidArgument);
}

TEST(WeightNormSparsifier, UpdatesOneMaskByName) {
  train::Model model(small_convnet(1));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.update_mask("fc1.weight");
  EXPECT_TRUE(model.weight("fc1.weight").mask().defined());
  EXPECT_FALSE(model.weight("fc2.weight").mask().defined());
  const Error error = error_of([&] { sparsifier.update_mask("fc1.wieght"); });
  EXPECT_EQ(error.category(), ErrorCategory::kNotFound);
  EXPECT_TRUE(contains(error.what(), "fc1.weight")) << error.what();
}

// The peers take the norm of the weight that is masked already, so that what is masked once stays masked.
TEST(WeightNormSparsifier, LetsAWeightComeBack) {
  train::Model model(small_mlp(5));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.step();
  train::WeightPipeline& weight = model.weight("fc2.weight");
  const torch::Tensor before = weight.mask();
  const torch::Tensor dense = weight.dense().detach().clone();
  overwrite(weight, torch::where(before == 0, torch::full_like(dense, 3.0), dense));

  EXPECT_TRUE(torch::equal(weight_norm_mask(weight.masked(), kTwoFour), before))
      << "ranked on the masked weight: frozen";
  sparsifier.step();
  EXPECT_TRUE(torch::equal(weight.mask(), 1 - before)) << "ranked on the dense weight: all have come back";
  EXPECT_TRUE(((weight.used() == 3.0) == (before == 0)).all().item<bool>());
}

TEST(WeightNormSparsifier, HeldMasksStayAndMaskedWeightsGetNoGradient) {
  train::Model model(small_mlp(6));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.step();
  train::WeightPipeline& weight = model.weight("fc2.weight");
  const torch::Tensor mask = weight.mask();
  const torch::Tensor input = random_tensor({3, 1, 5, 6}, 8);
  const auto gradient = [&] {
    model.zero_grad();
    model.forward(input).pow(2).sum().backward();
    return weight.dense().grad().clone();
  };
  EXPECT_TRUE((gradient().masked_select(mask == 0) != 0).any().item<bool>()) << "straight-through until masks are held";

  sparsifier.hold_masks();
  EXPECT_TRUE(sparsifier.masks_held());
  EXPECT_EQ(weight.mask_gradient(), train::MaskGradient::kMasked);
  const torch::Tensor held = gradient();
  EXPECT_TRUE((held.masked_select(mask == 0) == 0).all().item<bool>());
  EXPECT_TRUE((held.masked_select(mask == 1) != 0).any().item<bool>());

  overwrite(weight, torch::flip(weight.dense().detach(), {1}).clone());
  sparsifier.step();
  sparsifier.update_mask("fc2.weight");
  EXPECT_TRUE(torch::equal(weight.mask(), mask));

  sparsifier.hold_masks(false);
  sparsifier.step();
  EXPECT_FALSE(torch::equal(weight.mask(), mask));
  EXPECT_EQ(weight.mask_gradient(), train::MaskGradient::kStraightThrough);
}

TEST(WeightNormSparsifier, LiftsMasksAndPreparesAnew) {
  train::Model model(small_mlp(7));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.set_sr_ste_decay(1e-3);
  sparsifier.step();
  sparsifier.hold_masks();
  const torch::Tensor dense = model.weight("fc2.weight").dense().detach().clone();
  sparsifier.lift_masks();
  EXPECT_FALSE(sparsifier.masks_held());
  EXPECT_TRUE(sparsifier.groups().empty());
  for (const auto& weight : model.weights()) {
    EXPECT_FALSE(weight->mask().defined());
    EXPECT_EQ(weight->mask_gradient(), train::MaskGradient::kStraightThrough);
    EXPECT_EQ(weight->sr_ste_decay(), 0.0);
  }
  EXPECT_TRUE(torch::equal(model.weight("fc2.weight").used(), dense)) << "what lay underneath is back";

  sparsifier.prepare(model);
  sparsifier.step();
  EXPECT_EQ(two_four_violations(model.weight("fc2.weight").used()), 0);
}

TEST(WeightNormSparsifier, TakesTheMaskOffALayerThatIsNowLeftDense) {
  train::Model model(small_mlp(8));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.step();
  SparseLayerConfig dense;
  dense.tensor_fqn = "fc2.weight";
  dense.dense = true;
  sparsifier.prepare(model, {dense});
  EXPECT_FALSE(model.weight("fc2.weight").mask().defined());
  EXPECT_TRUE(model.weight("fc1.weight").mask().defined()) << "until the next step";
}

TEST(WeightNormSparsifier, PullsMaskedWeightsTowardsZeroUnderSrSte) {
  const double decay = 0.25;
  train::Model model(small_mlp(9));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.set_sr_ste_decay(decay);
  sparsifier.prepare(model);
  sparsifier.step();
  const train::WeightPipeline& weight = model.weight("fc2.weight");
  const torch::Tensor input = random_tensor({2, 1, 5, 6}, 9);
  const auto gradient = [&] {
    model.zero_grad();
    model.forward(input).pow(2).sum().backward();
    return weight.dense().grad().clone();
  };
  const torch::Tensor with = gradient();
  sparsifier.set_sr_ste_decay(0.0);
  const torch::Tensor expected = decay * (1 - weight.mask()) * weight.dense().detach();
  EXPECT_TRUE(torch::allclose(with - gradient(), expected, 1e-4, 1e-6));
  for (const double wrong : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(error_of([&] { sparsifier.set_sr_ste_decay(wrong); }).category(), ErrorCategory::kInvalidArgument);
    WeightNormSparsifier unprepared(kTwoFour);
    EXPECT_EQ(error_of([&] { unprepared.set_sr_ste_decay(wrong); }).category(), ErrorCategory::kInvalidArgument);
  }
}

TEST(WeightNormSparsifier, StateSurvivesARoundTrip) {
  train::Model model(small_convnet(2));
  WeightNormSparsifier sparsifier(kTwoFour);
  sparsifier.prepare(model);
  sparsifier.set_sr_ste_decay(1.0 / 3.0);
  sparsifier.groups()[1].sparsity_level = 0.1 + 0.2;
  sparsifier.hold_masks();
  const std::string state = sparsifier.state();

  train::Model other_model(small_convnet(2));
  WeightNormSparsifier other(kTwoFour);
  other.prepare(other_model);
  EXPECT_NE(other.state(), state);
  other.load_state(state);
  EXPECT_EQ(other.state(), state);
  EXPECT_TRUE(other.masks_held());
  EXPECT_EQ(other.groups()[1].sparsity_level, 0.1 + 0.2);
  EXPECT_EQ(other_model.weight("fc1.weight").mask_gradient(), train::MaskGradient::kMasked);
  EXPECT_EQ(other_model.weight("fc1.weight").sr_ste_decay(), 1.0 / 3.0);
}

TEST(WeightNormSparsifier, RefusesAStateThatIsNotItsOwnAndStaysAsItWas) {
  train::Model model(small_convnet(2));
  WeightNormSparsifier sparsifier(kTwoFour);
  EXPECT_EQ(error_of([&] { sparsifier.load_state("{}"); }).category(), ErrorCategory::kState);
  sparsifier.prepare(model);
  const std::string own = sparsifier.state();

  train::Model mlp(small_mlp(2));
  WeightNormSparsifier of_mlp(kTwoFour);
  of_mlp.prepare(mlp);
  WeightNormSparsifier of_other_pattern(MaskConfig::from_pattern("1:4"));
  of_other_pattern.prepare(model);
  auto level = nlohmann::json::parse(own);
  level["groups"][2]["sparsity_level"] = 1.5;
  auto version = nlohmann::json::parse(own);
  version["version"] = 99;
  auto held = nlohmann::json::parse(own);
  held["held"] = "yes";
  auto decay = nlohmann::json::parse(own);
  decay["sr_ste_decay"] = -1;

  for (const std::string& wrong :
       {std::string(), std::string("{"), std::string("[]"), std::string("{}"), own.substr(0, own.size() / 2),
        of_mlp.state(), of_other_pattern.state(), level.dump(), version.dump(), held.dump(), decay.dump(),
        std::string("{\"version\":1}"), std::string("{\"version\":1,\"groups\":7}"),
        std::string("{\"version\":1,\"groups\":[1,2,3]}")}) {
    EXPECT_EQ(error_of([&] { sparsifier.load_state(wrong); }).category(), ErrorCategory::kCorruptData) << wrong;
    EXPECT_EQ(sparsifier.state(), own) << wrong;
  }
}

}  // namespace
}  // namespace pare::sparsity
