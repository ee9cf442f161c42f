#include "pare/pipeline/report/report_sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "pare/base/rng.h"

namespace pare::pipeline {
namespace {

constexpr std::int64_t kStepsPerEpoch = 469;
constexpr std::array<double, 14> kEpochAccuracies{85.31, 88.42, 89.05, 90.77, 91.28, 92.11, 92.64,
                                                  93.07, 91.62, 92.35, 92.71, 92.58, 92.83, 92.96};

void add_stage(RunRecord& record, const StageRecord& stage, double loss_at_start, double loss_at_end) {
  Rng rng(7, record.stages.size());
  const double steps = static_cast<double>(stage.steps);
  const std::int64_t window = stage.steps / 200;
  for (std::int64_t i = window - 1; i < stage.steps; i += window) {
    const std::int64_t step = stage.first_step + i + 1;
    const double done = static_cast<double>(i) / steps;
    const double decay = stage.kind == "dense" ? std::exp(-9.0 * done) : std::exp(-22.0 * done);
    const double warm_start = stage.kind == "dense" ? 1.8 * std::exp(-static_cast<double>(i) / 25.0) : 0.0;
    const double mean = loss_at_end + (loss_at_start - loss_at_end) * (0.45 * decay + 0.55 * (1.0 - done)) + warm_start;
    record.series["loss"].push_back({step, mean * std::exp(0.09 * static_cast<double>(rng.normal()))});
    const double warm_up = std::min(1.0, static_cast<double>(i + 1) / 100.0);
    record.series["lr"].push_back({step, stage.lr * warm_up * 0.5 * (1.0 + std::cos(std::numbers::pi * done))});
    if (stage.kind == "sparse" || (i + 1) % kStepsPerEpoch < window) {
      const double ramp = std::clamp(done * 2.0, 0.0, 1.0);
      const double level = stage.kind == "dense" ? 0.0 : stage.kind == "qat" ? 1.0 : 1.0 - std::pow(1.0 - ramp, 3.0);
      record.series["sparsity"].push_back({step, 0.4982 * level});
    }
  }
  for (std::int64_t epoch = 1; epoch * kStepsPerEpoch <= stage.steps; ++epoch) {
    const std::int64_t step = stage.first_step + epoch * kStepsPerEpoch;
    record.series["accuracy"].push_back({step, kEpochAccuracies.at(record.series["accuracy"].size())});
  }
  record.stages.push_back(stage);
}

}  // namespace

RunRecord sample_record() {
  RunRecord record;
  record.recipe = "fashion_mnist";
  add_stage(record, {"dense", "dense", 8, 203.4127, 93.07, 0.1342, 0.0, 3e-3, 54.21, 0, 8 * kStepsPerEpoch}, 0.52,
            0.132);
  add_stage(
      record,
      {"sparse", "sparse", 3, 78.9031, 92.71, 0.1518, 0.4982, 1e-3, 56.07, 8 * kStepsPerEpoch, 3 * kStepsPerEpoch},
      0.27, 0.149);
  add_stage(record,
            {"qat", "qat", 3, 112.5588, 92.96, 0.1463, 0.4982, 3e-4, 80.0, 11 * kStepsPerEpoch, 3 * kStepsPerEpoch},
            0.17, 0.145);
  record.layers = {
      {"conv1",
       "QLinearConv",
       "uint8 x int8",
       {32, 1, 3, 3},
       "dense",
       3,
       8,
       544,
       "qconv_u8_s8_scalar",
       "one input channel"},
      {"conv2", "QLinearConv", "uint8 x int8", {64, 32, 3, 3}, "2:4", 9216, 8, 12032, "qconv_2_4_u8_s8_scalar", ""},
      {"fc1", "QGemm", "uint8 x int8", {256, 3136}, "2:4", 401408, 8, 503808, "qgemm_2_4_u8_s8_scalar", ""},
      {"fc2", "QGemm", "uint8 x int8", {10, 256}, "2:4", 1280, 8, 1680, "qgemm_2_4_u8_s8_scalar", ""},
  };
  record.artifact = {"runs/fashion_mnist/model.pare", 523776, 3298600};
  record.runtime = {92.96, 10000, 0};
  record.accepted_drop = 0.5;
  record.environment = {
      {"pare", "0.1.0"}, {"libtorch", "1.13.1"}, {"compiler", "GCC 12.2.0"}, {"cpu", "AMD EPYC 9R14"}, {"threads", "2"},
      {"isa", "scalar"}, {"seed", "0"},          {"device", "cpu"}};
  record.class_names = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                        "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  record.confusion = {
      {885, 0, 15, 11, 3, 1, 80, 0, 5, 0},  {1, 987, 0, 8, 1, 0, 2, 0, 1, 0},    {14, 1, 896, 7, 41, 0, 41, 0, 0, 0},
      {9, 3, 8, 938, 20, 0, 21, 0, 1, 0},   {1, 1, 36, 20, 899, 0, 42, 0, 1, 0}, {0, 0, 0, 0, 0, 987, 0, 10, 0, 3},
      {88, 0, 47, 20, 54, 0, 782, 0, 9, 0}, {0, 0, 0, 0, 0, 4, 0, 981, 0, 15},   {2, 1, 2, 2, 2, 1, 2, 1, 987, 0},
      {1, 0, 0, 0, 0, 6, 0, 39, 0, 954},
  };
  return record;
}

}  // namespace pare::pipeline
