// The contract of the weight pipeline, seen from the sparsifier: whatever happens to a model, a masked weight is
// exactly 0 where it is used, and every group of four obeys 2:4.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "pare/format/affine.h"
#include "pare/sparsity/schedule.h"
#include "pare/sparsity/squash_mask.h"
#include "pare/sparsity/testing/small_model.h"
#include "pare/sparsity/weight_norm_sparsifier.h"
#include "pare/train/checkpoint.h"
#include "pare/train/optimizer.h"

namespace pare::sparsity {
namespace {

using testing::small_convnet;
using testing::two_four_violations;

// The least that stands in for quant's: int8, symmetric, a scale for each output channel from the weight that it sees.
class ChannelQuantizer : public train::FakeQuantizer {
 public:
  explicit ChannelQuantizer(std::int64_t channels) : scale_(register_buffer("scale", torch::ones({channels}))) {}

  torch::Tensor forward(const torch::Tensor& x) override {
    {
      const torch::NoGradGuard no_grad;
      scale_.copy_(x.detach().abs().flatten(1).amax(1).clamp_min(1e-8) / 127.0);
    }
    const torch::Tensor zero_points = torch::zeros({scale_.size(0)}, torch::kInt32);
    return torch::fake_quantize_per_channel_affine(x, scale_, zero_points, 0, -127, 127);
  }
  torch::Tensor quantize(const torch::Tensor& x) const override {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
    shape[0] = -1;
    return torch::clamp(torch::round(x / scale_.reshape(shape)), -127, 127).to(torch::kFloat64);
  }
  torch::Tensor scale() const override { return scale_; }
  std::int32_t zero_point() const override { return 0; }
  format::QuantRange range() const override { return {-127, 127}; }
  int axis() const override { return 0; }
  void enable_observer(bool enabled) override { static_cast<void>(enabled); }
  void enable_fake_quant(bool) override {}
  bool calibrated() const override { return true; }

 private:
  torch::Tensor scale_;
};

void expect_contract(const train::Model& model, const std::string& when) {
  int masked = 0;
  for (const auto& weight : model.weights()) {
    if (!weight->mask().defined()) {
      continue;
    }
    ++masked;
    const torch::NoGradGuard no_grad;
    const torch::Tensor gone = weight->mask() == 0;
    EXPECT_GT(gone.sum().item<std::int64_t>(), 0) << when << ": " << weight->fqn();
    EXPECT_TRUE((weight->used().masked_select(gone) == 0).all().item<bool>()) << when << ": " << weight->fqn();
    EXPECT_EQ(two_four_violations(weight->used()), 0) << when << ": " << weight->fqn();
    EXPECT_EQ(two_four_violations(weight->mask()), 0) << when << ": " << weight->fqn();
    if (weight->fake_quantizer() != nullptr) {
      EXPECT_TRUE((weight->codes().masked_select(gone) == 0).all().item<bool>()) << when << ": " << weight->fqn();
      EXPECT_EQ(two_four_violations(weight->codes()), 0) << when << ": " << weight->fqn();
    }
  }
  EXPECT_EQ(masked, 3) << when;
}

class Trainer {
 public:
  Trainer(train::Model& model, const train::OptimizerOptions& options)
      : model_(model), optimizer_(train::make_optimizer(model, options)) {}

  void step() {
    optimizer_->zero_grad();
    const torch::Tensor logits = model_.forward(torch::randn({8, 1, 8, 8}));
    torch::nn::functional::cross_entropy(logits, torch::randint(4, {8}, torch::kInt64)).backward();
    optimizer_->step();
  }

