// Small networks, data and a training loop for tests of quantization. Test-only.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/graph/graph.h"
#include "pare/train/model.h"
#include "pare/train/optimizer.h"

namespace pare::quant::testing {

// Appends layers one after the other; weights and biases are uniform in +-1/sqrt(fan_in), from the seed.
class NetworkBuilder {
 public:
  NetworkBuilder(std::uint64_t seed, Shape image) : rng_(seed, 0x9E7), value_("input") {
    graph_.name = "tiny";
    graph_.input = value_;
    image.insert(image.begin(), graph::kBatch);
    graph_.values["input"] = {.dtype = DType::kF32, .shape = std::move(image), .quantization = {}};
  }

  NetworkBuilder& conv(const std::string& name, Shape weight, std::vector<std::int64_t> pads = {1, 1, 1, 1},
                       std::vector<std::int64_t> strides = {1, 1}, std::vector<std::int64_t> dilations = {1, 1}) {
    weighted(name, "Conv", std::move(weight), true,
             {{"pads", std::move(pads)}, {"strides", std::move(strides)}, {"dilations", std::move(dilations)}});
    return *this;
  }
  NetworkBuilder& depthwise(const std::string& name, Shape weight) {
    const std::int64_t channels = weight[0];
    weighted(name, "Conv", std::move(weight), true,
             {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}, {"group", channels}});
    return *this;
  }
  // Of the last value and `other`.
  NetworkBuilder& add(const std::string& name, const std::string& other) {
    append(name, "Add", {value_, other}, {});
    return *this;
  }
  NetworkBuilder& average(const std::string& name) {
    append(name, "GlobalAveragePool", {value_}, {});
    return *this;
  }
  // The next layer reads this value.
  NetworkBuilder& from(const std::string& value) {
    value_ = value;
    return *this;
  }
  NetworkBuilder& gemm(const std::string& name, Shape weight, bool with_bias = true) {
    weighted(name, "Gemm", std::move(weight), with_bias, {{"transB", std::int64_t{1}}});
    return *this;
  }
  // Statistics and factors are drawn, as if it had been trained.
  NetworkBuilder& batch_norm(const std::string& name, std::int64_t channels) {
    const auto draw = [&](float low, float high) {
      std::vector<float> values(static_cast<std::size_t>(channels));
      std::generate(values.begin(), values.end(), [&] { return low + (high - low) * rng_.uniform(); });
      return graph::Initializer::f32({channels}, values);
    };
    graph_.initializers[name + ".weight"] = draw(0.5F, 1.5F);
    graph_.initializers[name + ".bias"] = draw(-0.3F, 0.3F);
    graph_.initializers[name + ".running_mean"] = draw(-0.1F, 0.1F);
    graph_.initializers[name + ".running_var"] = draw(0.5F, 2.0F);
    append(name, "BatchNormalization",
           {value_, name + ".weight", name + ".bias", name + ".running_mean", name + ".running_var"}, {});
    return *this;
  }
  NetworkBuilder& relu(const std::string& name) {
    append(name, "Relu", {value_}, {});
    return *this;
  }
  NetworkBuilder& pool(const std::string& name, std::vector<std::int64_t> kernel, std::vector<std::int64_t> strides,
                       std::vector<std::int64_t> pads = {0, 0, 0, 0}) {
    append(name, "MaxPool", {value_},
           {{"kernel_shape", std::move(kernel)}, {"strides", std::move(strides)}, {"pads", std::move(pads)}});
    return *this;
  }
  NetworkBuilder& flatten(const std::string& name) {
    append(name, "Flatten", {value_}, {});
    return *this;
  }

  graph::Graph finish() {
    graph_.nodes.back().output = "logits";
    graph_.output = "logits";
    graph::infer_shapes(graph_);
    return graph_;
  }

 private:
  void append(const std::string& name, const std::string& op_type, std::vector<std::string> inputs,
              std::map<std::string, graph::Attribute> attributes) {
    value_ = name + ".out";
    graph_.nodes.push_back({.name = name,
                            .op_type = op_type,
                            .inputs = std::move(inputs),
                            .output = value_,
                            .attributes = std::move(attributes)});
  }

