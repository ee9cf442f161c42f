#include "pare/quant/integer_plan.h"

#include <map>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::quant {
namespace {

constexpr const char* kUnquantized = ".unquantized";
constexpr const char* kDequantized = ".dequantized";
constexpr const char* kQuantize = ".quantize";
constexpr const char* kDequantize = ".dequantize";

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

constexpr const char* kMustEndInGemm = "the network must end in a Gemm, whose float32 output are the logits";

class Planner {
 public:
  Planner(const graph::Graph& graph, const std::set<std::string>& dynamic) : graph_(graph), dynamic_(dynamic) {}

  IntegerPlan make() {
    for (const graph::Node& node : graph_.nodes) {
      check_names(node);
    }
    Forms& input = forms_[graph_.input];
    if (read_as_codes(graph_.input)) {
      input.codes = kQuantizedInputValue;
      plan_.quantized_values.push_back(graph_.input);
      plan_.layers.push_back({.kind = IntegerLayer::Kind::kQuantize,
                              .node = kQuantizeInputNode,
                              .inputs = {graph_.input},
                              .output = kQuantizedInputValue,
                              .value = graph_.input});
    } else {
      input.real = graph_.input;
    }
    for (const graph::Node& node : graph_.nodes) {
      add(node);
    }
    return std::move(plan_);
  }

 private:
  // Names of a float graph's value in the integer graph; empty: it is not there in this form (yet).
  struct Forms {
    std::string codes;
    std::string real;
  };

  void check_names(const graph::Node& node) const {
    if (node.name == kQuantizeInputNode || node.output == kQuantizedInputValue) {
      refuse(
          node,
          str_cat("conversion needs the names '", kQuantizeInputNode, "' and '", kQuantizedInputValue, "' for itself"),
          "rename the node");
    }
    for (const char* const suffix : {kUnquantized, kDequantized, kQuantize, kDequantize}) {
      if (!dynamic_.empty() && (node.name.ends_with(suffix) || node.output.ends_with(suffix))) {
        refuse(node, str_cat("conversion needs names that end in '", suffix, "' for itself"), "rename the node");
      }
    }
  }

  // Some reader of the value takes codes. (A Relu is no reader: it is part of the value's producer.)
  [[nodiscard]] bool read_as_codes(const std::string& value) const {
    for (const graph::Node* reader : graph_.consumers_of(value)) {
      if (!dynamic_.contains(reader->name)) {
        return true;
      }
    }
    return false;
  }

  const std::string& codes_of(const std::string& value) const { return forms_.at(value).codes; }

  const std::string& real_of(const std::string& value) {
    Forms& forms = forms_.at(value);
    if (forms.real.empty()) {
      forms.real = dequantized_name(value);
      plan_.layers.push_back({.kind = IntegerLayer::Kind::kDequantize,
                              .node = value + kDequantize,
                              .inputs = {forms.codes},
                              .output = forms.real,
                              .value = value,
                              .codes = false});
    }
    return forms.real;
  }

  void add(const graph::Node& node) {
    if (node.op_type == "BatchNormalization") {
      refuse(node, "batch norm has no integer form", "fold it into the Conv before it");
    }
    if (node.op_type == "Relu") {
      const graph::Node* const producer = graph_.producer_of(node.inputs[0]);
      if (producer == nullptr || (!producer->has_weight() && producer->op_type != "Add")) {
        refuse(node, "it does not follow a Conv, Gemm or Add, into which it could be fused");
      }
      return;  // became part of its producer
    }
    const bool adds = node.op_type == "Add";
    const bool averages = node.op_type == "GlobalAveragePool";
    const bool moves = node.op_type == "MaxPool" || node.op_type == "Flatten";
    if (!node.has_weight() && !adds && !averages && !moves) {
      refuse(node, "it has no integer form", "Conv, Gemm, Relu, Add, GlobalAveragePool, MaxPool and Flatten have");
    }
    IntegerLayer layer{.node = node.name, .inputs = {}, .value = node.output};
    layer.dynamic = dynamic_.contains(node.name);
    PARE_CHECK(!layer.dynamic || node.op_type == "Gemm");
    for (std::size_t i = 0; i < (adds ? 2U : 1U); ++i) {
      layer.inputs.push_back(layer.dynamic ? real_of(node.inputs[i]) : codes_of(node.inputs[i]));
    }
    if (node.has_weight()) {
      check_reduction(graph_, node);
    }
    if (node.has_weight() || adds) {
      if (const graph::Node* const relu = fused_relu(graph_, node)) {
        layer.relu = true;
        layer.value = relu->output;
      }
    }
    if (layer.value == graph_.output && node.op_type != "Gemm") {
      refuse(node, kMustEndInGemm);
    }
    Forms& forms = forms_[layer.value];
    // What has no weight gives codes whoever reads them.
    const bool quantized = !node.has_weight() || (layer.value != graph_.output && read_as_codes(layer.value));
    if (quantized && !moves) {
      plan_.quantized_values.push_back(layer.value);
    }
    layer.codes = quantized && !layer.dynamic;
    layer.output = layer.dynamic && quantized ? unquantized_name(layer.value) : layer.value;
    (quantized ? forms.codes : forms.real) = layer.value;
    plan_.layers.push_back(layer);
    if (layer.dynamic && quantized) {
      plan_.layers.push_back({.kind = IntegerLayer::Kind::kQuantize,
                              .node = layer.value + kQuantize,
                              .inputs = {layer.output},
                              .output = layer.value,
                              .value = layer.value});
    }
  }

  const graph::Graph& graph_;
  const std::set<std::string>& dynamic_;
  IntegerPlan plan_;
  std::map<std::string, Forms> forms_;  // by value of the float graph
};

}  // namespace

std::string unquantized_name(const std::string& value) { return value + kUnquantized; }
std::string dequantized_name(const std::string& value) { return value + kDequantized; }

IntegerPlan plan_integer_graph(const graph::Graph& graph, const std::set<std::string>& dynamic) {
  return Planner(graph, dynamic).make();
}

}  // namespace pare::quant
