// Time of a training step: dense, masked (2:4, straight-through and held), side by side in one process, in turn.
//
//   train_step_bench [convnet|resnet20|mlp] [rounds] [threads]
//
// Prints the mean of each kind over all rounds and its ratio to dense. Means, not minima: page faults and the
// contention of two thread pools show only there. Batches are random; a step is zero_grad, forward, loss, backward,
// AdamW.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "pare/graph/builtin.h"
#include "pare/train/environment.h"
#include "pare/train/model.h"
#include "pare/train/optimizer.h"

namespace {

using pare::train::MaskGradient;
using pare::train::Model;

constexpr std::int64_t kBatchImages = 128;
constexpr int kStepsPerTurn = 20;

struct Contestant {
  std::string name;
  std::unique_ptr<Model> model;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  double seconds = 0.0;
  double forward_seconds = 0.0;
  double optimizer_seconds = 0.0;
  int steps = 0;
};

Contestant make(const std::string& network, const std::string& name, bool masked, MaskGradient gradient) {
  Contestant contestant;
  contestant.name = name;
  contestant.model = std::make_unique<Model>(pare::graph::builtin(network));
  if (masked) {
    for (const auto& pipeline : contestant.model->weights()) {
      torch::Tensor mask = torch::ones_like(pipeline->dense());
      mask.view({-1}).slice(0, 0, torch::nullopt, 2).zero_();
      pipeline->set_mask(mask);
      pipeline->set_mask_gradient(gradient);
    }
  }
  pare::train::OptimizerOptions options;
  options.lr = 1e-4;
  options.weight_decay = 5e-2;
  contestant.optimizer = pare::train::make_optimizer(*contestant.model, options);
  return contestant;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void turn(Contestant& contestant, const torch::Tensor& images, const torch::Tensor& labels, bool counted) {
  for (int step = 0; step < kStepsPerTurn; ++step) {
    const double start = now();
    pare::train::zero_grad(*contestant.optimizer);
    torch::Tensor loss = torch::nn::functional::cross_entropy(contestant.model->forward(images), labels);
    const double forward_end = now();
    loss.backward();
    const double backward_end = now();
    contestant.optimizer->step();
    const double end = now();
    if (counted) {
      contestant.seconds += end - start;
      contestant.forward_seconds += forward_end - start;
      contestant.optimizer_seconds += end - backward_end;
      ++contestant.steps;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string network = argc > 1 ? argv[1] : "convnet";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 10;
  pare::train::configure_process(argc > 3 ? static_cast<std::size_t>(std::atoi(argv[3])) : 0);
  torch::manual_seed(0);
  const torch::Tensor images = torch::randn({kBatchImages, 1, 28, 28});
  const torch::Tensor labels = torch::randint(0, 10, {kBatchImages}, torch::kInt64);

  std::vector<Contestant> contestants;
  contestants.push_back(make(network, "dense", false, MaskGradient::kStraightThrough));
  contestants.push_back(make(network, "2:4, masks moving", true, MaskGradient::kStraightThrough));
  contestants.push_back(make(network, "2:4, masks held", true, MaskGradient::kMasked));
  for (int round = -1; round < rounds; ++round) {
    for (Contestant& contestant : contestants) {
      turn(contestant, images, labels, round >= 0);
    }
  }
  std::printf("%s, batch %d, LibTorch %s, %d threads, mean of %d steps\n", network.c_str(),
              static_cast<int>(kBatchImages), pare::train::libtorch_version().c_str(), at::get_num_threads(),
              contestants.front().steps);
  std::printf("%-20s %9s %9s %9s %9s %7s\n", "", "step ms", "forward", "backward", "optimizer", "ratio");
  for (const Contestant& contestant : contestants) {
    const double to_ms = 1e3 / contestant.steps;
    std::printf("%-20s %9.2f %9.2f %9.2f %9.2f %7.3f\n", contestant.name.c_str(), contestant.seconds * to_ms,
                contestant.forward_seconds * to_ms,
                (contestant.seconds - contestant.forward_seconds - contestant.optimizer_seconds) * to_ms,
                contestant.optimizer_seconds * to_ms, contestant.seconds / contestants.front().seconds);
  }
  return 0;
}
