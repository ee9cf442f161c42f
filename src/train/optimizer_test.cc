#include "pare/train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "pare/base/testing.h"
#include "pare/train/optimizer_step.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using pare::testing::error_of;
using testing::copy_of_state;
using testing::first_difference;
using testing::half_mask;
using testing::random_images;
using testing::random_labels;
using testing::tiny_graph;

std::vector<OptimizerOptions> all_rules() {
  OptimizerOptions sgd;
  sgd.kind = OptimizerKind::kSgd;
  sgd.lr = 0.05;
  sgd.weight_decay = 0.01;
  OptimizerOptions momentum = sgd;
  momentum.momentum = 0.9;
  OptimizerOptions nesterov = momentum;
  nesterov.nesterov = true;
  OptimizerOptions adam;
  adam.kind = OptimizerKind::kAdam;
  adam.lr = 0.01;
  adam.weight_decay = 0.02;
  OptimizerOptions adamw = adam;
  adamw.kind = OptimizerKind::kAdamW;
  return {sgd, momentum, nesterov, adam, adamw};
}

void train_steps(Model& model, torch::optim::Optimizer& optimizer, int first, int count) {
  model.train();
  for (int step = first; step < first + count; ++step) {
    zero_grad(optimizer);
    const auto seed = static_cast<std::uint64_t>(step);
    torch::nn::functional::cross_entropy(model.forward(random_images(8, seed)), random_labels(8, 3, seed)).backward();
    optimizer.step();
  }
}

// LibTorch's own optimizer of the same rule, with decay on tensors of more than one dimension.
std::unique_ptr<torch::optim::Optimizer> libtorch_optimizer(const Model& model, const OptimizerOptions& options) {
  std::vector<torch::Tensor> groups[2];
  for (const torch::Tensor& parameter : model.parameters()) {
    groups[parameter.dim() > 1 ? 0 : 1].push_back(parameter);
  }
  const auto make = [&](auto own, auto make_optimizer_of) {
    auto plain = own;
    plain.weight_decay(0.0);
    std::vector<torch::optim::OptimizerParamGroup> params;
    params.emplace_back(groups[0], std::make_unique<decltype(own)>(own));
    params.emplace_back(groups[1], std::make_unique<decltype(own)>(plain));
    auto optimizer = make_optimizer_of(params, own);
    // LibTorch 2.13 takes a 0 for "not set", and the defaults instead.
    static_cast<decltype(own)&>(optimizer->param_groups().back().options()).weight_decay(0.0);
    return optimizer;
  };
  using Pointer = std::unique_ptr<torch::optim::Optimizer>;
  using namespace torch::optim;
  switch (options.kind) {
    case OptimizerKind::kSgd:
      return make(SGDOptions(options.lr)
                      .momentum(options.momentum)
                      .nesterov(options.nesterov)
                      .weight_decay(options.weight_decay),
                  [](auto params, auto own) -> Pointer { return std::make_unique<SGD>(params, own); });
    case OptimizerKind::kAdam:
      return make(AdamOptions(options.lr).weight_decay(options.weight_decay),
                  [](auto params, auto own) -> Pointer { return std::make_unique<Adam>(params, own); });
    default:
      return make(AdamWOptions(options.lr).weight_decay(options.weight_decay),
                  [](auto params, auto own) -> Pointer { return std::make_unique<AdamW>(params, own); });
  }
}

TEST(Optimizer, StepsAsLibTorchsOfTheSameRule) {
  for (const OptimizerOptions& options : all_rules()) {
    // One step from equal state, gradients and moments included: the only difference is the order of roundings.
    Model ours(tiny_graph(3));
    Model theirs(tiny_graph(3));
    const auto our_optimizer = make_optimizer(ours, options);
    const auto their_optimizer = libtorch_optimizer(theirs, options);
    const auto our_parameters = ours.parameters();
    const auto their_parameters = theirs.parameters();
    torch::manual_seed(5);
    for (int step = 0; step < 4; ++step) {
      for (std::size_t i = 0; i < our_parameters.size(); ++i) {
        our_parameters[i].mutable_grad() = torch::randn(our_parameters[i].sizes());
        their_parameters[i].mutable_grad() = our_parameters[i].grad().clone();
      }
      our_optimizer->step();
      their_optimizer->step();
    }
    for (std::size_t i = 0; i < our_parameters.size(); ++i) {
      // Weights stay near 1; each of 4 steps rounds about 8 times.
      EXPECT_TRUE(torch::allclose(our_parameters[i], their_parameters[i], 32 * 1.2e-7, 32 * 1.2e-7))
          << "kind " << static_cast<int>(options.kind) << " parameter " << i << " differs by "
          << (our_parameters[i] - their_parameters[i]).abs().max().item<float>();
    }
  }
}

