// Which layers of a float graph become one integer layer, and which values become codes. Torch-free.
//
// prepare_qat places activation quantizers by it and refuses a network that conversion could not finish; quantize_
// builds the integer graph by it.
#pragma once

#include <string>
#include <vector>

#include "pare/graph/graph.h"

namespace pare::quant {

// Names of the node that quantizes the graph's input, and of its output value.
inline constexpr const char* kQuantizeInputNode = "quantize_input";
inline constexpr const char* kQuantizedInputValue = "quantize_input.out";

// Conv, Gemm or Add with the Relu that follows it, GlobalAveragePool, MaxPool, or Flatten.
struct IntegerLayer {
  std::string node;
  bool relu = false;
  // Values of the float graph (two of an Add, else one); kQuantizedInputValue in place of the graph's input.
  std::vector<std::string> inputs;
  std::string output;  // value of the float graph, the Relu's where there is one
};

struct IntegerPlan {
  std::vector<IntegerLayer> layers;
  // Values of the float graph that need an activation quantizer: its input, and every output of a Conv, Gemm, Add (Relu
  // included) or GlobalAveragePool but the last. MaxPool and Flatten pass codes on as they are.
  std::vector<std::string> quantized_values;
};

// Precondition: graph::infer_shapes passed. Throws kUnsupported that names the node: a BatchNormalization that is not
// folded, a Relu that does not follow a Conv, Gemm or Add at once, a network that does not end in a Gemm (or its Relu),
// a sum of so many products that an int32 accumulator could overflow, a name that the integer graph needs for itself.
[[nodiscard]] IntegerPlan plan_integer_graph(const graph::Graph& graph);

}  // namespace pare::quant
