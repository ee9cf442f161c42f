// What stands behind Model's declarations: shared by model.cc (structure, execution) and model_state.cc (state,
// graphs).
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "pare/train/model.h"

namespace pare::train {

struct Model::Layer {
  std::vector<std::pair<std::string, torch::Tensor>> parameters;  // "weight", "bias"
  std::vector<std::pair<std::string, torch::Tensor>> buffers;     // "running_mean", "running_var"
  std::shared_ptr<WeightPipeline> weight;                         // Conv and Gemm
  std::shared_ptr<FakeQuantizer> activation;                      // of the node's output value
  std::shared_ptr<RowQuantizer> rows;                             // of what a Gemm reads
  RowTransform transform;                                         // of the same, before that

  // Undefined if there is none.
  [[nodiscard]] torch::Tensor tensor(const std::string& name) const {
    for (const auto* list : {&parameters, &buffers}) {
      for (const auto& [key, tensor] : *list) {
        if (key == name) {
          return tensor;
        }
      }
    }
    return {};
  }
};

struct Model::Step {
  enum class Op { kConv, kBatchNorm, kRelu, kAdd, kGlobalAveragePool, kMaxPool, kFlatten, kGemm };

  Op op = Op::kRelu;
  std::size_t input = 0;  // values are numbered: 0 is the graph's input, step i makes value i + 1
  std::size_t other = 0;  // the second input of an Add
  bool last_use = false;  // of the input
  bool in_place = false;  // Relu: nobody else needs the input's elements, backward passes included
  std::shared_ptr<WeightPipeline> weight;
  std::shared_ptr<FakeQuantizer> quantizer;  // of the output
  std::shared_ptr<RowQuantizer> rows;        // of the input
  RowTransform transform;                    // of the input
  torch::Tensor bias;
  torch::Tensor gamma;
  torch::Tensor running_mean;
  torch::Tensor running_var;
  double eps = 0.0;
  double momentum = 0.0;
  std::int64_t groups = 1;
  std::vector<std::int64_t> kernel;
  std::vector<std::int64_t> strides;
  std::vector<std::int64_t> dilations;
  std::vector<std::int64_t> padding;       // both ends alike
  std::vector<std::int64_t> edge_padding;  // left, right, top, bottom, where LibTorch cannot pad by itself; else empty
};

// Buffers that stand beside a weight, by suffix of its name.
inline constexpr const char* kMaskSuffix = "_mask";
inline constexpr const char* kMaskGradientSuffix = "_mask_gradient";

}  // namespace pare::train