TEST(Optimizer, WeightDecayLeavesBiasesAndBatchNormAlone) {
  for (OptimizerOptions options : all_rules()) {
    Model model(tiny_graph());
    options.weight_decay = 0.1;
    const auto optimizer = make_optimizer(model, options);
    const auto before = copy_of_state(model);
    for (const torch::Tensor& parameter : model.parameters()) {
      parameter.mutable_grad() = torch::zeros_like(parameter);
    }
    optimizer->step();
    for (const auto& item : model.named_parameters()) {
      const bool is_weight = item.key() == "conv1.weight" || item.key() == "fc1.weight";
      EXPECT_EQ(!torch::equal(item.value(), before.at(item.key())), is_weight) << item.key();
    }
  }
}

TEST(Optimizer, ParametersWithoutGradientAreLeftAlone) {
  Model model(tiny_graph());
  const auto optimizer = make_optimizer(model, all_rules().back());
  const auto before = copy_of_state(model);
  optimizer->step();
  EXPECT_EQ(first_difference(before, copy_of_state(model)), "");
}

TEST(Optimizer, MaskedWeightsStayZeroThroughEveryRule) {
  for (const MaskGradient gradient : {MaskGradient::kStraightThrough, MaskGradient::kMasked}) {
    for (const OptimizerOptions& options : all_rules()) {
      Model model(tiny_graph(1));
      const auto optimizer = make_optimizer(model, options);
      train_steps(model, *optimizer, 0, 3);  // momentum from before the masks
      for (const auto& pipeline : model.weights()) {
        pipeline->set_mask(half_mask(pipeline->dense()));
        pipeline->set_mask_gradient(gradient);
        pipeline->set_sr_ste_decay(2e-4);
      }
      for (int step = 3; step < 10; ++step) {
        train_steps(model, *optimizer, step, 1);
        for (const auto& pipeline : model.weights()) {
          const torch::Tensor out = pipeline->used().masked_select(pipeline->mask() == 0);
          EXPECT_TRUE(testing::same_bits(out, torch::zeros_like(out))) << pipeline->fqn();
          EXPECT_GT(pipeline->used().masked_select(pipeline->mask() == 1).count_nonzero().item<std::int64_t>(), 0);
        }
      }
    }
  }
}

TEST(Optimizer, StraightThroughWeightsGoOnLearningUnderneath) {
  Model model(tiny_graph(1));
  WeightPipeline& weight = model.weight("fc1.weight");
  weight.set_mask(half_mask(weight.dense()));
  OptimizerOptions options;
  options.kind = OptimizerKind::kSgd;
  options.lr = 0.05;
  const auto optimizer = make_optimizer(model, options);
  const torch::Tensor before = weight.dense().detach().clone();
  train_steps(model, *optimizer, 0, 1);
  const torch::Tensor moved = (weight.dense().detach() != before).masked_select(weight.mask() == 0);
  EXPECT_GT(moved.count_nonzero().item<std::int64_t>(), 0);

  weight.set_mask_gradient(MaskGradient::kMasked);
  const torch::Tensor held = weight.dense().detach().clone();
  train_steps(model, *optimizer, 1, 1);
  const torch::Tensor moved_after = (weight.dense().detach() != held).masked_select(weight.mask() == 0);
  EXPECT_EQ(moved_after.count_nonzero().item<std::int64_t>(), 0);
}

TEST(Optimizer, TrainingTwiceFromOneSeedGivesTheSameBits) {
  for (const OptimizerOptions& options : all_rules()) {
    std::map<std::string, torch::Tensor> results[2];
    for (auto& result : results) {
      Model model(tiny_graph(2));
      const auto optimizer = make_optimizer(model, options);
      train_steps(model, *optimizer, 0, 10);
      result = copy_of_state(model);
    }
    EXPECT_EQ(first_difference(results[0], results[1]), "");
  }
}

