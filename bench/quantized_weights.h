// Weights and biases of a float graph as an integer graph holds them. Internal to bench/network*.cc.
#pragma once

#include <map>
#include <string>

#include "bench/network.h"

namespace pare::bench {

// int8 by output channel, encoded if the pattern applies, and the bias at the input's scale, under the names of the
// float graph. `node`: Conv or Gemm.
void add_quantized_weights(const graph::Graph& source, const graph::Node& node, float input_scale,
                           const SparsityPattern& pattern, graph::Graph& result);

// Throws kNotFound for a value without a scale.
[[nodiscard]] graph::Quantization quantization_of(const ActivationScales& scales, const std::string& value);

// integer_network for graphs with attention: float32 from one residual sum to the next, codes into every product.
[[nodiscard]] graph::Graph mixed_network(const graph::Graph& graph, const ActivationScales& scales,
                                         const SparsityPattern& pattern);

}  // namespace pare::bench
