// Graph: the one representation of a network. A torch-free, in-memory subset of ONNX.
//
// Every way in (built-ins; later ONNX, TorchScript, traces) produces a Graph, every way out (train::Model, .pare,
// later ONNX) consumes one. A float graph holds Conv, BatchNormalization, Relu, Add, GlobalAveragePool, MaxPool,
// Flatten, Gemm; conversion yields an integer graph of QuantizeLinear, QLinearConv, QLinearAdd,
// QLinearGlobalAveragePool, MaxPool, Flatten, QGemm, MatMulNBits, DynamicQuantizeMatMul. In an integer graph values are
// codes or float32: QuantizeLinear and DequantizeLinear lead from one to the other, QLinearConv, QGemm and
// QLinearAttention may give either, and Add, LayerNormalization and Gelu (which stand in float graphs as well) read
// float32; the last two may give codes.
//
// Values of a graph carry their shape (first dimension kBatch) and, in an integer graph, their quantization; an
// initializer carries dtype, shape, encoding and quantization of its own. So a quantized operator takes
// (x, weight, bias) and finds scales and zero points with the values, where ONNX spells them out as further inputs.
//
// What each operator takes (attributes have ONNX's meaning and defaults; one that is not listed is refused):
//   Conv, QLinearConv   x [batch, I, h, w], weight [O, I, kh, kw], bias [O]; strides, pads, dilations, kernel_shape,
//                       group (1, or I = O for a depthwise one, whose weight is [O, 1, kh, kw]); QLinearConv:
//                       fused_activation
//   Gemm, QGemm         x [batch, k] or [batch, length, k], weight [n, k], bias [n]; transB = 1 (must be there),
//                       transA = 0, alpha = beta = 1; QGemm: fused_activation
//   MatMulNBits, DynamicQuantizeMatMul
//                       x [batch, k] or [batch, length, k], weight [n, k], bias [n], all float32 but the weight, which
//                       is int4 in groups or int8 with a scale a channel; x is quantized row by row when it comes
//                       (kernels/quantize_rows); fused_activation; MatMulNBits: bits = 4, accuracy_level = 4
//   BatchNormalization  x, weight, bias, running_mean, running_var, each [channels]; epsilon, momentum
//   Add, QLinearAdd     two values of one shape (nothing is broadcast); QLinearAdd: fused_activation
//   GlobalAveragePool, QLinearGlobalAveragePool
//                       x [batch, channels, h, w], to [batch, channels, 1, 1]
//   LayerNormalization  x [..., n], weight [n], bias [n]; axis = -1, epsilon
//   Gelu                approximate = "none"
//   Attention, QLinearAttention
//                       q, k, v [batch, length, features] of one shape; q_num_heads = kv_num_heads, which cut the
//                       features; softmax(Q K^T / sqrt(features of a head)) V by head
//   MaxPool             kernel_shape, strides (default 1, as ONNX's), pads
//   Flatten             axis (1 only)
//   Relu, QuantizeLinear, DequantizeLinear
// The bias of QLinearConv and QGemm may not be left out; that of all others may. A quantized bias has no
// Quantization of its own: its scale is the input's scale times the weight's, its zero point 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "pare/format/block_pattern.h"
#include "pare/format/dtype.h"
#include "pare/format/vnm_pattern.h"

namespace pare::graph {

// Extent of the batch dimension of every value: unknown until a run.
inline constexpr std::int64_t kBatch = -1;

// real = scale * (q - zero_point); one scale, or one per channel along `axis`.
struct Quantization {
  std::vector<float> scales;
  std::int32_t zero_point = 0;
  int axis = -1;  // -1: per tensor
  friend bool operator==(const Quantization&, const Quantization&) = default;
};

struct Value {
  DType dtype = DType::kF32;
  Shape shape;  // an image NCHW, else row-major; first extent kBatch
  std::optional<Quantization> quantization;
  friend bool operator==(const Value&, const Value&) = default;
};

// Values of rank 4 are images: [batch, channels, height, width].
[[nodiscard]] inline bool is_image(const Value& value) { return value.shape.size() == 4; }

enum class Encoding {
  kDense,        // row-major
  kTwoFour,      // format/two_four.h; `data` holds the values, `indices` the indices
  kVnm,          // format/vnm.h, likewise
  kBlock,        // format/block.h, likewise
  kInt4,         // format/int4.h: `data` holds the codes, `scales` those of the groups
  kInt4TwoFour,  // likewise, with `indices`
};

// Read-only bytes that are owned or borrowed from a mapped file that `owner` keeps alive.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::shared_ptr<const std::byte> owner, std::span<const std::byte> bytes)
      : owner_(std::move(owner)), bytes_(bytes) {}
  template <typename T>
  [[nodiscard]] static Buffer copy_of(std::span<const T> items);
  template <typename T>
  [[nodiscard]] static Buffer copy_of(const std::vector<T>& items) {
    return copy_of(std::span<const T>(items));
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }

 private:
  [[nodiscard]] static Buffer copy_of_bytes(std::span<const std::byte> bytes);
  std::shared_ptr<const std::byte> owner_;
  std::span<const std::byte> bytes_;
};

template <typename T>
Buffer Buffer::copy_of(std::span<const T> items) {
  return copy_of_bytes(std::as_bytes(items));
}

// A constant. `shape` is always the logical one ([O, I, kh, kw] or [n, k]), whatever the encoding.
struct Initializer {
  DType dtype = DType::kF32;
  Shape shape;
  Encoding encoding = Encoding::kDense;
  Buffer data;
  Buffer indices;                            // of all encodings but kDense and kInt4
  format::VnmPattern vnm;                    // kVnm only
  format::BlockPattern block;                // kBlock only
  std::int64_t group = 0;                    // kInt4 and kInt4TwoFour: elements of a group
  Buffer scales;                             // kInt4 and kInt4TwoFour: float16 bits
  std::optional<Quantization> quantization;  // of int8 weights

  [[nodiscard]] static Initializer f32(Shape shape, const std::vector<float>& values);
  // The pattern that is stored: "dense", "2:4", "64:1:4", "1x4".
  [[nodiscard]] std::string pattern() const;
  // int4 in groups; the element type is then that of its codes, int8.
  [[nodiscard]] bool is_int4() const { return encoding == Encoding::kInt4 || encoding == Encoding::kInt4TwoFour; }
  // The encoding stores every code, zeros included.
  [[nodiscard]] bool stores_zeros() const { return encoding == Encoding::kDense || encoding == Encoding::kInt4; }
  // Codes, indices and scales of groups; a scale a channel is not counted.
  [[nodiscard]] std::size_t stored_bytes() const {
    return data.bytes().size() + indices.bytes().size() + scales.bytes().size();
  }
};

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>>;

// One operator. `name` is the layer's name ("conv1"), unique in the graph; `op_type` is ONNX's (QGemm, QLinearAdd and
// QLinearGlobalAveragePool: com.microsoft's). A node has one output. Where the list above has it, the attribute
// "fused_activation" = "Relu" means that the output is limited to >= 0 before it is rounded; QGemm and QLinearConv
// whose output value is F32 dequantize instead of requantizing: float(acc) * accumulator_scale[channel].
struct Node {
  std::string name;
  std::string op_type;
  std::vector<std::string> inputs;
  std::string output;
  std::map<std::string, Attribute> attributes;

  // Throws kCorruptData if the attribute has another type.
  [[nodiscard]] std::int64_t int_attribute(const std::string& key, std::int64_t fallback) const;
  [[nodiscard]] float float_attribute(const std::string& key, float fallback) const;
  [[nodiscard]] std::string string_attribute(const std::string& key, const std::string& fallback) const;
  [[nodiscard]] std::vector<std::int64_t> ints_attribute(const std::string& key,
                                                         std::vector<std::int64_t> fallback) const;
  // Conv and QLinearConv: each channel has a filter of its own (more than one group).
  [[nodiscard]] bool is_depthwise() const;
  // Conv, Gemm, QLinearConv, QGemm, MatMulNBits, DynamicQuantizeMatMul: inputs[1] is a weight.
  [[nodiscard]] bool has_weight() const;
};

