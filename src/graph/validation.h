// The checks behind infer_shapes, read_artifact and verify_artifact. Internal to graph/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/graph/graph.h"

namespace pare::graph::internal {

// The promises that an artifact can break; VerifyFinding::promise.
inline constexpr const char* kPromiseChecksum = "checksum";
inline constexpr const char* kPromiseStructure = "structure";
inline constexpr const char* kPromiseShape = "shape";
inline constexpr const char* kPromiseScale = "scale";
inline constexpr const char* kPromiseRange = "range";
inline constexpr const char* kPromisePattern = "pattern";
inline constexpr const char* kPromiseZeros = "zeros";

// An Error that knows which layer breaks which promise.
class GraphError : public Error {
 public:
  GraphError(ErrorCategory category, std::string promise, std::string layer, std::string problem,
             std::string where = {}, std::string remedy = {})
      : Error(category, std::move(problem), std::move(where), std::move(remedy)),
        promise_(std::move(promise)),
        layer_(std::move(layer)) {}

  [[nodiscard]] const std::string& promise() const noexcept { return promise_; }
  [[nodiscard]] const std::string& layer() const noexcept { return layer_; }  // node name, "" for the whole

 private:
  std::string promise_;
  std::string layer_;
};

// 1 to 200 printable ASCII characters: what values, nodes and initializers may be called.
[[nodiscard]] bool is_valid_name(const std::string& name);

// 1 to 4 extents that are each within kMaxExtent, and at most 2^31 elements.
[[nodiscard]] bool is_valid_initializer_shape(const Shape& shape);

// infer_shapes without looking at any scale, code or bias. Throws GraphError. Adds the number of facts to `facts`.
void infer_structure(Graph& graph, std::int64_t& facts);

// A row of the table of operators (operators.cc). Each of these throws GraphError.
struct OperatorSchema;
[[nodiscard]] const OperatorSchema& find_schema(const Graph& graph, const Node& node);
// How many of a node's inputs are values; all others are initializers.
[[nodiscard]] std::size_t value_input_count(const OperatorSchema& schema);
// The version of the artifact format that brought a node's operator.
[[nodiscard]] int format_version(const Graph& graph, const Node& node);
// Arity, names and types of attributes.
void check_node_against_schema(const Graph& graph, const Node& node, const OperatorSchema& schema);
// Value of the node's output. Precondition: it passed check_node_against_schema, its inputs exist.
[[nodiscard]] Value infer_output(const Graph& graph, const Node& node, const OperatorSchema& schema,
                                 bool integer_graph);

[[nodiscard]] bool is_integer_operator(const std::string& op_type);

// Scales, zero points, codes, biases and 2:4 encodings of an integer graph that passed infer_structure.
// All contradictions, in node order; `facts` grows by what was looked at. Empty for a float graph.
[[nodiscard]] std::vector<GraphError> find_number_problems(const Graph& graph, std::int64_t& facts);

// "graph 'mlp', node 'fc1' (Gemm)"
[[nodiscard]] std::string describe(const Graph& graph, const Node& node);

}  // namespace pare::graph::internal
