#include "pare/graph/graph.h"

#include <algorithm>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/block.h"
#include "pare/format/vnm.h"

namespace pare::graph {
namespace {

template <typename T>
T attribute(const Node& node, const std::string& key, T fallback, std::string_view type_name) {
  const auto found = node.attributes.find(key);
  if (found == node.attributes.end()) {
    return fallback;
  }
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) {
    throw Error(ErrorCategory::kCorruptData, str_cat("attribute '", key, "' must be ", type_name),
                str_cat("node '", node.name, "' (", node.op_type, ")"));
  }
  return *value;
}

std::string graph_label(const Graph& graph) { return str_cat("graph '", graph.name, "'"); }

}  // namespace

Buffer Buffer::copy_of_bytes(std::span<const std::byte> bytes) {
  // The default allocator aligns to at least 16 bytes, enough for every element type.
  const auto storage = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
  const std::span<const std::byte> copied(*storage);
  return {std::shared_ptr<const std::byte>(storage, storage->data()), copied};
}

std::string Initializer::pattern() const {
  switch (encoding) {
    case Encoding::kTwoFour:
    case Encoding::kInt4TwoFour:
      return "2:4";
    case Encoding::kVnm:
      return format::to_string(vnm);
    case Encoding::kBlock:
      return format::to_string(block);
    case Encoding::kDense:
    case Encoding::kInt4:
      break;
  }
  return "dense";
}

Initializer Initializer::f32(Shape shape, const std::vector<float>& values) {
  PARE_CHECK(element_count(shape) == static_cast<std::int64_t>(values.size()));
  Initializer result;
  result.shape = std::move(shape);
  result.data = Buffer::copy_of(values);
  return result;
}

std::int64_t Node::int_attribute(const std::string& key, std::int64_t fallback) const {
  return attribute<std::int64_t>(*this, key, fallback, "an integer");
}

float Node::float_attribute(const std::string& key, float fallback) const {
  return attribute<float>(*this, key, fallback, "a number (float32)");
}

std::string Node::string_attribute(const std::string& key, const std::string& fallback) const {
  return attribute<std::string>(*this, key, fallback, "a text");
}

std::vector<std::int64_t> Node::ints_attribute(const std::string& key, std::vector<std::int64_t> fallback) const {
  return attribute<std::vector<std::int64_t>>(*this, key, std::move(fallback), "a list of integers");
}

bool Node::is_depthwise() const {
  return (op_type == "Conv" || op_type == "QLinearConv") && int_attribute("group", 1) != 1;
}

bool Node::has_weight() const {
  return op_type == "Conv" || op_type == "Gemm" || op_type == "QLinearConv" || op_type == "QGemm" ||
         op_type == "MatMulNBits" || op_type == "DynamicQuantizeMatMul";
}

const Node& Graph::node(const std::string& node_name) const {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) { return node.name == node_name; });
  if (found == nodes.end()) {
    std::vector<std::string> known;
    for (const Node& node : nodes) {
      known.push_back(node.name);
    }
    throw Error(ErrorCategory::kNotFound, str_cat("no node '", node_name, "'"), graph_label(*this),
                did_you_mean(node_name, known));
  }
  return *found;
}

const Node* Graph::producer_of(const std::string& value) const {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) { return node.output == value; });
  return found == nodes.end() ? nullptr : &*found;
}

std::vector<const Node*> Graph::consumers_of(const std::string& value) const {
  std::vector<const Node*> consumers;
  for (const Node& node : nodes) {
    if (std::find(node.inputs.begin(), node.inputs.end(), value) != node.inputs.end()) {
      consumers.push_back(&node);
    }
  }
  return consumers;
}

const Initializer& Graph::initializer(const std::string& initializer_name) const {
  const auto found = initializers.find(initializer_name);
  if (found == initializers.end()) {
    std::vector<std::string> known;
    for (const auto& entry : initializers) {
      known.push_back(entry.first);
    }
    throw Error(ErrorCategory::kNotFound, str_cat("no initializer '", initializer_name, "'"), graph_label(*this),
                did_you_mean(initializer_name, known));
  }
  return found->second;
}

std::vector<std::string> Graph::weight_names() const {
  std::vector<std::string> names;
  for (const Node& node : nodes) {
    if (node.has_weight() && node.inputs.size() > 1) {
      names.push_back(node.inputs[1]);
    }
  }
  return names;
}

std::int64_t dense_fp32_bytes(const Graph& graph) {
  std::int64_t elems = 0;
  for (const auto& entry : graph.initializers) {
    elems += element_count(entry.second.shape);
  }
  return elems * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace pare::graph
