// Time of a training step: dense, 2:4 with masks that move (every 8 steps, as recipes have it) and that are held, and
// QAT with and without moving observers, in turn, in one process.
//
//   qat_step_bench [convnet|resnet20|mlp] [rounds] [threads]
//
// A step is zero_grad, forward, loss, backward, AdamW on a random batch. Prints the median of each kind over all
// rounds, the CPU time of the process, which is what to look at where others use the machine (with one thread: with
// more, those that wait count as well), and their ratios to dense; also the time of exact_forward over 1,000 images.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pare/graph/builtin.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/sparsity/sparsifiers.h"
#include "pare/train/environment.h"
#include "pare/train/model.h"
#include "pare/train/optimizer.h"

namespace {

using pare::train::Model;

constexpr std::int64_t kBatchImages = 128;
constexpr int kStepsPerTurn = 8;
constexpr std::int64_t kTestImages = 1000;

struct Contestant {
  std::string name;
  std::unique_ptr<Model> model;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  std::unique_ptr<pare::sparsity::Sparsifier> sparsifier;  // moves the masks after every turn; may be null
  std::vector<double> milliseconds = {};
  double cpu_seconds = 0.0;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double cpu_now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::unique_ptr<pare::sparsity::Sparsifier> mask(Model& model, const std::string& pattern, bool held) {
  auto sparsifier = pare::sparsity::make_sparsifier("weight_norm", pare::sparsity::MaskConfig::from_pattern(pattern));
  sparsifier->prepare(model);
  sparsifier->step();
  sparsifier->hold_masks(held);
  return sparsifier;
}

void turn(Contestant& contestant, const torch::Tensor& images, const torch::Tensor& labels, bool counted) {
  const double cpu_start = cpu_now();
  for (int step = 0; step < kStepsPerTurn; ++step) {
    const double start = now();
    pare::train::zero_grad(*contestant.optimizer);
    torch::nn::functional::cross_entropy(contestant.model->forward(images), labels).backward();
    contestant.optimizer->step();
    if (step == kStepsPerTurn - 1 && contestant.sparsifier != nullptr) {
      contestant.sparsifier->step();
    }
    if (counted) {
      contestant.milliseconds.push_back((now() - start) * 1e3);
    }
  }
  contestant.cpu_seconds += counted ? cpu_now() - cpu_start : 0.0;
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
  const auto add = [&](const std::string& name,
                       const std::function<std::unique_ptr<pare::sparsity::Sparsifier>(Model&)>& prepare) {
    Contestant contestant{name, std::make_unique<Model>(pare::graph::builtin(network)), nullptr, nullptr};
    contestant.sparsifier = prepare(*contestant.model);
    contestant.optimizer = pare::train::make_optimizer(*contestant.model, {.lr = 1e-4, .weight_decay = 5e-2});
    contestants.push_back(std::move(contestant));
  };
  add("dense", [](Model&) { return nullptr; });
  add("2:4, masks moving", [](Model& model) { return mask(model, "2:4", false); });
  add("2:4t, masks moving", [](Model& model) { return mask(model, "2:4t", false); });
  add("2:4, masks held", [](Model& model) { return mask(model, "2:4", true); });
  add("QAT", [](Model& model) {
    pare::quant::prepare_qat(model);
    return nullptr;
  });
  for (const char* name : {"QAT, 2:4 held", "QAT, 2:4, frozen"}) {
    add(name, [](Model& model) {
      auto sparsifier = mask(model, "2:4", true);
      pare::quant::prepare_qat(model);
      return sparsifier;
    });
  }
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
  std::printf("%-20s %10s %10s %10s %10s\n", "", "median ms", "CPU ms", "median x", "CPU x");
  const Contestant& dense = contestants.front();
  for (const Contestant& contestant : contestants) {
    const std::vector<double>& own = contestant.milliseconds;
    std::printf("%-20s %10.2f %10.2f %10.3f %10.3f\n", contestant.name.c_str(), median(own),
                contestant.cpu_seconds * 1e3 / static_cast<double>(own.size()),
                median(own) / median(dense.milliseconds), contestant.cpu_seconds / dense.cpu_seconds);
  }

  const torch::Tensor test_images = torch::randn({kTestImages, 1, 28, 28});
  const double start = now();
  (void)pare::quant::exact_forward(*contestants.back().model, test_images);
  std::printf("exact_forward, %d images: %.2f s\n", static_cast<int>(kTestImages), now() - start);
  return 0;
}
