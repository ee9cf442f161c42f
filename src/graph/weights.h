// Weights between their encodings: row-major as trained, 2:4, V:N:M or in blocks as stored, group order as kernels want
// them.
//
// Group order is [O, kh, kw, I] for a convolution (groups run along the input channels) and row-major [n, k]
// for a matrix; format/two_four.h says why.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pare/format/block.h"
#include "pare/format/int4.h"
#include "pare/format/two_four.h"
#include "pare/format/vnm.h"
#include "pare/graph/graph.h"

namespace pare::graph {

// Of a weight [O, I, kh, kw] or [n, k]. Precondition: rank 4 or 2.
[[nodiscard]] format::TwoFourLayout two_four_layout(const Shape& weight_shape);
[[nodiscard]] format::VnmLayout vnm_layout(const Shape& weight_shape, const format::VnmPattern& pattern);
[[nodiscard]] format::BlockLayout block_layout(const Shape& weight_shape, const format::BlockPattern& pattern);

// Of an int4 weight, or of one that is to become it.
[[nodiscard]] format::Int4Layout int4_layout(const Shape& weight_shape, Encoding encoding, std::int64_t group);

// Row-major codes [O, I, kh, kw] (or [n, k]) to group order, and back. Precondition: sizes match the shape.
[[nodiscard]] std::vector<std::int8_t> to_group_order(std::span<const std::int8_t> codes, const Shape& weight_shape);
[[nodiscard]] std::vector<std::int8_t> from_group_order(std::span<const std::int8_t> codes, const Shape& weight_shape);

// Codes of an int8 or int4 weight in group order, whatever its encoding. Precondition: the graph was validated.
[[nodiscard]] std::vector<std::int8_t> codes_in_group_order(const Initializer& weight);

// How a deployed layer with a weight is quantized, what it reads and the weight: "uint8 x int8", "dynamic int8 x int8",
// "dynamic int8 x int4 group 32". Precondition: the graph was validated.
[[nodiscard]] std::string scheme_of(const Graph& graph, const Node& node);

// Codes of an int8 or int4 weight that are 0; those that the encoding leaves out count. Precondition: the graph was
// validated.
[[nodiscard]] std::int64_t count_zeros(const Initializer& weight);

// A dense int8 weight re-encoded as 2:4; quantization is kept. Precondition: the pattern holds
// (format::find_two_four_violation of to_group_order(codes)).
[[nodiscard]] Initializer encode_two_four(const Initializer& dense);
// The same for V:N:M (format::find_vnm_violation).
[[nodiscard]] Initializer encode_vnm(const Initializer& dense, const format::VnmPattern& pattern);
// The same in blocks, which any weight can be.
[[nodiscard]] Initializer encode_block(const Initializer& dense, const format::BlockPattern& pattern);
// An int4 weight [n, k]: `encoding` is kInt4, or kInt4TwoFour, whose pattern holds. Preconditions:
// format::encode_int4's.
[[nodiscard]] Initializer encode_int4(const format::Int4Codes& weights, Shape shape, Encoding encoding,
                                      std::int64_t group);
// The reverse of 2:4, V:N:M and blocks; a dense weight as it is.
[[nodiscard]] Initializer decode_dense(const Initializer& weight);

}  // namespace pare::graph
