// Which layers of a float graph become one integer layer, which values become codes, and where codes and float32 meet.
// Torch-free.
//
// prepare_qat places quantizers by it and refuses a network that conversion could not finish; quantize_ builds the
// integer graph by it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "pare/graph/graph.h"

namespace pare::quant {

// Names of the node that quantizes the graph's input, and of its output value.
inline constexpr const char* kQuantizeInputNode = "quantize_input";
inline constexpr const char* kQuantizedInputValue = "quantize_input.out";

// Of a value whose codes keep its name: the same in float32, before it is quantized and after it is dequantized.
[[nodiscard]] std::string unquantized_name(const std::string& value);
[[nodiscard]] std::string dequantized_name(const std::string& value);

// A node of the integer graph: Conv, Gemm or Add with the Relu that follows it, GlobalAveragePool, MaxPool or Flatten
// of the float graph; or one between codes and float32 that the float graph does not have.
struct IntegerLayer {
  enum class Kind { kLayer, kQuantize, kDequantize };
  Kind kind = Kind::kLayer;
  std::string node = {};  // of the float graph, or a new name
  bool relu = false;
  bool dynamic = false;  // a Gemm that quantizes the rows it reads, and gives float32
  // Values of the integer graph (two of an Add, else one).
  std::vector<std::string> inputs = {};
  std::string output = {};
  // Value of the float graph that the output is: the Relu's where there is one.
  std::string value = {};
  bool codes = true;  // else float32
};

struct IntegerPlan {
  std::vector<IntegerLayer> layers;
  // Values of the float graph that need an activation quantizer: those that any layer reads as codes, where MaxPool and
  // Flatten pass codes on as they are. All readers of such a value read its codes, or those dequantized.
  std::vector<std::string> quantized_values;
};

// `dynamic`: names of the Gemm nodes that quantize what they read row by row. A value that only these read stays
// float32; one that comes from them is quantized where others read it; what MaxPool, Flatten, Add and
// GlobalAveragePool give, and an image, are codes, and dequantized for them.
//
// Precondition: graph::infer_shapes passed. Throws kUnsupported that names the node: a BatchNormalization that is not
// folded, a Relu that does not follow a Conv, Gemm or Add at once, a network that does not end in a Gemm (or its Relu),
// a sum of so many products that an int32 accumulator could overflow, a name that the integer graph needs for itself.
[[nodiscard]] IntegerPlan plan_integer_graph(const graph::Graph& graph, const std::set<std::string>& dynamic = {});

}  // namespace pare::quant
