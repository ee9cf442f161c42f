// pare inside a training loop of one's own: dense, then 2:4 with the mask held through QAT, then the artifact.
//
//   pare_example_train model.pare            trains for a few seconds on synthetic images
//   pare-run inspect model.pare
//
// The calls that matter are marked 1 to 9. Everything else is an ordinary LibTorch loop.
#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "pare/base/error.h"
#include "pare/graph/artifact.h"
#include "pare/graph/builtin.h"
#include "pare/quant/convert.h"
#include "pare/quant/exact.h"
#include "pare/quant/qat.h"
#include "pare/runtime/session.h"
#include "pare/sparsity/squash_mask.h"
#include "pare/sparsity/weight_norm_sparsifier.h"
#include "pare/train/environment.h"
#include "pare/train/model.h"

namespace {

constexpr std::int64_t kClasses = 4;
constexpr std::int64_t kSide = 12;
constexpr float kMean = 0.5F;
constexpr float kStd = 0.25F;

struct Images {
  torch::Tensor pixels;  // uint8 [n, 1, kSide, kSide]
  torch::Tensor labels;  // int64 [n]
};

// Noise with a bright quarter; which one is the class.
Images make_images(std::int64_t count) {
  Images images{torch::randint(0, 120, {count, 1, kSide, kSide}), torch::randint(0, kClasses, {count}, torch::kInt64)};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto label = images.labels[i].item<std::int64_t>();
    const std::int64_t half = kSide / 2;
    images.pixels[i].narrow(1, label / 2 * half, half).narrow(2, label % 2 * half, half) += 100;
  }
  images.pixels = images.pixels.to(torch::kUInt8);
  return images;
}

torch::Tensor normalized(const torch::Tensor& pixels) { return (pixels.to(torch::kFloat32) / 255.0F - kMean) / kStd; }

// The user's own loop; `after_step` is where masks are recomputed.
template <typename AfterStep>
void train(pare::train::Model& model, const Images& data, int steps, double lr, const AfterStep& after_step) {
  torch::optim::SGD optimizer(model.parameters(), torch::optim::SGDOptions(lr).momentum(0.9));
  model.train();
  for (int step = 0; step < steps; ++step) {
    const torch::Tensor index = torch::randint(data.labels.size(0), {64}, torch::kInt64);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(
        model.forward(normalized(data.pixels.index_select(0, index))), data.labels.index_select(0, index));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    after_step();
  }
}

void make_artifact(const std::filesystem::path& path) {
  torch::manual_seed(0);
  const Images data = make_images(1000);
  const Images test = make_images(500);

  pare::train::Model model(pare::graph::builtin("convnet", 0, 1, kSide, kSide, kClasses));  // 1. a Graph, trainable
  train(model, data, 40, 0.05, [] {});

  pare::sparsity::WeightNormSparsifier sparsifier(pare::sparsity::MaskConfig::from_pattern("2:4"));  // 2. 2:4 masks
  pare::sparsity::SparseLayerConfig first;
  first.tensor_fqn = "conv1.weight";
  first.dense = true;
  first.why = "one input channel";
  sparsifier.prepare(model, {first});
  sparsifier.step();
  train(model, data, 40, 0.02, [&] { sparsifier.step(); });  // 3. weights may come back
  sparsifier.hold_masks();                                   // 4. from here on they are held

  pare::quant::prepare_qat(model, {});  // 5. fake quantization behind the masks
  train(model, data, 40, 0.01, [] {});
  pare::quant::finish_qat(model);
  const torch::Tensor expected = pare::quant::exact_forward(model, normalized(test.pixels));  // 6. in exact integers

  pare::sparsity::squash_mask(model);  // 7. only now; before, it would be refused
  pare::graph::Artifact artifact;
  artifact.graph = pare::quant::quantize_(model);  // 8. to integers, then 2:4 to 0.625 byte a weight
  const auto decisions = pare::quant::sparsify_(artifact.graph, {"2:4"}, {"conv2.weight", "fc1.weight", "fc2.weight"},
                                                [](const std::string& weight) { return weight != "conv1.weight"; });
  for (const auto& decision : decisions) {
    const auto codes = model.weight(decision.weight).codes();
    artifact.promises.push_back(
        {decision.weight, decision.pattern, codes.numel() - codes.count_nonzero().item<std::int64_t>(), decision.note});
  }
  artifact.preprocessing = {{kMean}, {kStd}};
  artifact.class_names = {"top left", "top right", "bottom left", "bottom right"};
  pare::graph::write_artifact(path, artifact);

  auto session = pare::runtime::Session::load(path);  // 9. the same numbers, without LibTorch
  torch::Tensor logits = torch::empty({test.labels.size(0), kClasses});
  session.run({test.pixels.data_ptr<std::uint8_t>(), static_cast<std::size_t>(test.pixels.numel())},
              test.labels.size(0), {logits.data_ptr<float>(), static_cast<std::size_t>(logits.numel())});
  const double accuracy = (logits.argmax(1) == test.labels).to(torch::kFloat64).mean().item<double>();
  std::printf("%s: accuracy %.1f %%, logits %s QAT's\n", path.c_str(), 100.0 * accuracy,
              torch::equal(logits, expected) ? "equal" : "DIFFER FROM");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    pare::train::configure_process();
    make_artifact(argc > 1 ? argv[1] : "model.pare");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