  void weighted(const std::string& name, const std::string& op_type, Shape shape, bool with_bias,
                std::map<std::string, graph::Attribute> attributes) {
    const std::int64_t fan_in = element_count(shape) / shape[0];
    const auto bound = static_cast<float>(1.0 / std::sqrt(static_cast<double>(fan_in)));
    const auto draw = [&](const Shape& of) {
      std::vector<float> values(static_cast<std::size_t>(element_count(of)));
      std::generate(values.begin(), values.end(), [&] { return (2.0F * rng_.uniform() - 1.0F) * bound; });
      return graph::Initializer::f32(of, values);
    };
    graph_.initializers[name + ".weight"] = draw(shape);
    std::vector<std::string> inputs = {value_, name + ".weight"};
    if (with_bias) {
      graph_.initializers[name + ".bias"] = draw({shape[0]});
      inputs.push_back(name + ".bias");
    }
    append(name, op_type, std::move(inputs), std::move(attributes));
  }

  graph::Graph graph_;
  Rng rng_;
  std::string value_;
};

inline constexpr std::int64_t kTinyClasses = 5;

// Odd sizes throughout: channels that leave tail groups, a stride, asymmetric padding, a dilation, a padded and
// overlapping pool, a Conv without Relu, a Gemm without bias.
inline graph::Graph tiny_convnet(std::uint64_t seed) {
  return NetworkBuilder(seed, {1, 11, 9})
      .conv("conv1", {10, 1, 3, 3})
      .batch_norm("bn1", 10)
      .relu("relu1")
      .pool("pool1", {3, 2}, {2, 2}, {1, 0, 1, 0})
      .conv("conv2", {7, 10, 3, 2}, {0, 1, 1, 0}, {2, 1}, {1, 1})
      .conv("conv3", {6, 7, 2, 2}, {1, 1, 1, 1}, {1, 1}, {2, 1})
      .relu("relu3")
      .flatten("flatten")
      .gemm("fc1", {13, 90}, /*with_bias=*/false)
      .relu("relu4")
      .gemm("fc2", {kTinyClasses, 13})
      .finish();
}

// A residual block with a ReLU on its sum, a depthwise convolution, a block with a 1x1 convolution beside it and no
// ReLU, a value added to itself, and an average over an odd number of pixels.
inline graph::Graph tiny_resnet(std::uint64_t seed) {
  return NetworkBuilder(seed, {2, 7, 5})
      .conv("conv1", {8, 2, 3, 3})
      .batch_norm("bn1", 8)
      .relu("relu1")
      .conv("conv2", {8, 8, 3, 3})
      .batch_norm("bn2", 8)
      .add("add1", "relu1.out")
      .relu("relu2")
      .depthwise("conv3", {8, 1, 3, 3})
      .relu("relu3")
      .conv("conv4", {12, 8, 1, 1}, {0, 0, 0, 0})
      .from("relu2.out")
      .conv("conv5", {12, 8, 1, 1}, {0, 0, 0, 0})
      .add("add2", "conv4.out")
      .add("twice", "add2.out")
      .average("average")
      .flatten("flatten")
      .gemm("fc1", {kTinyClasses, 12})
      .finish();
}

inline graph::Graph tiny_mlp(std::uint64_t seed) {
  return NetworkBuilder(seed, {2, 3, 5})
      .flatten("flatten")
      .gemm("fc1", {17, 30})
      .relu("relu1")
      .gemm("fc2", {kTinyClasses, 17})
      .finish();
}

// Rows that groups of 32 do not divide, a layer without a bias.
inline graph::Graph odd_mlp(std::uint64_t seed) {
  return NetworkBuilder(seed, {1, 7, 11})
      .flatten("flatten")
      .gemm("fc1", {44, 77})
      .relu("relu1")
      .gemm("fc2", {70, 44}, /*with_bias=*/false)
      .relu("relu2")
      .gemm("fc3", {kTinyClasses, 70})
      .finish();
}

