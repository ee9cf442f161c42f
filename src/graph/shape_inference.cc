#include <algorithm>
#include <map>
#include <set>

#include "pare/base/strings.h"
#include "pare/graph/validation.h"
#include "pare/graph/weights.h"

namespace pare::graph {
namespace internal {
namespace {

constexpr std::int64_t kMaxInitializerElems = std::int64_t{1} << 31;
constexpr std::size_t kMaxRank = 4;

[[noreturn]] void fail(const Graph& graph, const char* promise, std::string problem, std::string remedy = {}) {
  throw GraphError(ErrorCategory::kCorruptData, promise, {}, std::move(problem), str_cat("graph '", graph.name, "'"),
                   std::move(remedy));
}

[[noreturn]] void fail(const Graph& graph, const Node& node, const char* promise, std::string problem,
                       ErrorCategory category = ErrorCategory::kCorruptData) {
  throw GraphError(category, promise, node.name, std::move(problem), describe(graph, node));
}

// Product of extents that are each within [1, kMaxExtent], or 0 if one is not or the product passes `limit`.
std::int64_t bounded_product(const Shape& shape, std::size_t first_axis, std::int64_t limit) {
  std::int64_t product = 1;
  for (std::size_t axis = first_axis; axis < shape.size(); ++axis) {
    if (shape[axis] < 1 || shape[axis] > kMaxExtent) {
      return 0;
    }
    product *= shape[axis];  // below 2^31 * 2^24
    if (product > limit) {
      return 0;
    }
  }
  return product;
}

bool is_valid_value_shape(const Shape& shape) {
  return shape.size() >= 2 && shape.size() <= kMaxRank && shape[0] == kBatch &&
         bounded_product(shape, 1, kMaxElemsPerImage) > 0;
}

std::string value_shape_rule() {
  return str_cat("[batch, …] with 1 to ", kMaxRank - 1, " extents of 1 to ", kMaxExtent, " and at most ",
                 kMaxElemsPerImage, " numbers an image");
}

void check_initializer(const Graph& graph, const Node& node, const std::string& name) {
  const Initializer& item = graph.initializers.at(name);
  if (!is_valid_initializer_shape(item.shape)) {
    fail(graph, node, kPromiseShape, str_cat("'", name, "' has the impossible shape ", to_string(item.shape)));
  }
  std::int64_t data_bytes = element_count(item.shape) * static_cast<std::int64_t>(size_bytes(item.dtype));
  std::int64_t indices_bytes = 0;
  if (item.encoding != Encoding::kDense) {
    if (item.dtype != DType::kS8 || (item.shape.size() != 2 && item.shape.size() != 4)) {
      fail(graph, node, kPromiseStructure,
           str_cat("'", name, "' is stored ", item.pattern(), ", which only int8 weights of 2 or 4 dimensions can be"));
    }
  }
  std::int64_t scales_bytes = 0;
  if (item.is_int4()) {
    if (item.shape.size() != 2 || !format::is_int4_group(item.group)) {
      fail(graph, node, kPromiseStructure,
           str_cat("'", name, "' is stored int4 in groups of ", item.group,
                   ", which only weights of 2 dimensions in groups of 32, 64, 128 or 256 can be"));
    }
    const format::Int4Layout layout = int4_layout(item.shape, item.encoding, item.group);
    data_bytes = layout.rows * layout.row_codes_bytes();
    indices_bytes = layout.rows * layout.row_indices_bytes();
    scales_bytes = layout.rows * layout.groups_per_row() * static_cast<std::int64_t>(size_bytes(DType::kF16));
  } else if (item.encoding == Encoding::kTwoFour) {
    const format::TwoFourLayout layout = two_four_layout(item.shape);
    data_bytes = layout.rows * layout.row_values_bytes();
    indices_bytes = layout.rows * layout.row_indices_bytes();
  } else if (item.encoding == Encoding::kVnm) {
    const format::VnmLayout layout = vnm_layout(item.shape, item.vnm);
    data_bytes = layout.rows * layout.row_kept();
    indices_bytes = layout.blocks() * layout.row_kept();
  } else if (item.encoding == Encoding::kBlock) {
    const format::BlockLayout layout = block_layout(item.shape, item.block);
    data_bytes = format::count_blocks(item.indices.as<std::uint8_t>()) * layout.pattern.elems();
    indices_bytes = layout.block_rows() * layout.row_index_bytes();
  }
  if (static_cast<std::int64_t>(item.data.bytes().size()) != data_bytes ||
      static_cast<std::int64_t>(item.indices.bytes().size()) != indices_bytes ||
      static_cast<std::int64_t>(item.scales.bytes().size()) != scales_bytes) {
    fail(graph, node, kPromiseShape,
         str_cat("'", name, "' with shape ", to_string(item.shape), " stored ", item.pattern(), " takes ", data_bytes,
                 " bytes, ", indices_bytes, " of indices and ", scales_bytes, " of scales of groups, but has ",
                 item.data.bytes().size(), ", ", item.indices.bytes().size(), " and ", item.scales.bytes().size()));
  }
  const bool is_quantized_weight = item.dtype == DType::kS8 && !item.is_int4();
  if (item.quantization.has_value() && !is_quantized_weight) {
    fail(graph, node, kPromiseStructure,
         str_cat("'", name, "' is no int8 weight and must have no quantization of its own"));
  }
  if (is_quantized_weight && !item.quantization.has_value()) {
    fail(graph, node, kPromiseScale, str_cat("'", name, "' has no quantization"));
  }
}

// Names that were met on the way through the nodes.
struct Walk {
  std::set<std::string> node_names;
  std::map<std::string, bool> is_consumed;                 // values that exist so far
  std::map<std::string, std::string> initializer_readers;  // initializer, node
};

void check_inputs(const Graph& graph, const Node& node, std::size_t value_inputs, Walk& walk) {
  for (std::size_t index = 0; index < value_inputs; ++index) {
    const std::string& value = node.inputs[index];
    const auto found = walk.is_consumed.find(value);
    if (found == walk.is_consumed.end()) {
      fail(graph, node, kPromiseStructure, str_cat("its input '", value, "' is produced by no node before it"));
    }
    found->second = true;
  }
  for (std::size_t index = value_inputs; index < node.inputs.size(); ++index) {
    const std::string& name = node.inputs[index];
    if (!graph.initializers.contains(name)) {
      fail(graph, node, kPromiseStructure, str_cat("its input ", index, " '", name, "' is no initializer"));
    }
    const auto [reader, is_new] = walk.initializer_readers.emplace(name, node.name);
    if (!is_new) {
      fail(graph, node, kPromiseStructure, str_cat("'", name, "' is shared with node '", reader->second, "'"),
           ErrorCategory::kUnsupported);
    }
    check_initializer(graph, node, name);
  }
}

void check_names(const Graph& graph, const Node& node, Walk& walk) {
  if (!is_valid_name(node.name) || !is_valid_name(node.output)) {
    fail(graph, kPromiseStructure, "a node or its output has a name that is empty, too long or not printable",
         "names are 1 to 200 printable ASCII characters");
  }
  if (!walk.node_names.insert(node.name).second) {
    fail(graph, node, kPromiseStructure, "another node has the same name");
  }
  if (walk.is_consumed.contains(node.output) || graph.initializers.contains(node.output)) {
    fail(graph, node, kPromiseStructure, str_cat("its output '", node.output, "' exists already"));
  }
}

// Takes over the inferred value, or finds it in contradiction to what the graph says.
void settle_output(Graph& graph, const Node& node, Value inferred) {
  if (!is_valid_value_shape(inferred.shape)) {
    fail(graph, node, kPromiseShape,
         str_cat("its output would have shape ", to_string(inferred.shape), ", which is no ", value_shape_rule()));
  }
  const auto existing = graph.values.find(node.output);
  if (existing != graph.values.end()) {
    const Value& stated = existing->second;
    if (!stated.shape.empty() && stated.shape != inferred.shape) {
      fail(graph, node, kPromiseShape,
           str_cat("its output '", node.output, "' is said to have shape ", to_string(stated.shape), " but has ",
                   to_string(inferred.shape)));
    }
    if (!stated.shape.empty() && stated.dtype != inferred.dtype) {
      fail(graph, node, kPromiseStructure,
           str_cat("its output '", node.output, "' is said to be ", safetensors_name(stated.dtype), " but is ",
                   safetensors_name(inferred.dtype)));
    }
    if (stated.quantization.has_value() && stated.quantization != inferred.quantization) {
      fail(graph, node, inferred.quantization.has_value() ? kPromiseScale : kPromiseStructure,
           str_cat("its output '", node.output, "' has a quantization that differs from its input's"));
    }
  }
  graph.values[node.output] = std::move(inferred);
}

void check_ends(const Graph& graph, const Walk& walk) {
  if (graph.output == graph.input || !walk.is_consumed.contains(graph.output)) {
    fail(graph, kPromiseStructure, str_cat("no node produces the graph's output '", graph.output, "'"));
  }
  for (const auto& [value, consumed] : walk.is_consumed) {
    if (consumed == (value == graph.output)) {
      fail(graph, kPromiseStructure,
           consumed ? str_cat("the graph's output '", value, "' is read by a node")
                    : str_cat("nothing reads the value '", value, "'"));
    }
  }
  for (const auto& entry : graph.values) {
    if (!walk.is_consumed.contains(entry.first)) {
      fail(graph, kPromiseStructure, str_cat("no node produces the value '", entry.first, "'"));
    }
  }
  for (const auto& entry : graph.initializers) {
    if (!walk.initializer_readers.contains(entry.first)) {
      fail(graph, kPromiseStructure, str_cat("no node reads the initializer '", entry.first, "'"));
    }
  }
}

void check_input_value(const Graph& graph) {
  const auto input = graph.values.find(graph.input);
  if (!is_valid_name(graph.input) || input == graph.values.end()) {
    fail(graph, kPromiseStructure, "the graph's input has no name or no value");
  }
  if (graph.initializers.contains(graph.input)) {
    fail(graph, kPromiseStructure, str_cat("the graph's input '", graph.input, "' is an initializer as well"));
  }
  if (input->second.dtype != DType::kF32 || input->second.quantization.has_value()) {
    fail(graph, kPromiseStructure,
         str_cat("the graph's input '", graph.input, "' must be float32 without quantization"));
  }
  if (!is_valid_value_shape(input->second.shape)) {
    fail(graph, kPromiseShape,
         str_cat("the graph's input '", graph.input, "' has shape ", to_string(input->second.shape), ", which is no ",
                 value_shape_rule()));
  }
}

}  // namespace

bool is_valid_name(const std::string& name) {
  constexpr std::size_t kMaxNameBytes = 200;
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_valid_initializer_shape(const Shape& shape) {
  return !shape.empty() && shape.size() <= kMaxRank && bounded_product(shape, 0, kMaxInitializerElems) > 0;
}

void infer_structure(Graph& graph, std::int64_t& facts) {
  if (graph.nodes.empty() || static_cast<std::int64_t>(graph.nodes.size()) > kMaxNodes) {
    fail(graph, kPromiseStructure, str_cat("it has ", graph.nodes.size(), " nodes and must have 1 to ", kMaxNodes));
  }
  if (!graph.name.empty() && !is_valid_name(graph.name)) {
    // Not by fail(), which would repeat the name.
    throw GraphError(ErrorCategory::kCorruptData, kPromiseStructure, {},
                     "the graph's name is too long or not printable");
  }
  check_input_value(graph);
  Walk walk;
  walk.is_consumed.emplace(graph.input, false);
  const bool integer = is_integer_graph(graph);
  for (const Node& node : graph.nodes) {
    check_names(graph, node, walk);
    const OperatorSchema& schema = find_schema(graph, node);
    check_node_against_schema(graph, node, schema);
    check_inputs(graph, node, value_input_count(schema), walk);
    settle_output(graph, node, infer_output(graph, node, schema, integer));
    walk.is_consumed.emplace(node.output, false);
    // Its name, operator, arity, attributes, order, shape and element type.
    facts += 7;
  }
  check_ends(graph, walk);
}

}  // namespace internal

void infer_shapes(Graph& graph) {
  std::int64_t facts = 0;
  internal::infer_structure(graph, facts);
  const std::vector<internal::GraphError> problems = internal::find_number_problems(graph, facts);
  if (!problems.empty()) {
    throw problems.front();
  }
}

}  // namespace pare::graph
