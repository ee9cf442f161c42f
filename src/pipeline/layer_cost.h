// What a layer will cost once it is converted, known from its shape and its pattern alone: bytes and time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/graph/graph.h"
#include "pare/runtime/format_choice.h"
#include "pare/sparsity/mask.h"

namespace pare::pipeline {

// A layer that has a weight.
struct LayerShape {
  std::string name;    // "conv2"
  std::string weight;  // "conv2.weight"
  std::string op;      // "Conv", "Gemm"
  Shape shape;         // [O, I, kh, kw] or [n, k]
  runtime::LayerWork work;
};

// Of a float graph whose shapes were inferred, in graph order.
[[nodiscard]] std::vector<LayerShape> layer_shapes(const graph::Graph& graph);

// The packed form that [convert] sparsify = `sparsify` gives weights with masks of this configuration: "2:4", V:N:M as
// "64:1:4", blocks as "4x1", or "" where they are stored dense. int4 weights have no form for V:N:M and blocks, but
// such masks may obey 2:4.
[[nodiscard]] std::string packed_pattern(const sparsity::MaskConfig& config, const std::string& sparsify, bool int4);

// Bytes that an int8 layer takes in an artifact, stored as `packed` ("dense", "2:4", V:N:M): codes, indices, a float32
// scale and an int32 bias for each output. The file's header, alignment and description come on top.
[[nodiscard]] std::int64_t stored_bytes(const LayerShape& layer, const std::string& packed);

// Predicted time of an int8 layer that is stored as `packed`, by the runtime's table of costs
// (runtime::FormatChoice::time): of the form that the runtime will choose, stored or dense.
[[nodiscard]] double predicted_time(const LayerShape& layer, const std::string& packed, Isa isa, CpuVendor vendor);

}  // namespace pare::pipeline