struct Labelled {
  torch::Tensor inputs;  // float32 [count, C, H, W]
  torch::Tensor labels;  // int64 [count]
};

// Each class is a fixed random image with noise on top.
inline Labelled synthetic_data(const graph::Graph& graph, std::int64_t count, std::uint64_t seed) {
  const Shape& shape = graph.values.at(graph.input).shape;
  const std::int64_t elems = shape[1] * shape[2] * shape[3];
  Rng prototypes(77);
  std::vector<float> centres(static_cast<std::size_t>(kTinyClasses * elems));
  std::generate(centres.begin(), centres.end(), [&] { return prototypes.normal(); });
  Rng rng(seed, 0xDA7A);
  Labelled data{torch::empty({count, shape[1], shape[2], shape[3]}), torch::empty({count}, torch::kInt64)};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto label = static_cast<std::int64_t>(rng.below(kTinyClasses));
    data.labels.data_ptr<std::int64_t>()[i] = label;
    for (std::int64_t j = 0; j < elems; ++j) {
      data.inputs.data_ptr<float>()[i * elems + j] =
          centres[static_cast<std::size_t>(label * elems + j)] + 0.7F * rng.normal();
    }
  }
  return data;
}

// 2:4 by magnitude along the input channels, a tail group of fewer than 4 included; held. Weights with fewer than 4
// input channels stay dense. Returns the names of the masked ones.
inline std::vector<std::string> mask_two_four(train::Model& model) {
  std::vector<std::string> masked;
  for (const auto& pipeline : model.weights()) {
    const torch::Tensor dense = pipeline->dense().detach();
    if (dense.size(1) < 4) {
      continue;
    }
    const torch::Tensor grouped =
        (dense.dim() == 4 ? dense.permute({0, 2, 3, 1}) : dense).contiguous();  // input channels last
    torch::Tensor mask = torch::zeros_like(grouped);
    const std::int64_t run = grouped.size(-1);
    const float* const w = grouped.data_ptr<float>();
    float* const keep = mask.data_ptr<float>();
    for (std::int64_t start = 0; start < grouped.numel(); start += run) {
      for (std::int64_t first = 0; first < run; first += 4) {
        std::vector<std::int64_t> order;
        for (std::int64_t i = first; i < std::min(first + 4, run); ++i) {
          order.push_back(start + i);
        }
        std::stable_sort(order.begin(), order.end(),
                         [w](std::int64_t a, std::int64_t b) { return std::abs(w[a]) > std::abs(w[b]); });
        for (std::size_t i = 0; i < std::min<std::size_t>(2, order.size()); ++i) {
          keep[order[i]] = 1.0F;
        }
      }
    }
    model.set_mask(pipeline->fqn(), dense.dim() == 4 ? mask.permute({0, 3, 1, 2}).contiguous() : mask);
    pipeline->set_mask_gradient(train::MaskGradient::kMasked);
    masked.push_back(pipeline->fqn());
  }
  return masked;
}

// A few steps of training; returns the last loss.
inline double train_steps(train::Model& model, const Labelled& data, int steps,
                          const train::OptimizerOptions& options = {.lr = 3e-3, .weight_decay = 1e-2}) {
  const auto optimizer = train::make_optimizer(model, options);
  model.train();
  double last = 0.0;
  for (int step = 0; step < steps; ++step) {
    train::zero_grad(*optimizer);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(model.forward(data.inputs), data.labels);
    loss.backward();
    optimizer->step();
    last = loss.item<double>();
  }
  return last;
}

// Parameters, masks and buffers, bit for bit.
inline void expect_same_state(const train::Model& found, const train::Model& expected) {
  const auto state = found.state();
  const auto wanted = expected.state();
  ASSERT_EQ(state.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(state[i].first, wanted[i].first);
    EXPECT_TRUE(torch::equal(state[i].second, wanted[i].second)) << wanted[i].first;
  }
}

}  // namespace pare::quant::testing
