// The networks of the end-to-end comparison: a built-in float graph with seeded, masked weights, and its integer form
// with the activation scales that a peer's quantizer chose. All contestants get their weights and scales from here.
//
// quant::quantize_ does the same for a trained model; this needs no LibTorch, because nothing is trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pare/format/affine.h"
#include "pare/format/vnm_pattern.h"
#include "pare/graph/artifact.h"
#include "pare/graph/graph.h"

namespace pare::bench {

// "dense", "2:4" or "64:1:8" (one mask for v rows, n of every m kept).
struct SparsityPattern {
  std::string name = "dense";
  format::VnmPattern vnm;  // v = 1 for 2:4, 0 for dense

  [[nodiscard]] static SparsityPattern parse(const std::string& text);  // throws kInvalidArgument
  // A layer with fewer inputs than a group, or rows that are no multiple of v, stays dense.
  [[nodiscard]] bool applies_to(const Shape& weight_shape) const;
};

// `name` as graph::builtin knows it, or "encoder" (graph::encoder), batch norm folded. Weights are scaled to variance 2
// / fan_in, so that signals neither die nor explode in a deep network, masked by magnitude, and scaled to the energy
// that they had before the mask.
[[nodiscard]] graph::Graph float_network(const std::string& name, std::uint64_t seed, const SparsityPattern& pattern);

// Weights and biases, as safetensors; and the graph as JSON: {"name", "input", "output", "input_shape", "nodes"}, whose
// nodes are ONNX's.
void write_float_network(const std::filesystem::path& folder, const graph::Graph& graph);
// Replaces all initializers by the file's. Throws kCorruptData if one is missing or has another shape.
void read_weights(const std::filesystem::path& path, graph::Graph& graph);

// By value name, of the outputs of all operators but MaxPool and Flatten, the network's output left out; where there is
// attention, of what matrix products read.
using ActivationScales = std::map<std::string, format::AffineParams>;
// {"value": {"scale": s, "zero_point": z}}
[[nodiscard]] ActivationScales read_scales(const std::filesystem::path& path);

// Weights int8 by output channel, a Relu fused into the operator before it, weights that keep the pattern encoded.
// Throws kNotFound for a value without a scale, kUnsupported for an operator that .pare does not have.
[[nodiscard]] graph::Artifact integer_network(const graph::Graph& graph, const ActivationScales& scales,
                                              const SparsityPattern& pattern);

}  // namespace pare::bench
