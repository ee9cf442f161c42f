#include "pare/format/block.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "pare/base/strings.h"

namespace pare::format {

namespace {

bool is_pattern(const BlockPattern& p) {
  const auto fits = [](std::int64_t extent) { return extent >= 1 && extent <= kMaxBlockExtent; };
  return fits(p.rows) && fits(p.columns) && p.elems() > 1;
}

// Calls body(block row, block) for all blocks in the order in which they are stored.
template <typename Body>
void for_blocks(const BlockLayout& layout, const Body& body) {
  for (std::int64_t block_row = 0; block_row < layout.block_rows(); ++block_row) {
    for (std::int64_t block = 0; block < layout.row_blocks(); ++block) body(block_row, block);
  }
}

// Calls body(element of the block, index in the dense matrix) for those that lie within it.
template <typename Body>
void for_elems(const BlockLayout& layout, std::int64_t block_row, std::int64_t block, const Body& body) {
  const BlockPattern& p = layout.pattern;
  const std::int64_t segment = block / layout.segment_blocks();
  const std::int64_t in_segment = block % layout.segment_blocks() * p.columns;
  const std::int64_t columns = std::min(p.columns, layout.segment_elems - in_segment);
  const std::int64_t rows = std::min(p.rows, layout.rows - block_row * p.rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t first =
        (block_row * p.rows + r) * layout.row_elems() + segment * layout.segment_elems + in_segment;
    for (std::int64_t c = 0; c < columns; ++c) {
      body(static_cast<std::size_t>(r * p.columns + c), static_cast<std::size_t>(first + c));
    }
  }
}

std::size_t index_byte(const BlockLayout& layout, std::int64_t block_row, std::int64_t block) {
  return static_cast<std::size_t>(block_row * layout.row_index_bytes() + block / 8);
}

bool is_stored(std::span<const std::uint8_t> indices, const BlockLayout& layout, std::int64_t block_row,
               std::int64_t block) {
  return (indices[index_byte(layout, block_row, block)] >> (block % 8) & 1) != 0;
}

}  // namespace

std::string to_string(const BlockPattern& pattern) { return str_cat(pattern.rows, "x", pattern.columns); }

std::optional<BlockPattern> parse_block(std::string_view text) {
  BlockPattern pattern;
  const char* const end = text.data() + text.size();
  const auto rows = std::from_chars(text.data(), end, pattern.rows);
  if (rows.ec != std::errc() || rows.ptr == end || *rows.ptr != 'x') return std::nullopt;
  const auto columns = std::from_chars(rows.ptr + 1, end, pattern.columns);
  // Canonical digits only: "01x4" would be a second name.
  if (columns.ec != std::errc() || columns.ptr != end || !is_pattern(pattern) || to_string(pattern) != text) {
    return std::nullopt;
  }
  return pattern;
}

std::int64_t count_blocks(std::span<const std::uint8_t> indices) {
  std::int64_t count = 0;
  for (const std::uint8_t byte : indices) count += std::popcount(byte);
  return count;
}

BlockWeights encode_block(std::span<const std::int8_t> dense, const BlockLayout& layout) {
  BlockWeights weights;
  weights.layout = layout;
  weights.indices.resize(static_cast<std::size_t>(layout.block_rows() * layout.row_index_bytes()));
  for_blocks(layout, [&](std::int64_t block_row, std::int64_t block) {
    bool stored = false;
    for_elems(layout, block_row, block, [&](std::size_t, std::size_t index) { stored |= dense[index] != 0; });
    if (!stored) return;
    std::uint8_t& byte = weights.indices[index_byte(layout, block_row, block)];
    byte = static_cast<std::uint8_t>(byte | 1U << (block % 8));
    const std::size_t begin = weights.values.size();
    weights.values.resize(begin + static_cast<std::size_t>(layout.pattern.elems()));
    for_elems(layout, block_row, block,
              [&](std::size_t elem, std::size_t index) { weights.values[begin + elem] = dense[index]; });
  });
  return weights;
}

std::string explain_invalid_block(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                  const BlockLayout& layout) {
  const BlockPattern& p = layout.pattern;
  if (!is_pattern(p)) {
    return str_cat(to_string(p), " is no block: extents are 1 to ", kMaxBlockExtent, ", with more than one element");
  }
  if (std::ssize(indices) != layout.block_rows() * layout.row_index_bytes()) {
    return str_cat(indices.size(), " bytes of bits, but ", layout.block_rows(), " block rows have ",
                   layout.row_index_bytes(), " each");
  }
  if (std::ssize(values) != count_blocks(indices) * p.elems()) {
    return str_cat(values.size(), " values, but ", count_blocks(indices), " blocks have ", p.elems(), " each");
  }
  for (std::int64_t row = 0; row < layout.block_rows(); ++row) {
    for (std::int64_t bit = layout.row_blocks(); bit < 8 * layout.row_index_bytes(); ++bit) {
      if (is_stored(indices, layout, row, bit)) return str_cat("block row ", row, " has a bit past its last block");
    }
  }
  std::string problem;
  std::size_t begin = 0;
  for_blocks(layout, [&](std::int64_t block_row, std::int64_t block) {
    if (!problem.empty() || !is_stored(indices, layout, block_row, block)) return;
    const auto stored = values.subspan(begin, static_cast<std::size_t>(p.elems()));
    begin += stored.size();
    const auto all = std::count_if(stored.begin(), stored.end(), [](std::int8_t code) { return code != 0; });
    std::int64_t within = 0;
    for_elems(layout, block_row, block, [&](std::size_t elem, std::size_t) { within += stored[elem] != 0 ? 1 : 0; });
    if (all != within) problem = str_cat("block ", block, " of block row ", block_row, " has a value past the edge");
    if (all == 0) problem = str_cat("block ", block, " of block row ", block_row, " is all zero and stored");
  });
  return problem;
}

std::vector<std::int8_t> decode_block(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                      const BlockLayout& layout) {
  std::vector<std::int8_t> dense(static_cast<std::size_t>(layout.rows * layout.row_elems()));
  std::size_t begin = 0;
  for_blocks(layout, [&](std::int64_t block_row, std::int64_t block) {
    if (!is_stored(indices, layout, block_row, block)) return;
    for_elems(layout, block_row, block,
              [&](std::size_t elem, std::size_t index) { dense[index] = values[begin + elem]; });
    begin += static_cast<std::size_t>(layout.pattern.elems());
  });
  return dense;
}

}  // namespace pare::format