TEST(Optimizer, SavedAndLoadedTrainingContinuesBitForBit) {
  for (const OptimizerOptions& options : all_rules()) {
    Model uninterrupted(tiny_graph(2));
    uninterrupted.set_mask("fc1.weight", half_mask(uninterrupted.weight("fc1.weight").dense()));
    const auto optimizer = make_optimizer(uninterrupted, options);
    train_steps(uninterrupted, *optimizer, 0, 4);
    const auto state = copy_of_state(uninterrupted);
    const std::string bytes = save_optimizer(*optimizer);
    train_steps(uninterrupted, *optimizer, 4, 5);

    Model resumed(tiny_graph(77));
    resumed.load_state(state);
    const auto resumed_optimizer = make_optimizer(resumed, options);
    load_optimizer(*resumed_optimizer, bytes);
    EXPECT_EQ(save_optimizer(*resumed_optimizer), bytes);
    train_steps(resumed, *resumed_optimizer, 4, 5);
    EXPECT_EQ(first_difference(copy_of_state(uninterrupted), copy_of_state(resumed)), "");
    EXPECT_EQ(save_optimizer(*optimizer), save_optimizer(*resumed_optimizer));
  }
}

TEST(Optimizer, DamagedOrForeignStatesAreRefusedAndChangeNothing) {
  Model model(tiny_graph());
  const auto rules = all_rules();
  const auto adam = make_optimizer(model, rules[3]);
  train_steps(model, *adam, 0, 2);
  const std::string bytes = save_optimizer(*adam);
  Model other(tiny_graph(0, 4));
  std::vector<std::string> bad = {"", "pare", bytes + "x", save_optimizer(*make_optimizer(model, rules[1])),
                                  save_optimizer(*make_optimizer(other, rules[3]))};
  for (std::size_t length = 1; length < bytes.size(); length += 97) {
    bad.push_back(bytes.substr(0, length));
  }
  for (const std::size_t at : {std::size_t{0}, std::size_t{17}, std::size_t{25}, std::size_t{40}, std::size_t{48}}) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x80);
    flipped[at + 7] = static_cast<char>(flipped[at + 7] ^ 0x80);
    bad.push_back(flipped);
  }
  for (const std::string& state : bad) {
    const auto error = error_of([&] { load_optimizer(*adam, state); });
    ASSERT_TRUE(error.has_value()) << state.size();
    EXPECT_EQ(error->category(), ErrorCategory::kCorruptData);
    EXPECT_EQ(save_optimizer(*adam), bytes);
  }
}

