#include "pare/quant/integer_plan.h"

#include <map>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::quant {
namespace {

[[noreturn]] void refuse(const graph::Node& node, std::string problem, std::string remedy = {}) {
  throw Error(ErrorCategory::kUnsupported, std::move(problem), str_cat("node '", node.name, "' (", node.op_type, ")"),
              std::move(remedy));
}

// The Relu that is fused into the node, or null.
const graph::Node* fused_relu(const graph::Graph& graph, const graph::Node& node) {
  const std::vector<const graph::Node*> readers = graph.consumers_of(node.output);
  for (const graph::Node* reader : readers) {
    if (reader->op_type != "Relu") {
      continue;
    }
    if (readers.size() > 1) {
      refuse(*reader, str_cat("'", node.output, "' is read by others than this Relu, so it cannot be fused into '",
                              node.name, "'"));
    }
    return reader;
  }
  return nullptr;
}

void check_reduction(const graph::Graph& graph, const graph::Node& node) {
  const Shape& shape = graph.initializer(node.inputs[1]).shape;
  std::int64_t products = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) {
    products *= shape[axis];
  }
  if (products > graph::kMaxReductionElems) {
    refuse(node, str_cat("it adds ", products, " products, and beyond ", graph::kMaxReductionElems,
                         " an int32 accumulator could overflow"));
  }
}

}  // namespace

IntegerPlan plan_integer_graph(const graph::Graph& graph) {
  IntegerPlan plan;
  plan.quantized_values.push_back(graph.input);
  std::map<std::string, std::string> codes = {{graph.input, kQuantizedInputValue}};  // values that are codes, by name
  for (const graph::Node& node : graph.nodes) {
    if (node.name == kQuantizeInputNode || node.output == kQuantizedInputValue) {
      refuse(
          node,
          str_cat("conversion needs the names '", kQuantizeInputNode, "' and '", kQuantizedInputValue, "' for itself"),
          "rename the node");
    }
    if (node.op_type == "BatchNormalization") {
      refuse(node, "batch norm has no integer form", "fold it into the Conv before it");
    }
    if (node.op_type == "Relu") {
      const graph::Node* const producer = graph.producer_of(node.inputs[0]);
      if (producer == nullptr || (!producer->has_weight() && producer->op_type != "Add")) {
        refuse(node, "it does not follow a Conv, Gemm or Add, into which it could be fused");
      }
      continue;  // became part of its producer
    }
    const bool adds = node.op_type == "Add";
    IntegerLayer layer{.node = node.name, .inputs = {}, .output = node.output};
    for (std::size_t i = 0; i < (adds ? 2U : 1U); ++i) {
      layer.inputs.push_back(codes.at(node.inputs[i]));
    }
    if (node.has_weight() || adds) {
      if (node.has_weight()) {
        check_reduction(graph, node);
      }
      if (const graph::Node* const relu = fused_relu(graph, node)) {
        layer.relu = true;
        layer.output = relu->output;
      }
      if (layer.output == graph.output) {
        if (node.op_type != "Gemm") {
          refuse(node, "the network must end in a Gemm, whose float32 output are the logits");
        }
      } else {
        plan.quantized_values.push_back(layer.output);
      }
    } else if (node.op_type == "MaxPool" || node.op_type == "Flatten") {
      if (layer.output == graph.output) {
        refuse(node, "the network must end in a Gemm, whose float32 output are the logits");
      }
    } else if (node.op_type == "GlobalAveragePool") {
      if (layer.output == graph.output) {
        refuse(node, "the network must end in a Gemm, whose float32 output are the logits");
      }
      plan.quantized_values.push_back(layer.output);
    } else {
      refuse(node, "it has no integer form", "Conv, Gemm, Relu, Add, GlobalAveragePool, MaxPool and Flatten have");
    }
    codes[layer.output] = layer.output;
    plan.layers.push_back(std::move(layer));
  }
  return plan;
}

}  // namespace pare::quant
