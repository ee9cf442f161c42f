#include "pare/graph/weights.h"

#include <algorithm>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::graph {
namespace {

struct GroupOrder {
  std::int64_t rows, channels, taps;
};

GroupOrder group_order_of(const Shape& shape) {
  PARE_CHECK(shape.size() == 2 || shape.size() == 4);
  return shape.size() == 4 ? GroupOrder{shape[0], shape[1], shape[2] * shape[3]} : GroupOrder{shape[0], shape[1], 1};
}

// Calls move(row-major index, group-order index) for every element.
template <typename Move>
void for_each_pair(const Shape& shape, Move&& move) {
  const GroupOrder order = group_order_of(shape);
  std::size_t grouped = 0;
  for (std::int64_t row = 0; row < order.rows; ++row) {
    for (std::int64_t tap = 0; tap < order.taps; ++tap) {
      for (std::int64_t channel = 0; channel < order.channels; ++channel) {
        move(static_cast<std::size_t>((row * order.channels + channel) * order.taps + tap), grouped++);
      }
    }
  }
}

}  // namespace

format::TwoFourLayout two_four_layout(const Shape& weight_shape) {
  const GroupOrder order = group_order_of(weight_shape);
  return {.rows = order.rows, .segments = order.taps, .segment_elems = order.channels};
}

format::VnmLayout vnm_layout(const Shape& weight_shape, const format::VnmPattern& pattern) {
  const GroupOrder order = group_order_of(weight_shape);
  return {.pattern = pattern, .rows = order.rows, .segments = order.taps, .segment_elems = order.channels};
}

format::Int4Layout int4_layout(const Shape& weight_shape, Encoding encoding, std::int64_t group) {
  PARE_CHECK(weight_shape.size() == 2);
  const auto form = encoding == Encoding::kInt4 ? format::Int4Form::kDense : format::Int4Form::kTwoFour;
  return {.form = form, .rows = weight_shape[0], .k = weight_shape[1], .group = group};
}

format::BlockLayout block_layout(const Shape& weight_shape, const format::BlockPattern& pattern) {
  const GroupOrder order = group_order_of(weight_shape);
  return {.pattern = pattern, .rows = order.rows, .segments = order.taps, .segment_elems = order.channels};
}

std::vector<std::int8_t> to_group_order(std::span<const std::int8_t> codes, const Shape& weight_shape) {
  PARE_CHECK(static_cast<std::int64_t>(codes.size()) == element_count(weight_shape));
  std::vector<std::int8_t> grouped(codes.size());
  for_each_pair(weight_shape, [&](std::size_t row_major, std::size_t group) { grouped[group] = codes[row_major]; });
  return grouped;
}

std::vector<std::int8_t> from_group_order(std::span<const std::int8_t> codes, const Shape& weight_shape) {
  PARE_CHECK(static_cast<std::int64_t>(codes.size()) == element_count(weight_shape));
  std::vector<std::int8_t> row_major_codes(codes.size());
  for_each_pair(weight_shape,
                [&](std::size_t row_major, std::size_t group) { row_major_codes[row_major] = codes[group]; });
  return row_major_codes;
}

std::vector<std::int8_t> codes_in_group_order(const Initializer& weight) {
  PARE_CHECK(weight.dtype == DType::kS8);
  const auto stored = weight.data.as<std::int8_t>();
  const auto indices = weight.indices.as<std::uint8_t>();
  switch (weight.encoding) {
    case Encoding::kTwoFour:
      return format::decode_two_four(stored, indices, two_four_layout(weight.shape));
    case Encoding::kVnm:
      return format::decode_vnm(stored, indices, vnm_layout(weight.shape, weight.vnm));
    case Encoding::kInt4:
    case Encoding::kInt4TwoFour:
      return format::decode_int4(weight.data.as<std::uint8_t>(), indices,
                                 int4_layout(weight.shape, weight.encoding, weight.group));
    case Encoding::kBlock:
      return format::decode_block(stored, indices, block_layout(weight.shape, weight.block));
    case Encoding::kDense:
      break;
  }
  return to_group_order(stored, weight.shape);
}

std::string scheme_of(const Graph& graph, const Node& node) {
  PARE_CHECK(node.has_weight());
  const Initializer& weight = graph.initializers.at(node.inputs[1]);
  const bool dynamic = graph.values.at(node.inputs[0]).dtype == DType::kF32;
  return str_cat(dynamic ? "dynamic int8" : "uint8", " x ",
                 weight.is_int4() ? str_cat("int4 group ", weight.group) : std::string("int8"));
}

std::int64_t count_zeros(const Initializer& weight) {
  PARE_CHECK(weight.dtype == DType::kS8);
  if (weight.is_int4()) {
    const std::vector<std::int8_t> codes = codes_in_group_order(weight);
    return std::count(codes.begin(), codes.end(), std::int8_t{0});
  }
  const auto stored = weight.data.as<std::int8_t>();
  const auto zeros = std::count(stored.begin(), stored.end(), std::int8_t{0});
  return element_count(weight.shape) - (static_cast<std::int64_t>(stored.size()) - zeros);
}

Initializer encode_two_four(const Initializer& dense) {
  PARE_CHECK(dense.encoding == Encoding::kDense);
  const format::TwoFourWeights packed =
      format::encode_two_four(codes_in_group_order(dense), two_four_layout(dense.shape));
  Initializer result = dense;
  result.encoding = Encoding::kTwoFour;
  result.data = Buffer::copy_of(packed.values);
  result.indices = Buffer::copy_of(packed.indices);
  return result;
}

Initializer encode_vnm(const Initializer& dense, const format::VnmPattern& pattern) {
  PARE_CHECK(dense.encoding == Encoding::kDense);
  const format::VnmWeights packed = format::encode_vnm(codes_in_group_order(dense), vnm_layout(dense.shape, pattern));
  Initializer result = dense;
  result.encoding = Encoding::kVnm;
  result.vnm = pattern;
  result.data = Buffer::copy_of(packed.values);
  result.indices = Buffer::copy_of(packed.indices);
  return result;
}

Initializer encode_int4(const format::Int4Codes& weights, Shape shape, Encoding encoding, std::int64_t group) {
  const format::Int4Weights packed = format::encode_int4(weights, int4_layout(shape, encoding, group));
  Initializer result;
  result.dtype = DType::kS8;
  result.shape = std::move(shape);
  result.encoding = encoding;
  result.group = group;
  result.data = Buffer::copy_of(packed.codes);
  result.indices = Buffer::copy_of(packed.indices);
  result.scales = Buffer::copy_of(packed.scales);
  return result;
}

Initializer encode_block(const Initializer& dense, const format::BlockPattern& pattern) {
  PARE_CHECK(dense.encoding == Encoding::kDense);
  const format::BlockWeights packed =
      format::encode_block(codes_in_group_order(dense), block_layout(dense.shape, pattern));
  Initializer result = dense;
  result.encoding = Encoding::kBlock;
  result.block = pattern;
  result.data = Buffer::copy_of(packed.values);
  result.indices = Buffer::copy_of(packed.indices);
  return result;
}

Initializer decode_dense(const Initializer& weight) {
  PARE_CHECK(!weight.is_int4());
  if (weight.encoding == Encoding::kDense) return weight;
  Initializer result = weight;
  result.encoding = Encoding::kDense;
  result.vnm = {};
  result.block = {};
  result.data = Buffer::copy_of(from_group_order(codes_in_group_order(weight), weight.shape));
  result.indices = {};
  return result;
}

}  // namespace pare::graph
