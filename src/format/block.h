// Block-sparse int8 weights, as stored: the blocks that are not all zero, and one bit for every block.
//
// The matrix is that of two_four.h: `rows` rows of `segments` runs of `segment_elems` elements. Rows are cut into block
// rows of pattern.rows, every run into blocks of pattern.columns; the last of either may hang over the edge, where its
// elements count as 0. (What torch calls BSR, with a bit map in place of column indices: a bit is never more than the
// two bytes of an index as long as one block in sixteen is kept, and needs no row pointers.)
//
// Stored form:
//   indices  uint8, block row by block row, ceil(row_blocks / 8) bytes each: bit b % 8 of byte b / 8 is set if block b
//            of the row is stored
//   values   int8, the stored blocks in that order, pattern.rows * pattern.columns each, row by row
// Canonical: a block is stored if and only if one of its elements is not 0; what hangs over an edge and the bits past a
// row's last block are 0.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pare/format/block_pattern.h"

namespace pare::format {

inline constexpr std::int64_t kMaxBlockExtent = 256;

struct BlockLayout {
  BlockPattern pattern;  // extents of 1 to kMaxBlockExtent, more than one element
  std::int64_t rows = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;

  [[nodiscard]] std::int64_t row_elems() const { return segments * segment_elems; }
  [[nodiscard]] std::int64_t block_rows() const { return (rows + pattern.rows - 1) / pattern.rows; }
  [[nodiscard]] std::int64_t segment_blocks() const { return (segment_elems + pattern.columns - 1) / pattern.columns; }
  [[nodiscard]] std::int64_t row_blocks() const { return segments * segment_blocks(); }
  [[nodiscard]] std::int64_t row_index_bytes() const { return (row_blocks() + 7) / 8; }
  friend bool operator==(const BlockLayout&, const BlockLayout&) = default;
};

struct BlockWeights {
  BlockLayout layout;
  std::vector<std::int8_t> values;    // stored blocks * pattern.elems()
  std::vector<std::uint8_t> indices;  // block_rows() * row_index_bytes()
};

// "1x4", and back; nothing for a text that is no pattern.
[[nodiscard]] std::string to_string(const BlockPattern& pattern);
[[nodiscard]] std::optional<BlockPattern> parse_block(std::string_view text);

// Blocks that the bit map says are stored.
[[nodiscard]] std::int64_t count_blocks(std::span<const std::uint8_t> indices);

// `dense`: rows * row_elems() codes. Any matrix has a block-sparse form; what it saves is another matter.
[[nodiscard]] BlockWeights encode_block(std::span<const std::int8_t> dense, const BlockLayout& layout);

// Why stored bytes are not a canonical encoding, or "" if they are. Every kernel trusts bytes that passed here.
[[nodiscard]] std::string explain_invalid_block(std::span<const std::int8_t> values,
                                                std::span<const std::uint8_t> indices, const BlockLayout& layout);

// Precondition: valid bytes. Returns rows * row_elems() codes.
[[nodiscard]] std::vector<std::int8_t> decode_block(std::span<const std::int8_t> values,
                                                    std::span<const std::uint8_t> indices, const BlockLayout& layout);

}  // namespace pare::format