struct Graph {
  std::string name;
  std::string input;        // value name
  std::string output;       // value name
  std::vector<Node> nodes;  // in an order in which they can be executed
  std::map<std::string, Value> values;
  std::map<std::string, Initializer> initializers;  // "conv1.weight": named as the parameters of the trained model

  [[nodiscard]] const Node& node(const std::string& name) const;          // throws kNotFound with nearest names
  [[nodiscard]] const Node* producer_of(const std::string& value) const;  // null for the graph's input
  [[nodiscard]] std::vector<const Node*> consumers_of(const std::string& value) const;
  [[nodiscard]] const Initializer& initializer(const std::string& name) const;  // throws kNotFound with nearest names
  [[nodiscard]] std::vector<std::string> weight_names() const;  // inputs[1] of nodes with weights, in order
};

// Limits that keep every size that follows from a graph within int64, and every accumulator within int32.
inline constexpr std::int64_t kMaxExtent = std::int64_t{1} << 24;         // of one dimension
inline constexpr std::int64_t kMaxElemsPerImage = std::int64_t{1} << 26;  // of one value, without the batch
inline constexpr std::int64_t kMaxWindowAttribute = 1024;                 // kernel, stride, dilation, padding
inline constexpr std::int64_t kMaxNodes = 4096;
inline constexpr std::int32_t kMaxBias = std::int32_t{1} << 30;  // |bias|; format::quantize_bias keeps to it
// Products in one integer accumulator: 255 * 127 * k + 2^30 <= 2^31 - 1.
inline constexpr std::int64_t kMaxReductionElems = (2147483647LL - kMaxBias) / (255 * 127);

// Checks the whole graph (names, order, arity, attribute values, dtypes, sizes of buffers, quantization, weight codes)
// and fills in `values[...].shape` and `.dtype` of every node's output from the input's value and the operators' rules.
// A value's shape that is there already must agree; an empty one is filled in. The graph's input value must be
// complete. In an integer graph the outputs of all operators that give codes must have their quantization beforehand,
// but for MaxPool and Flatten, which pass theirs on. What may give either gives float32 where there is none.
// Nothing may be left over: every node, value and initializer is needed by the output, an initializer by one node only.
// Throws kCorruptData that names the node and the contradiction; kUnsupported for an unknown op_type, for an attribute
// outside what is listed above and for a weight that several nodes share.
void infer_shapes(Graph& graph);

// True if a node has an operator of integer graphs: the graph is one that can be deployed.
[[nodiscard]] bool is_integer_graph(const Graph& graph);

// The sliding window of a Conv, QLinearConv or MaxPool, attributes and their defaults resolved.
struct Window {
  std::int64_t kernel_h = 1, kernel_w = 1;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;

  [[nodiscard]] std::int64_t output_height(std::int64_t input_height) const {
    return output_extent(input_height + pad_top + pad_bottom, kernel_h, stride_h, dilation_h);
  }
  [[nodiscard]] std::int64_t output_width(std::int64_t input_width) const {
    return output_extent(input_width + pad_left + pad_right, kernel_w, stride_w, dilation_w);
  }

 private:
  // Windows that fit; 0 or less: none does.
  [[nodiscard]] static std::int64_t output_extent(std::int64_t padded, std::int64_t kernel, std::int64_t stride,
                                                  std::int64_t dilation) {
    const std::int64_t spare = padded - (kernel - 1) * dilation - 1;
    return spare < 0 ? 0 : spare / stride + 1;
  }
};
// Throws kCorruptData for an attribute of a wrong type, length or range, and for a weight that contradicts it.
[[nodiscard]] Window window_of(const Graph& graph, const Node& node);

// Conv followed by BatchNormalization becomes one Conv (with bias), in double:
//   w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta
// Exact zeros stay exact zeros. The Conv's output takes over the BatchNormalization's value name.
// Returns the names of the nodes that are gone. Throws kUnsupported for a BatchNormalization that follows no Conv, or a
// Conv whose output others read as well.
std::vector<std::string> fold_batch_norm(Graph& graph);

// Bytes that all weights and biases (and batch-norm statistics) take as dense float32.
[[nodiscard]] std::int64_t dense_fp32_bytes(const Graph& graph);

}  // namespace pare::graph
