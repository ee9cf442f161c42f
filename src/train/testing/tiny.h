// A network small enough for thousands of steps, a quantizer with a fixed grid, and comparisons. Test-only.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/graph/graph.h"
#include "pare/train/fake_quantizer.h"
#include "pare/train/model.h"

namespace pare::train::testing {

// conv1 (5 channels, 3x3, pad 1) bn1 relu1 pool1 (2x2) flatten fc1 (`classes`), on images of 2 x 6 x 6. Its weights,
// statistics included, are random and none is 0.
[[nodiscard]] inline graph::Graph tiny_graph(std::uint64_t seed = 0, std::int64_t classes = 3) {
  graph::Graph graph;
  graph.name = "tiny";
  graph.input = "input";
  graph.output = "logits";
  graph.values["input"] = {.dtype = DType::kF32, .shape = {graph::kBatch, 2, 6, 6}, .quantization = {}};
  Rng rng(seed, 0x7E57);
  const auto draw = [&](const std::string& name, const Shape& shape, float low, float high) {
    std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
    for (float& value : values) {
      value = low + (high - low) * (rng.uniform() + 1e-4F);
    }
    graph.initializers[name] = graph::Initializer::f32(shape, values);
  };
  const auto ints = [](std::vector<std::int64_t> values) { return values; };
  draw("conv1.weight", {5, 2, 3, 3}, -0.5F, 0.5F);
  draw("conv1.bias", {5}, -0.5F, 0.5F);
  draw("bn1.weight", {5}, 0.5F, 1.5F);
  draw("bn1.bias", {5}, -0.5F, 0.5F);
  draw("bn1.running_mean", {5}, -0.5F, 0.5F);
  draw("bn1.running_var", {5}, 0.5F, 1.5F);
  draw("fc1.weight", {classes, 45}, -0.3F, 0.3F);
  draw("fc1.bias", {classes}, -0.3F, 0.3F);
  const auto add = [&](const char* name, const char* op, std::vector<std::string> inputs, const char* output,
                       std::map<std::string, graph::Attribute> attributes = {}) {
    graph.nodes.push_back({name, op, std::move(inputs), output, std::move(attributes)});
  };
  add("conv1", "Conv", {"input", "conv1.weight", "conv1.bias"}, "conv1.out",
      {{"kernel_shape", ints({3, 3})}, {"pads", ints({1, 1, 1, 1})}});
  add("bn1", "BatchNormalization", {"conv1.out", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"},
      "bn1.out", {{"epsilon", 1e-3F}});
  add("relu1", "Relu", {"bn1.out"}, "relu1.out");
  add("pool1", "MaxPool", {"relu1.out"}, "pool1.out", {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}});
  add("flatten", "Flatten", {"pool1.out"}, "flatten.out");
  add("fc1", "Gemm", {"flatten.out", "fc1.weight", "fc1.bias"}, "logits", {{"transB", std::int64_t{1}}});
  return graph;
}

[[nodiscard]] inline torch::Tensor random_images(std::int64_t count, std::uint64_t seed = 0) {
  torch::Tensor images = torch::empty({count, 2, 6, 6});
  Rng rng(seed, 0x1116);
  for (std::int64_t i = 0; i < images.numel(); ++i) {
    images.data_ptr<float>()[i] = rng.normal();
  }
  return images;
}

[[nodiscard]] inline torch::Tensor random_labels(std::int64_t count, std::int64_t classes = 3, std::uint64_t seed = 0) {
  torch::Tensor labels = torch::empty({count}, torch::kInt64);
  Rng rng(seed, 0x1AB);
  for (std::int64_t i = 0; i < count; ++i) {
    labels.data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(classes)));
  }
  return labels;
}

// Keeps the first two of every four elements, in memory order.
[[nodiscard]] inline torch::Tensor half_mask(const torch::Tensor& weight) {
  return ((torch::arange(weight.numel()) % 4) < 2).to(torch::kFloat32).view(weight.sizes());
}

// Rounds to multiples of 1/8 and counts its calls; passes the gradient.
class GridQuantizer : public FakeQuantizer {
 public:
  GridQuantizer() { calls_ = register_buffer("calls", torch::zeros({1}, torch::kInt64)); }
  torch::Tensor forward(const torch::Tensor& x) override {
    calls_ += 1;
    return x + (quantize(x).to(torch::kFloat32) * 0.125F - x).detach();
  }
  [[nodiscard]] torch::Tensor quantize(const torch::Tensor& x) const override {
    return torch::round(x.detach().to(torch::kFloat64) * 8.0);
  }
  [[nodiscard]] torch::Tensor scale() const override { return torch::full({1}, 0.125F); }
  [[nodiscard]] std::int32_t zero_point() const override { return 0; }
  [[nodiscard]] format::QuantRange range() const override { return format::kInt8WeightRange; }
  [[nodiscard]] int axis() const override { return -1; }
  void enable_observer(bool) override {}
  void enable_fake_quant(bool) override {}
  [[nodiscard]] bool calibrated() const override { return true; }
  [[nodiscard]] std::int64_t calls() const { return calls_.item<std::int64_t>(); }

 private:
  torch::Tensor calls_;
};

// Same type, shape and bits: tells -0 from +0 and one NaN from another.
[[nodiscard]] inline bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) {
    return false;
  }
  const torch::Tensor x = a.detach().contiguous();
  const torch::Tensor y = b.detach().contiguous();
  return x.numel() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

[[nodiscard]] inline std::map<std::string, torch::Tensor> copy_of_state(const Model& model) {
  std::map<std::string, torch::Tensor> copy;
  for (const auto& [name, tensor] : model.state()) {
    copy[name] = tensor.clone();
  }
  return copy;
}

// The first entry in which they differ, or "".
[[nodiscard]] inline std::string first_difference(const std::map<std::string, torch::Tensor>& a,
                                                  const std::map<std::string, torch::Tensor>& b) {
  for (const auto* states : {&a, &b}) {
    for (const auto& entry : *states) {
      const auto x = a.find(entry.first);
      const auto y = b.find(entry.first);
      if (x == a.end() || y == b.end() || !same_bits(x->second, y->second)) {
        return entry.first;
      }
    }
  }
  return "";
}

}  // namespace pare::train::testing
