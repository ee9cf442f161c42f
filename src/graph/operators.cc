// The operators: one row each of what they take, and the rule that gives their output.
#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "pare/base/strings.h"
#include "pare/format/elementwise.h"
#include "pare/graph/validation.h"

namespace pare::graph {
namespace internal {

// Order of the alternatives of graph::Attribute.
enum class AttributeType : std::size_t { kInt, kFloat, kString, kInts, kFloats };

struct AttributeRule {
  std::string_view name;
  AttributeType type;
  std::optional<std::int64_t> only = std::nullopt;  // the one value that pare can run (of kInt and kFloat)
  bool required = false;
};

// Where an operator stands, and what it reads there.
enum class OperatorKind {
  kTrained,   // float graphs only; reads float32
  kDeployed,  // integer graphs only; reads codes
  kPosition,  // both; reads float32 in the one, codes in the other
  kReal,      // both; reads float32
  kQuantize,  // integer graphs only; reads float32, and quantizes it
};

struct OperatorSchema {
  std::string_view op_type;
  OperatorKind kind;
  std::uint32_t min_inputs;  // the first `value_inputs` are values, all others are initializers
  std::uint32_t max_inputs;
  std::span<const AttributeRule> attributes;
  Value (*infer)(const Graph& graph, const Node& node);
  std::uint32_t value_inputs = 1;
  int version = 1;  // of the artifact format that brought it
};

namespace {

constexpr const char* kInputNames[] = {"input", "weight", "bias", "running_mean", "running_var"};

std::string_view type_name(AttributeType type) {
  constexpr std::array<std::string_view, 5> kNames{"an integer", "a number (float32)", "a text", "a list of integers",
                                                   "a list of numbers"};
  return kNames[static_cast<std::size_t>(type)];
}

[[noreturn]] void fail(const Graph& graph, const Node& node, const char* promise, std::string problem,
                       ErrorCategory category = ErrorCategory::kCorruptData, std::string remedy = {}) {
  throw GraphError(category, promise, node.name, std::move(problem), describe(graph, node), std::move(remedy));
}

const Value& input_value(const Graph& graph, const Node& node) { return graph.values.at(node.inputs[0]); }

void require_rank(const Graph& graph, const Node& node, std::size_t rank, std::size_t or_rank = 0) {
  const Shape& shape = input_value(graph, node).shape;
  if (shape.size() != rank && shape.size() != or_rank) {
    fail(graph, node, kPromiseShape,
         str_cat("its input '", node.inputs[0], "' has shape ", to_string(shape), ", but ", node.op_type, " needs ",
                 rank, or_rank == 0 ? "" : str_cat(" or ", or_rank), " dimensions"));
  }
}

// Input `index` is an initializer with this type and shape; a wildcard extent of -1 fits any. `int4`: it must be stored
// so; others must not.
const Initializer& require_initializer(const Graph& graph, const Node& node, std::size_t index, DType dtype,
                                       const Shape& expected, bool int4 = false) {
  const Initializer& found = graph.initializers.at(node.inputs[index]);
  if (found.dtype != dtype) {
    fail(graph, node, kPromiseStructure,
         str_cat(kInputNames[index], " '", node.inputs[index], "' is ", safetensors_name(found.dtype), " and must be ",
                 safetensors_name(dtype)));
  }
  if (found.is_int4() != int4) {
    fail(graph, node, kPromiseStructure,
         str_cat(kInputNames[index], " '", node.inputs[index], "' ", int4 ? "must be" : "is",
                 " stored int4, which only MatMulNBits multiplies with"));
  }
  bool fits = found.shape.size() == expected.size();
  for (std::size_t axis = 0; fits && axis < expected.size(); ++axis) {
    fits = expected[axis] == -1 || expected[axis] == found.shape[axis];
  }
  if (!fits) {
    Shape shown = expected;
    std::string text = "[";
    for (std::size_t axis = 0; axis < shown.size(); ++axis) {
      text += str_cat(axis == 0 ? "" : ", ", shown[axis] == -1 ? "any" : std::to_string(shown[axis]));
    }
    fail(graph, node, kPromiseShape,
         str_cat(kInputNames[index], " '", node.inputs[index], "' has shape ", to_string(found.shape),
                 " and must have ", text, "]"));
  }
  return found;
}

// Output of an operator that gives either: codes if the value has its quantization already, else float32.
Value quantized_or_float(const Graph& graph, const Node& node, Shape shape) {
  Value result{.dtype = DType::kF32, .shape = std::move(shape), .quantization = {}};
  const auto existing = graph.values.find(node.output);
  if (existing != graph.values.end() && existing->second.quantization.has_value()) {
    result.dtype = DType::kU8;
    result.quantization = existing->second.quantization;
  }
  return result;
}

// Output of an operator that gives codes and nothing else.
Value quantized(const Graph& graph, const Node& node, Shape shape) {
  const auto existing = graph.values.find(node.output);
  if (existing == graph.values.end() || !existing->second.quantization.has_value()) {
    fail(graph, node, kPromiseScale, str_cat("its output '", node.output, "' has no quantization"));
  }
  return {.dtype = DType::kU8, .shape = std::move(shape), .quantization = existing->second.quantization};
}

void require_known_activation(const Graph& graph, const Node& node) {
  const std::string activation = node.string_attribute("fused_activation", "");
  if (!activation.empty() && activation != "Relu") {
    fail(graph, node, kPromiseStructure, str_cat("fused_activation '", activation, "' is not known"),
         ErrorCategory::kUnsupported, "only \"Relu\" can be fused");
  }
}

Shape windowed_shape(const Graph& graph, const Node& node, std::int64_t channels) {
  const Window window = window_of(graph, node);
  const Shape& x = input_value(graph, node).shape;
  const std::int64_t height = window.output_height(x[2]);
  const std::int64_t width = window.output_width(x[3]);
  if (height < 1 || width < 1) {
    fail(graph, node, kPromiseShape,
         str_cat("its window of ", window.kernel_h, " x ", window.kernel_w, " does not fit the input ", to_string(x)));
  }
  return {kBatch, channels, height, width};
}

Value infer_conv(const Graph& graph, const Node& node) {
  const bool integer = is_integer_operator(node.op_type);
  require_rank(graph, node, 4);
  const Shape& x = input_value(graph, node).shape;
  const std::int64_t groups = node.int_attribute("group", 1);
  if (groups != 1 && groups != x[1]) {
    fail(graph, node, kPromiseStructure, str_cat("group ", groups, " is neither 1 nor its ", x[1], " input channels"),
         ErrorCategory::kUnsupported, "pare has dense and depthwise convolutions");
  }
  // Of a depthwise one, each channel has a filter of its own.
  const bool depthwise = groups != 1;
  const Shape expected = depthwise ? Shape{groups, 1, -1, -1} : Shape{-1, x[1], -1, -1};
  const Initializer& weight = require_initializer(graph, node, 1, integer ? DType::kS8 : DType::kF32, expected);
  if (node.inputs.size() > 2) {
    (void)require_initializer(graph, node, 2, integer ? DType::kS32 : DType::kF32, {weight.shape[0]});
  }
  Shape shape = windowed_shape(graph, node, weight.shape[0]);
  if (!integer) {
    return {.dtype = DType::kF32, .shape = std::move(shape), .quantization = {}};
  }
  require_known_activation(graph, node);
  return depthwise ? quantized(graph, node, std::move(shape)) : quantized_or_float(graph, node, std::move(shape));
}

Value infer_gemm(const Graph& graph, const Node& node) {
  const bool integer = is_integer_operator(node.op_type);
  require_rank(graph, node, 2, 3);
  const Shape& x = input_value(graph, node).shape;
  const Initializer& weight = require_initializer(graph, node, 1, integer ? DType::kS8 : DType::kF32, {-1, x.back()});
  if (node.inputs.size() > 2) {
    (void)require_initializer(graph, node, 2, integer ? DType::kS32 : DType::kF32, {weight.shape[0]});
  }
  Shape shape = x;
  shape.back() = weight.shape[0];
  if (!integer) {
    return {.dtype = DType::kF32, .shape = std::move(shape), .quantization = {}};
  }
  require_known_activation(graph, node);
  return quantized_or_float(graph, node, std::move(shape));
}

Value infer_real_product(const Graph& graph, const Node& node) {
  const bool int4 = node.op_type == "MatMulNBits";
  require_rank(graph, node, 2, 3);
  const Shape& x = input_value(graph, node).shape;
  const Initializer& weight = require_initializer(graph, node, 1, DType::kS8, {-1, x.back()}, int4);
  if (node.inputs.size() > 2) {
    (void)require_initializer(graph, node, 2, DType::kF32, {weight.shape[0]});
  }
  require_known_activation(graph, node);
  Shape shape = x;
  shape.back() = weight.shape[0];
  return {.dtype = DType::kF32, .shape = std::move(shape), .quantization = {}};
}

Value infer_batch_norm(const Graph& graph, const Node& node) {
  const Value& x = input_value(graph, node);
  for (std::size_t index = 1; index < node.inputs.size(); ++index) {
    (void)require_initializer(graph, node, index, DType::kF32, {x.shape[1]});
  }
  const float epsilon = node.float_attribute("epsilon", 1e-5F);
  const float momentum = node.float_attribute("momentum", 0.9F);
  if (!(epsilon > 0.0F && epsilon <= 1.0F) || !(momentum >= 0.0F && momentum <= 1.0F)) {
    fail(graph, node, kPromiseStructure,
         str_cat("epsilon ", epsilon, " must lie in (0, 1] and momentum ", momentum, " in [0, 1]"));
  }
  return x;
}

Value infer_same(const Graph& graph, const Node& node) { return input_value(graph, node); }

Value infer_max_pool(const Graph& graph, const Node& node) {
  require_rank(graph, node, 4);
  const Value& x = input_value(graph, node);
  const Window window = window_of(graph, node);
  // Then every window holds at least one number of the input, so that a maximum exists.
  if (std::max(window.pad_top, window.pad_bottom) >= window.kernel_h ||
      std::max(window.pad_left, window.pad_right) >= window.kernel_w) {
    fail(graph, node, kPromiseStructure, "its pads must be smaller than its kernel_shape");
  }
  return {.dtype = x.dtype, .shape = windowed_shape(graph, node, x.shape[1]), .quantization = x.quantization};
}

Value infer_flatten(const Graph& graph, const Node& node) {
  const Value& x = input_value(graph, node);
  std::int64_t features = 1;
  for (std::size_t axis = 1; axis < x.shape.size(); ++axis) {
    features *= x.shape[axis];  // within kMaxElemsPerImage, as the input's value was checked
  }
  return {.dtype = x.dtype, .shape = {kBatch, features}, .quantization = x.quantization};
}

Value infer_quantize_linear(const Graph& graph, const Node& node) {
  return quantized(graph, node, input_value(graph, node).shape);
}

Value infer_dequantize_linear(const Graph& graph, const Node& node) {
  return {.dtype = DType::kF32, .shape = input_value(graph, node).shape, .quantization = {}};
}

Value infer_add(const Graph& graph, const Node& node) {
  const Shape& a = input_value(graph, node).shape;
  const Shape& b = graph.values.at(node.inputs[1]).shape;
  if (a != b) {
    fail(graph, node, kPromiseShape,
         str_cat("its inputs '", node.inputs[0], "' ", to_string(a), " and '", node.inputs[1], "' ", to_string(b),
                 " must have one shape: nothing is broadcast"));
  }
  if (!is_integer_operator(node.op_type)) {
    return {.dtype = DType::kF32, .shape = a, .quantization = {}};
  }
  require_known_activation(graph, node);
  return quantized(graph, node, a);
}

// A value that becomes codes where that is what its quantization says: of an operator that reads float32.
Value infer_gelu(const Graph& graph, const Node& node) {
  const std::string approximate = node.string_attribute("approximate", "none");
  if (approximate != "none") {
    fail(graph, node, kPromiseStructure, str_cat("approximate '", approximate, "' is not known"),
         ErrorCategory::kUnsupported, "pare has the exact form only, \"none\"");
  }
  return quantized_or_float(graph, node, input_value(graph, node).shape);
}

Value infer_layer_norm(const Graph& graph, const Node& node) {
  const Shape& x = input_value(graph, node).shape;
  if (x.size() == 4) {
    fail(graph, node, kPromiseShape, "it normalizes rows of features, and its input is an image");
  }
  for (const std::size_t index : {1, 2}) {
    (void)require_initializer(graph, node, index, DType::kF32, {x.back()});
  }
  const float epsilon = node.float_attribute("epsilon", 1e-5F);
  if (!(epsilon > 0.0F && epsilon <= 1.0F)) {
    fail(graph, node, kPromiseStructure, str_cat("epsilon ", epsilon, " must lie in (0, 1]"));
  }
  return quantized_or_float(graph, node, x);
}

Value infer_attention(const Graph& graph, const Node& node) {
  require_rank(graph, node, 3);
  const Shape& q = input_value(graph, node).shape;
  for (const std::size_t index : {1, 2}) {
    const Shape& other = graph.values.at(node.inputs[index]).shape;
    if (other != q) {
      fail(graph, node, kPromiseShape,
           str_cat("its inputs '", node.inputs[0], "' ", to_string(q), " and '", node.inputs[index], "' ",
                   to_string(other), " must have one shape"));
    }
  }
  const std::int64_t heads = node.int_attribute("q_num_heads", 1);
  if (heads < 1 || q[2] % heads != 0 || node.int_attribute("kv_num_heads", 1) != heads) {
    fail(graph, node, kPromiseStructure,
         str_cat("its ", q[2], " features must be those of q_num_heads = kv_num_heads heads, not of ", heads));
  }
  if (std::max(q[1], q[2] / heads) > kMaxReductionElems) {
    fail(graph, node, kPromiseRange,
         str_cat("a head multiplies ", q[1], " x ", q[2] / heads, "; beyond ", kMaxReductionElems,
                 " products a sum could leave int32"));
  }
  return quantized_or_float(graph, node, q);
}

Value infer_global_average_pool(const Graph& graph, const Node& node) {
  require_rank(graph, node, 4);
  const Shape& x = input_value(graph, node).shape;
  if (x[2] * x[3] > format::kMaxAveragedPixels) {
    fail(graph, node, kPromiseShape,
         str_cat("it averages ", x[2] * x[3], " pixels; beyond ", format::kMaxAveragedPixels,
                 " their sum could leave int32"));
  }
  Shape shape{kBatch, x[1], 1, 1};
  if (!is_integer_operator(node.op_type)) {
    return {.dtype = DType::kF32, .shape = std::move(shape), .quantization = {}};
  }
  return quantized(graph, node, std::move(shape));
}

constexpr AttributeRule kGroup{.name = "group", .type = AttributeType::kInt};
constexpr AttributeRule kConvAttributes[] = {{.name = "strides", .type = AttributeType::kInts},
                                             {.name = "pads", .type = AttributeType::kInts},
                                             {.name = "dilations", .type = AttributeType::kInts},
                                             {.name = "kernel_shape", .type = AttributeType::kInts},
                                             kGroup};
constexpr AttributeRule kQConvAttributes[] = {{.name = "strides", .type = AttributeType::kInts},
                                              {.name = "pads", .type = AttributeType::kInts},
                                              {.name = "dilations", .type = AttributeType::kInts},
                                              {.name = "kernel_shape", .type = AttributeType::kInts},
                                              kGroup,
                                              {.name = "fused_activation", .type = AttributeType::kString}};
constexpr AttributeRule kGemmAttributes[] = {
    {.name = "transB", .type = AttributeType::kInt, .only = 1, .required = true},
    {.name = "transA", .type = AttributeType::kInt, .only = 0},
    {.name = "alpha", .type = AttributeType::kFloat, .only = 1},
    {.name = "beta", .type = AttributeType::kFloat, .only = 1}};
constexpr AttributeRule kQGemmAttributes[] = {
    {.name = "transB", .type = AttributeType::kInt, .only = 1, .required = true},
    {.name = "transA", .type = AttributeType::kInt, .only = 0},
    {.name = "alpha", .type = AttributeType::kFloat, .only = 1},
    {.name = "beta", .type = AttributeType::kFloat, .only = 1},
    {.name = "fused_activation", .type = AttributeType::kString}};
constexpr AttributeRule kBatchNormAttributes[] = {{.name = "epsilon", .type = AttributeType::kFloat},
                                                  {.name = "momentum", .type = AttributeType::kFloat}};
constexpr AttributeRule kMaxPoolAttributes[] = {
    {.name = "kernel_shape", .type = AttributeType::kInts, .required = true},
    {.name = "strides", .type = AttributeType::kInts},
    {.name = "pads", .type = AttributeType::kInts}};
constexpr AttributeRule kQAddAttributes[] = {{.name = "fused_activation", .type = AttributeType::kString}};
constexpr AttributeRule kGeluAttributes[] = {{.name = "approximate", .type = AttributeType::kString}};
constexpr AttributeRule kLayerNormAttributes[] = {{.name = "axis", .type = AttributeType::kInt, .only = -1},
                                                  {.name = "epsilon", .type = AttributeType::kFloat}};
constexpr AttributeRule kAttentionAttributes[] = {
    {.name = "q_num_heads", .type = AttributeType::kInt, .required = true},
    {.name = "kv_num_heads", .type = AttributeType::kInt, .required = true}};
constexpr AttributeRule kFlattenAttributes[] = {{.name = "axis", .type = AttributeType::kInt, .only = 1}};

constexpr AttributeRule kFusedActivation{.name = "fused_activation", .type = AttributeType::kString};
constexpr AttributeRule kNBitsAttributes[] = {{.name = "bits", .type = AttributeType::kInt, .only = 4},
                                              {.name = "accuracy_level", .type = AttributeType::kInt, .only = 4},
                                              kFusedActivation};
constexpr AttributeRule kDynamicAttributes[] = {kFusedActivation};

constexpr OperatorSchema kSchemas[] = {
    {"Conv", OperatorKind::kTrained, 2, 3, kConvAttributes, infer_conv},
    {"Gemm", OperatorKind::kTrained, 2, 3, kGemmAttributes, infer_gemm},
    {"BatchNormalization", OperatorKind::kTrained, 5, 5, kBatchNormAttributes, infer_batch_norm},
    {"Relu", OperatorKind::kTrained, 1, 1, {}, infer_same},
    {"GlobalAveragePool", OperatorKind::kTrained, 1, 1, {}, infer_global_average_pool},
    {"Add", OperatorKind::kReal, 2, 2, {}, infer_add, 2, 3},
    {"Gelu", OperatorKind::kReal, 1, 1, kGeluAttributes, infer_gelu, 1, 3},
    {"LayerNormalization", OperatorKind::kReal, 3, 3, kLayerNormAttributes, infer_layer_norm, 1, 3},
    {"Attention", OperatorKind::kTrained, 3, 3, kAttentionAttributes, infer_attention, 3},
    {"QLinearAttention", OperatorKind::kDeployed, 3, 3, kAttentionAttributes, infer_attention, 3, 3},
    {"MaxPool", OperatorKind::kPosition, 1, 1, kMaxPoolAttributes, infer_max_pool},
    {"Flatten", OperatorKind::kPosition, 1, 1, kFlattenAttributes, infer_flatten},
    {"QuantizeLinear", OperatorKind::kQuantize, 1, 1, {}, infer_quantize_linear},
    {"DequantizeLinear", OperatorKind::kDeployed, 1, 1, {}, infer_dequantize_linear, 1, 3},
    {"QLinearConv", OperatorKind::kDeployed, 3, 3, kQConvAttributes, infer_conv},
    {"QGemm", OperatorKind::kDeployed, 3, 3, kQGemmAttributes, infer_gemm},
    {"MatMulNBits", OperatorKind::kQuantize, 2, 3, kNBitsAttributes, infer_real_product, 1, 3},
    {"DynamicQuantizeMatMul", OperatorKind::kQuantize, 2, 3, kDynamicAttributes, infer_real_product, 1, 3},
    {"QLinearAdd", OperatorKind::kDeployed, 2, 2, kQAddAttributes, infer_add, 2, 2},
    {"QLinearGlobalAveragePool", OperatorKind::kDeployed, 1, 1, {}, infer_global_average_pool, 1, 2},
};

// Reads `count` integers within [low, high], or gives the fallback.
std::vector<std::int64_t> window_attribute(const Graph& graph, const Node& node, const std::string& key,
                                           std::vector<std::int64_t> fallback, std::int64_t low) {
  const std::size_t count = fallback.size();
  std::vector<std::int64_t> values = node.ints_attribute(key, std::move(fallback));
  if (values.size() != count) {
    fail(graph, node, kPromiseStructure, str_cat("'", key, "' has ", values.size(), " entries and must have ", count));
  }
  for (const std::int64_t value : values) {
    if (value < low || value > kMaxWindowAttribute) {
      fail(graph, node, kPromiseStructure,
           str_cat("'", key, "' holds ", value, ", outside ", low, " to ", kMaxWindowAttribute));
    }
  }
  return values;
}

}  // namespace

std::string describe(const Graph& graph, const Node& node) {
  return str_cat("graph '", graph.name, "', node '", node.name, "' (", node.op_type, ")");
}

bool is_integer_operator(const std::string& op_type) {
  for (const OperatorSchema& schema : kSchemas) {
    if (schema.op_type == op_type) {
      return schema.kind == OperatorKind::kDeployed || schema.kind == OperatorKind::kQuantize;
    }
  }
  return false;
}

std::size_t value_input_count(const OperatorSchema& schema) { return schema.value_inputs; }

int format_version(const Graph& graph, const Node& node) { return find_schema(graph, node).version; }

const OperatorSchema& find_schema(const Graph& graph, const Node& node) {
  std::vector<std::string> known;
  for (const OperatorSchema& schema : kSchemas) {
    if (schema.op_type == node.op_type) {
      return schema;
    }
    known.emplace_back(schema.op_type);
  }
  fail(graph, node, kPromiseStructure, "its operator is not known", ErrorCategory::kUnsupported,
       did_you_mean(node.op_type, known));
}

void check_node_against_schema(const Graph& graph, const Node& node, const OperatorSchema& schema) {
  if (node.inputs.size() < schema.min_inputs || node.inputs.size() > schema.max_inputs) {
    fail(graph, node, kPromiseStructure,
         str_cat("it has ", node.inputs.size(), " inputs and must have ", schema.min_inputs,
                 schema.max_inputs > schema.min_inputs ? str_cat(" to ", schema.max_inputs) : ""));
  }
  std::vector<std::string> known;
  for (const AttributeRule& rule : schema.attributes) {
    known.emplace_back(rule.name);
    const auto found = node.attributes.find(std::string(rule.name));
    if (found == node.attributes.end()) {
      if (rule.required) {
        const std::string value = rule.only ? str_cat(" = ", *rule.only) : "";
        fail(graph, node, kPromiseStructure, str_cat("it lacks the attribute '", rule.name, "'", value));
      }
      continue;
    }
    if (found->second.index() != static_cast<std::size_t>(rule.type)) {
      fail(graph, node, kPromiseStructure, str_cat("attribute '", rule.name, "' must be ", type_name(rule.type)));
    }
    if (!rule.only) {
      continue;
    }
    const bool kept = rule.type == AttributeType::kInt
                          ? std::get<std::int64_t>(found->second) == *rule.only
                          : std::get<float>(found->second) == static_cast<float>(*rule.only);
    if (!kept) {
      fail(graph, node, kPromiseStructure, str_cat("attribute '", rule.name, "' must be ", *rule.only),
           ErrorCategory::kUnsupported, "pare has no other form of this operator");
    }
  }
  for (const auto& attribute : node.attributes) {
    if (std::find(known.begin(), known.end(), attribute.first) == known.end()) {
      fail(graph, node, kPromiseStructure, str_cat("attribute '", attribute.first, "' is not known"),
           ErrorCategory::kUnsupported, did_you_mean(attribute.first, known));
    }
  }
}

Value infer_output(const Graph& graph, const Node& node, const OperatorSchema& schema, bool integer_graph) {
  if (integer_graph && schema.kind == OperatorKind::kTrained) {
    fail(graph, node, kPromiseStructure, "an operator of float graphs stands in an integer graph",
         ErrorCategory::kUnsupported);
  }
  const bool reads_codes =
      schema.kind == OperatorKind::kDeployed || (schema.kind == OperatorKind::kPosition && integer_graph);
  const DType expected = reads_codes ? DType::kU8 : DType::kF32;
  for (std::size_t index = 0; index < schema.value_inputs; ++index) {
    const DType found = graph.values.at(node.inputs[index]).dtype;
    if (found != expected) {
      fail(graph, node, kPromiseStructure,
           str_cat("its input '", node.inputs[index], "' is ", safetensors_name(found), " and must be ",
                   safetensors_name(expected)));
    }
  }
  Value output = schema.infer(graph, node);
  if (!integer_graph && output.quantization.has_value()) {
    fail(graph, node, kPromiseStructure, "its output has a quantization, in a graph that computes in float32");
  }
  return output;
}

}  // namespace internal

bool is_integer_graph(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                     [](const Node& node) { return internal::is_integer_operator(node.op_type); });
}

