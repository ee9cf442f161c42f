#include "pare/sparsity/wanda_sparsifier.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "pare/base/testing.h"
#include "pare/sparsity/sparsifiers.h"
#include "pare/sparsity/testing/mask_reference.h"
#include "pare/sparsity/testing/small_model.h"

namespace pare::sparsity {
namespace {

using testing::reference_mask;
using testing::small_convnet;
using testing::small_mlp;

train::CalibrationSet random_set(std::vector<std::int64_t> shape, std::int64_t batches = 3) {
  return {.batches = batches,
          .batch =
              [shape](std::int64_t index) {
                torch::manual_seed(static_cast<std::uint64_t>(100 + index));
                return torch::randn(shape);
              },
          .progress = {}};
}

// Scores and mask by loops over the first layer, whose inputs are the images themselves.
TEST(Wanda, RanksByWeightTimesInputNormWithinEachOutput) {
  train::Model model(small_mlp(1));
  const train::CalibrationSet set = random_set({5, 1, 5, 6});
  std::vector<double> squares(30, 0.0);
  for (std::int64_t b = 0; b < set.batches; ++b) {
    const torch::Tensor images = set.batch(b).flatten(1).contiguous();
    for (std::int64_t i = 0; i < images.numel(); ++i) {
      squares[static_cast<std::size_t>(i % 30)] += std::pow(images.data_ptr<float>()[i], 2.0);
    }
  }
  const torch::Tensor weight = model.weight("fc1.weight").dense().detach().clone();
  const std::int64_t rows = weight.size(0);
  for (const MaskConfig& config :
       {MaskConfig::from_pattern("2:4"), MaskConfig{0.4, {1, 1}, 1}, MaskConfig::from_pattern("8:1:4")}) {
    SCOPED_TRACE(pattern_name(config));
    WandaSparsifier sparsifier(config);
    sparsifier.prepare(model);
    sparsifier.calibrate(set);
    sparsifier.step();
    const torch::Tensor mask = model.weight("fc1.weight").mask();
    std::vector<float> scores;
    for (std::int64_t i = 0; i < weight.numel(); ++i) {
      scores.push_back(std::fabs(weight.data_ptr<float>()[i]) *
                       static_cast<float>(std::sqrt(squares[static_cast<std::size_t>(i % 30)])));
    }
    std::vector<float> expected;
    if (config.elems_per_block() > 1) {
      expected = reference_mask(scores, {rows, 30}, config);
    } else {
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::vector<float> of_row(scores.begin() + row * 30, scores.begin() + (row + 1) * 30);
        const std::vector<float> part = reference_mask(of_row, {1, 30}, config);
        EXPECT_EQ(std::count(part.begin(), part.end(), 0.0F), 12);
        expected.insert(expected.end(), part.begin(), part.end());
      }
    }
    EXPECT_EQ(std::vector<float>(mask.data_ptr<float>(), mask.data_ptr<float>() + mask.numel()), expected);
    EXPECT_TRUE(torch::equal(model.weight("fc1.weight").dense(), weight)) << "weights do not change";
  }
}

// conv2 reads what relu and pool make of conv1: its inputs are taken apart pixel by pixel.
TEST(Wanda, OfAConvolutionTakesEachTapsChannelAsAnInput) {
  train::Model model(small_convnet(2));
  model.eval();
  const train::CalibrationSet set = random_set({2, 1, 8, 8}, 2);
  const torch::Tensor weight = model.weight("conv2.weight").dense().detach().clone();
  const std::int64_t outs = weight.size(0), ins = weight.size(1);
  std::vector<double> squares(static_cast<std::size_t>(9 * ins), 0.0);
  for (std::int64_t b = 0; b < set.batches; ++b) {
    torch::Tensor x =
        torch::conv2d(set.batch(b), model.weight("conv1.weight").dense().detach(), model.bias("conv1"), 1, 1);
    const auto state = model.state();
    std::map<std::string, torch::Tensor> named(state.begin(), state.end());
    x = torch::batch_norm(x, named.at("bn1.weight"), named.at("bn1.bias"), named.at("bn1.running_mean"),
                          named.at("bn1.running_var"), false, 0.1, 1e-5, false);
    x = torch::max_pool2d(torch::relu(x), 2).detach().contiguous();
    const std::int64_t height = x.size(2), width = x.size(3);
    const auto a = x.accessor<float, 4>();
    for (std::int64_t n = 0; n < x.size(0); ++n) {
      for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t z = 0; z < width; ++z) {
          for (std::int64_t tap = 0; tap < 9; ++tap) {
            const std::int64_t row = y + tap / 3 - 1, col = z + tap % 3 - 1;
            if (row < 0 || col < 0 || row >= height || col >= width) continue;
            for (std::int64_t i = 0; i < ins; ++i) {
              squares[static_cast<std::size_t>(tap * ins + i)] += std::pow(a[n][i][row][col], 2.0);
            }
          }
        }
      }
    }
  }
  WandaSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  sparsifier.calibrate(set);
  sparsifier.step();
  std::vector<float> scores, ours;
  const torch::Tensor mask = model.weight("conv2.weight").mask();
  for (std::int64_t tap = 0; tap < 9; ++tap) {
    for (std::int64_t o = 0; o < outs; ++o) {
      for (std::int64_t i = 0; i < ins; ++i) {
        scores.push_back(std::fabs(weight[o][i][tap / 3][tap % 3].item<float>()) *
                         static_cast<float>(std::sqrt(squares[static_cast<std::size_t>(tap * ins + i)])));
        ours.push_back(mask[o][i][tap / 3][tap % 3].item<float>());
      }
    }
  }
  EXPECT_EQ(ours, reference_mask(scores, {outs, ins, 9}, MaskConfig::from_pattern("2:4")));
}

TEST(Wanda, WantsDataThatTellsInputsApart) {
  train::Model model(small_mlp(3));
  WandaSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  EXPECT_PARE_ERROR(sparsifier.calibrate(random_set({5, 1, 5, 6})), kState, "prepare");
  sparsifier.prepare(model);
  EXPECT_PARE_ERROR(sparsifier.step(), kState, "calibrate()");
  EXPECT_PARE_ERROR(sparsifier.calibrate({}), kInvalidArgument, "empty");
  train::CalibrationSet zeros = random_set({5, 1, 5, 6});
  zeros.batch = [](std::int64_t) { return torch::zeros({5, 1, 5, 6}); };
  EXPECT_PARE_ERROR(sparsifier.calibrate(zeros), kInvalidArgument, "every input of the layer is 0");
  train::CalibrationSet broken = random_set({5, 1, 5, 6});
  broken.batch = [](std::int64_t) { return torch::full({5, 1, 5, 6}, NAN); };
  EXPECT_PARE_ERROR(sparsifier.calibrate(broken), kNumeric, "batch 0");
  EXPECT_TRUE(model.is_training()) << "the model's mode is restored";
}

TEST(Sparsifiers, AreFoundByName) {
  for (const std::string& name : sparsifier_names()) {
    const MaskConfig config = name == "global_magnitude" ? MaskConfig{0.5, {1, 1}, 1} : MaskConfig::from_pattern("2:4");
    EXPECT_EQ(make_sparsifier(name, config)->needs_calibration(), sparsifier_needs_calibration(name)) << name;
  }
  EXPECT_PARE_ERROR(make_sparsifier("wunda", {}), kInvalidArgument, "did you mean 'wanda'");
}

}  // namespace
}  // namespace pare::sparsity
