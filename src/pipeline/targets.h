// `pare check`: is a layer's pattern and precision supported on a target, and is it expected to be fast there?
//
// Goal: one table, every line with where it comes from, read before hours of training. Non-goal: a performance model;
// the answer for a shape and a machine is a measurement (`pare-run bench`).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pare::pipeline {

// "x86-avx2", "x86-avx512-vnni", "arm-dotprod", "arm-i8mm", "nvidia-ampere", "onnx-qdq".
[[nodiscard]] std::vector<std::string> target_names();

struct LayerPlan {
  std::string name;     // "conv2"
  std::string op;       // "Conv", "Gemm"
  std::string pattern;  // as sparsity::pattern_name has it: "2:4", "64:2:4", "dense", "unstructured", "block 4x1"
  int weight_bits = 8;
  int activation_bits = 8;
  std::int64_t inputs = 0;   // input channels or features, along which groups run; 0: not known
  std::int64_t outputs = 0;  // output channels or features; 0: not known
};

// Against dense int8 on the same target. For a dense layer kFast says that the target has instructions for int8.
enum class Support { kFast, kRuns, kUnsupported };  // kRuns: correct, but no faster than dense
[[nodiscard]] std::string to_string(Support support);

struct LayerVerdict {
  LayerPlan layer;
  Support support = Support::kRuns;
  std::string reason;
  std::string source;  // where the claim comes from: paper, vendor documentation, our own measurement
};

// One verdict a layer, in order. Throws kInvalidArgument for an unknown target, with the nearest names, and for a
// pattern that cannot be read.
[[nodiscard]] std::vector<LayerVerdict> check_target(const std::string& target, const std::vector<LayerPlan>& layers);

}  // namespace pare::pipeline