Window window_of(const Graph& graph, const Node& node) {
  std::vector<std::int64_t> kernel{1, 1};
  if (node.has_weight()) {
    const Shape& weight = graph.initializer(node.inputs[1]).shape;
    if (weight.size() != 4) {
      internal::fail(graph, node, internal::kPromiseShape,
                     str_cat("its weight ", to_string(weight), " is no convolution's"));
    }
    kernel = {weight[2], weight[3]};
  }
  const std::vector<std::int64_t> stated = internal::window_attribute(graph, node, "kernel_shape", kernel, 1);
  if (node.has_weight() && stated != kernel) {
    internal::fail(graph, node, internal::kPromiseShape,
                   str_cat("kernel_shape ", to_string(stated), " contradicts the weight's ", to_string(kernel)));
  }
  const std::vector<std::int64_t> strides = internal::window_attribute(graph, node, "strides", {1, 1}, 1);
  const std::vector<std::int64_t> dilations = internal::window_attribute(graph, node, "dilations", {1, 1}, 1);
  const std::vector<std::int64_t> pads = internal::window_attribute(graph, node, "pads", {0, 0, 0, 0}, 0);
  return {.kernel_h = stated[0],
          .kernel_w = stated[1],
          .stride_h = strides[0],
          .stride_w = strides[1],
          .dilation_h = dilations[0],
          .dilation_w = dilations[1],
          .pad_top = pads[0],
          .pad_left = pads[1],
          .pad_bottom = pads[2],
          .pad_right = pads[3]};
}

}  // namespace pare::graph
