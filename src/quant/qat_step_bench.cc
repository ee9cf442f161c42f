// Time of a training step: dense, 2:4 with masks held, and QAT with and without moving observers, in turn, in one
// process.
//
//   qat_step_bench [convnet|mlp] [rounds] [threads]
//
// A step is zero_grad, forward, loss, backward, AdamW on a random batch. Prints median and mean of each kind over all
// rounds, and the ratio of means to dense; also the time of exact_forward over 10,000 images.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "pare/graph/builtin.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/train/environment.h"
#include "pare/train/model.h"
#include "pare/train/optimizer.h"

namespace {

using pare::train::Model;

constexpr std::int64_t kBatchImages = 128;
constexpr int kStepsPerTurn = 10;
constexpr std::int64_t kTestImages = 10000;

struct Contestant {
  std::string name;
  std::unique_ptr<Model> model;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  std::vector<double> milliseconds;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Every other weight.
void mask_half(Model& model) {
  for (const auto& pipeline : model.weights()) {
    torch::Tensor mask = torch::ones_like(pipeline->dense());
    mask.view({-1}).slice(0, 0, torch::nullopt, 2).zero_();
    pipeline->set_mask(mask);
    pipeline->set_mask_gradient(pare::train::MaskGradient::kMasked);
  }
}

void turn(Contestant& contestant, const torch::Tensor& images, const torch::Tensor& labels, bool counted) {
  for (int step = 0; step < kStepsPerTurn; ++step) {
    const double start = now();
    pare::train::zero_grad(*contestant.optimizer);
    torch::nn::functional::cross_entropy(contestant.model->forward(images), labels).backward();
    contestant.optimizer->step();
    if (counted) {
      contestant.milliseconds.push_back((now() - start) * 1e3);
    }
  }
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string network = argc > 1 ? argv[1] : "convnet";
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 10;
  pare::train::configure_process(argc > 3 ? static_cast<std::size_t>(std::atoi(argv[3])) : 0);
  torch::manual_seed(0);
  const torch::Tensor images = torch::randn({kBatchImages, 1, 28, 28});
  const torch::Tensor labels = torch::randint(0, 10, {kBatchImages}, torch::kInt64);

  std::vector<Contestant> contestants;
  const auto add = [&](const std::string& name, const std::function<void(Model&)>& prepare) {
    Contestant contestant{name, std::make_unique<Model>(pare::graph::builtin(network)), nullptr, {}};
    prepare(*contestant.model);
    contestant.optimizer = pare::train::make_optimizer(*contestant.model, {.lr = 1e-4, .weight_decay = 5e-2});
    contestants.push_back(std::move(contestant));
  };
  add("dense", [](Model&) {});
  add("2:4, masks held", mask_half);
  add("QAT", [](Model& model) { pare::quant::prepare_qat(model); });
  add("QAT, 2:4 held", [](Model& model) {
    mask_half(model);
    pare::quant::prepare_qat(model);
  });
  add("QAT, 2:4, frozen", [](Model& model) {
    mask_half(model);
    pare::quant::prepare_qat(model);
  });
  turn(contestants.back(), images, labels, false);
  pare::quant::freeze_observers(*contestants.back().model);

  for (int round = -1; round < rounds; ++round) {
    for (Contestant& contestant : contestants) {
      turn(contestant, images, labels, round >= 0);
    }
  }
  std::printf("%s, batch %d, LibTorch %s, %d threads, %zu steps each\n", network.c_str(),
              static_cast<int>(kBatchImages), pare::train::libtorch_version().c_str(), at::get_num_threads(),
              contestants.front().milliseconds.size());
  std::printf("%-20s %10s %10s %10s %10s\n", "", "median ms", "mean ms", "median x", "mean x");
  const std::vector<double>& dense = contestants.front().milliseconds;
  for (const Contestant& contestant : contestants) {
    const std::vector<double>& own = contestant.milliseconds;
    std::printf("%-20s %10.2f %10.2f %10.3f %10.3f\n", contestant.name.c_str(), median(own), mean(own),
                median(own) / median(dense), mean(own) / mean(dense));
  }

  const torch::Tensor test_images = torch::randn({kTestImages, 1, 28, 28});
  const double start = now();
  (void)pare::quant::exact_forward(*contestants.back().model, test_images);
  std::printf("exact_forward, %d images: %.2f s\n", static_cast<int>(kTestImages), now() - start);
  return 0;
}