TEST(Optimizer, AnOptimizerOfLibTorchsOwnIsNotMistakenForOurs) {
  Model model(tiny_graph());
  const auto theirs = libtorch_optimizer(model, all_rules().back());
  const auto error = error_of([&] { (void)save_optimizer(*theirs); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->category(), ErrorCategory::kInvalidArgument);
}

TEST(Optimizer, SetLearningRateReachesEveryGroup) {
  Model model(tiny_graph());
  const auto optimizer = make_optimizer(model, all_rules().back());
  set_learning_rate(*optimizer, 0.125);
  for (const auto& group : optimizer->param_groups()) {
    EXPECT_EQ(group.options().get_lr(), 0.125);
  }
  EXPECT_EQ(optimizer->param_groups().size(), 2U);
}

TEST(Optimizer, ZeroGradDropsGradients) {
  Model model(tiny_graph());
  const auto optimizer = make_optimizer(model, all_rules().front());
  train_steps(model, *optimizer, 0, 1);
  ASSERT_TRUE(model.parameters().front().grad().defined());
  zero_grad(*optimizer);
  for (const torch::Tensor& parameter : model.parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

TEST(Optimizer, ImpossibleOptionsAreRefused) {
  const double nan = std::nan("");
  const std::vector<std::function<void(OptimizerOptions&)>> faults = {[](auto& o) { o.lr = 0.0; },
                                                                      [](auto& o) { o.lr = -1.0; },
                                                                      [&](auto& o) { o.lr = nan; },
                                                                      [](auto& o) { o.weight_decay = -0.1; },
                                                                      [&](auto& o) { o.weight_decay = nan; },
                                                                      [](auto& o) { o.beta1 = 1.0; },
                                                                      [](auto& o) { o.beta2 = -0.1; },
                                                                      [](auto& o) { o.eps = 0.0; },
                                                                      [](auto& o) { o.momentum = 0.9; },
                                                                      [](auto& o) { o.nesterov = true; }};
  OptimizerOptions().validate();
  for (std::size_t i = 0; i < faults.size(); ++i) {
    OptimizerOptions options;
    faults[i](options);
    const auto error = error_of([&] { options.validate(); });
    ASSERT_TRUE(error.has_value()) << "fault " << i;
    EXPECT_EQ(error->category(), ErrorCategory::kInvalidArgument);
  }
}

TEST(LrSchedule, ConstantStaysAndWarmUpClimbsToIt) {
  LrSchedule schedule;
  schedule.warmup_steps = 4;
  const double expected[] = {0.25, 0.5, 0.75, 1.0, 1.0, 1.0};
  for (int step = 0; step < 6; ++step) {
    EXPECT_DOUBLE_EQ(schedule.at(1.0, step, 6, 3), expected[step]) << step;
  }
}

TEST(LrSchedule, StepMultipliesAtEachMilestone) {
  LrSchedule schedule;
  schedule.curve = LrCurve::kStep;
  schedule.milestones = {1.0, 2.5};
  schedule.gamma = 0.1;
  const auto at = [&](std::int64_t step) { return schedule.at(8.0, step, 40, 10); };
  EXPECT_DOUBLE_EQ(at(9), 8.0);
  EXPECT_DOUBLE_EQ(at(10), 0.8);
  EXPECT_DOUBLE_EQ(at(24), 0.8);
  EXPECT_NEAR(at(25), 0.08, 1e-15);
}

TEST(LrSchedule, CosineRunsFromBaseToItsFinalFraction) {
  LrSchedule schedule;
  schedule.curve = LrCurve::kCosine;
  schedule.warmup_steps = 10;
  schedule.final_fraction = 0.1;
  const std::int64_t total = 110;
  EXPECT_DOUBLE_EQ(schedule.at(2.0, 10, total, 10), 2.0);
  EXPECT_NEAR(schedule.at(2.0, 60, total, 10), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  for (std::int64_t step = 10; step < total; ++step) {
    const double p = static_cast<double>(step - 10) / 100.0;
    EXPECT_NEAR(schedule.at(2.0, step, total, 10), 2.0 * (0.1 + 0.45 * (1.0 + std::cos(std::numbers::pi * p))), 1e-12);
  }
  EXPECT_NEAR(schedule.at(2.0, total, total, 10), 0.2, 1e-12);
  EXPECT_NEAR(schedule.at(2.0, total + 50, total, 10), 0.2, 1e-12) << "it does not climb again past the end";
}

TEST(LrSchedule, WarmUpAsLongAsTheStageIsNoDivisionByZero) {
  LrSchedule schedule;
  schedule.curve = LrCurve::kCosine;
  schedule.warmup_steps = 5;
  for (std::int64_t step = 0; step < 6; ++step) {
    EXPECT_TRUE(std::isfinite(schedule.at(1.0, step, 5, 5)));
  }
}

TEST(LrSchedule, ImpossibleSchedulesAreRefused) {
  const std::vector<std::function<void(LrSchedule&)>> faults = {[](auto& s) { s.warmup_steps = -1; },
                                                                [](auto& s) { s.final_fraction = 1.5; },
                                                                [](auto& s) { s.gamma = 0.0; },
                                                                [](auto& s) { s.curve = LrCurve::kStep; },
                                                                [](auto& s) {
                                                                  s.milestones = {2.0, 1.0};
                                                                },
                                                                [](auto& s) { s.milestones = {std::nan("")}; }};
  for (std::size_t i = 0; i < faults.size(); ++i) {
    LrSchedule schedule;
    faults[i](schedule);
    const auto error = error_of([&] { schedule.validate(); });
    ASSERT_TRUE(error.has_value()) << "fault " << i;
    EXPECT_EQ(error->category(), ErrorCategory::kInvalidArgument);
  }
}

}  // namespace
}  // namespace pare::train