 private:
  train::Model& model_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

std::map<std::string, torch::Tensor> copy_of_state(const train::Model& model) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& [name, tensor] : model.state()) {
    state[name] = tensor.detach().clone();
  }
  return state;
}

class MaskedTraining : public ::testing::TestWithParam<train::OptimizerKind> {
 protected:
  static train::OptimizerOptions options() {
    train::OptimizerOptions options;
    options.kind = GetParam();
    options.lr = 1e-2;
    options.weight_decay = 1e-2;
    options.momentum = GetParam() == train::OptimizerKind::kSgd ? 0.9 : 0.0;
    return options;
  }
};

TEST_P(MaskedTraining, KeepsZerosAndPatternFromTheFirstMaskToTheSquash) {
  torch::manual_seed(3);
  train::Model model(small_convnet(3));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  SparsitySchedule schedule;
  schedule.update_every = 3;
  schedule.hold_step = 9;
  SparsityScheduler scheduler(sparsifier, schedule);
  scheduler.begin();
  expect_contract(model, "first mask");

  const torch::Tensor first_mask = model.weight("fc1.weight").mask();
  {
    Trainer trainer(model, options());
    for (int step = 1; step <= 12; ++step) {
      trainer.step();
      expect_contract(model, "after optimizer step " + std::to_string(step));
      scheduler.after(step);
      expect_contract(model, "after mask update " + std::to_string(step));
    }
  }
  EXPECT_TRUE(sparsifier.masks_held());
  const torch::Tensor held_mask = model.weight("fc1.weight").mask();
  EXPECT_FALSE(torch::equal(held_mask, first_mask)) << "training moved the masks before they were held";

  model.fold_batch_norm();
  expect_contract(model, "after folding batch norm");
  EXPECT_EQ(model.weight("conv2.weight").mask_gradient(), train::MaskGradient::kMasked);

  for (const auto& weight : model.weights()) {
    model.set_weight_quantizer(weight->fqn(), std::make_shared<ChannelQuantizer>(weight->dense().size(0)));
  }
  model.set_qat_state(train::QatState::kPrepared);
  {
    Trainer trainer(model, options());
    for (int step = 1; step <= 4; ++step) {
      trainer.step();
      scheduler.after(12 + step);
      expect_contract(model, "after QAT step " + std::to_string(step));
    }
  }
  EXPECT_TRUE(torch::equal(model.weight("fc1.weight").mask(), held_mask));

  model.set_qat_state(train::QatState::kFinished);
  const torch::Tensor used = model.weight("fc1.weight").used().detach().clone();
  squash_mask(model);
  for (const char* name : {"conv2.weight", "fc1.weight", "fc2.weight"}) {
    EXPECT_EQ(two_four_violations(model.weight(name).dense()), 0) << name;
    EXPECT_EQ(two_four_violations(model.weight(name).codes()), 0) << name;
  }
  EXPECT_TRUE(torch::equal(model.weight("fc1.weight").used(), used)) << "squashing changes nothing that is used";
}

// The peers' checkpoints lose masks: save, load, save, load, and every group is broken.
TEST_P(MaskedTraining, SurvivesCheckpointsSavedAndLoadedTwice) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("pare_masked_training_" + std::to_string(::getpid()) + ".ckpt");
  torch::manual_seed(4);
  train::Model original(small_convnet(4));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(original);
  sparsifier.set_sr_ste_decay(2e-4);
  sparsifier.step();
  {
    Trainer trainer(original, options());
    trainer.step();
  }
  auto state = copy_of_state(original);
  std::string sparsifier_state = sparsifier.state();

  for (int round = 1; round <= 2; ++round) {
    train::Checkpoint checkpoint;
    checkpoint.tensors = state;
    checkpoint.metadata["sparsifier"] = sparsifier_state;
    train::write_checkpoint(path, checkpoint);
    const train::Checkpoint read = train::read_checkpoint(path);

    train::Model model(small_convnet(100));
    WeightNormSparsifier restored(MaskConfig::from_pattern("2:4"));
    restored.prepare(model);
    model.load_state(read.tensors);
    restored.load_state(read.metadata.at("sparsifier"));
    const std::string when = "after load " + std::to_string(round);
    expect_contract(model, when);
    for (const auto& weight : original.weights()) {
      const train::WeightPipeline& other = model.weight(weight->fqn());
      EXPECT_TRUE(torch::equal(weight->dense(), other.dense())) << when;
      EXPECT_EQ(weight->mask().defined(), other.mask().defined()) << when;
      EXPECT_TRUE(!weight->mask().defined() || torch::equal(weight->mask(), other.mask())) << when;
      EXPECT_EQ(weight->sr_ste_decay(), other.sr_ste_decay()) << when;
    }
    state = copy_of_state(model);
    sparsifier_state = restored.state();

    restored.step();
    Trainer trainer(model, options());
    trainer.step();
    expect_contract(model, when + " and a step");
  }
  std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, MaskedTraining,
                         ::testing::Values(train::OptimizerKind::kSgd, train::OptimizerKind::kAdam,
                                           train::OptimizerKind::kAdamW),
                         [](const auto& kind) {
                           return kind.param == train::OptimizerKind::kSgd    ? "SgdMomentum"
                                  : kind.param == train::OptimizerKind::kAdam ? "Adam"
                                                                              : "AdamW";
                         });

}  // namespace
}  // namespace pare::sparsity
