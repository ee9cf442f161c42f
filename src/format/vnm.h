// V:N:M sparse int8 weights, as stored: n/m byte a weight, and n/(m v) byte of indices.
//
// The matrix is that of two_four.h: `rows` rows of `segments` runs of `segment_elems` elements, every run cut into
// groups of m. Rows are cut into blocks of v (the last may be shorter); within a block the same n positions of a group
// are kept in all rows, so that a kernel finds the activations of many outputs in one place. 2:4 is another format,
// because there every row has a mask of its own. (V:N:M: Castro et al., "VENOM", arXiv 2310.02065.)
//
// Stored form:
//   values   int8, row by row, groups in order, n a group
//   indices  uint8, block by block, groups in order, n a group: positions within the group, ascending
// Canonical: the kept positions are those where any row of the block is not zero; where they are fewer than n, the
// lowest positions that are free fill up, with value 0. The last group of a run may be a tail; positions past its end
// count as free zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pare/format/vnm_pattern.h"

namespace pare::format {

struct VnmLayout {
  VnmPattern pattern;  // 1 <= n <= m <= 16, 1 <= v <= 65536
  std::int64_t rows = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;

  [[nodiscard]] std::int64_t row_elems() const { return segments * segment_elems; }
  [[nodiscard]] std::int64_t blocks() const { return (rows + pattern.v - 1) / pattern.v; }
  [[nodiscard]] std::int64_t groups_per_segment() const { return (segment_elems + pattern.m - 1) / pattern.m; }
  [[nodiscard]] std::int64_t groups_per_row() const { return segments * groups_per_segment(); }
  [[nodiscard]] std::int64_t row_kept() const { return groups_per_row() * pattern.n; }
  friend bool operator==(const VnmLayout&, const VnmLayout&) = default;
};

struct VnmWeights {
  VnmLayout layout;
  std::vector<std::int8_t> values;    // rows * row_kept()
  std::vector<std::uint8_t> indices;  // blocks() * row_kept()
};

// "64:2:4", and back; nothing for a text that is no pattern (VnmLayout has the limits).
[[nodiscard]] std::string to_string(const VnmPattern& pattern);
[[nodiscard]] std::optional<VnmPattern> parse_vnm(std::string_view text);

// Where a matrix breaks the pattern: the first group of a block that needs more than n positions, or -1.
struct VnmViolation {
  std::int64_t block = -1;
  std::int64_t group = -1;
  std::int64_t violations = 0;  // groups of blocks in all that break it
};

// `dense`: rows * row_elems() codes.
[[nodiscard]] VnmViolation find_vnm_violation(std::span<const std::int8_t> dense, const VnmLayout& layout);

// Precondition: the pattern holds (find_vnm_violation), sizes match.
[[nodiscard]] VnmWeights encode_vnm(std::span<const std::int8_t> dense, const VnmLayout& layout);

// Why stored bytes are not a canonical encoding, or "" if they are. Every kernel trusts bytes that passed here.
[[nodiscard]] std::string explain_invalid_vnm(std::span<const std::int8_t> values,
                                              std::span<const std::uint8_t> indices, const VnmLayout& layout);

// Precondition: valid bytes. Returns rows * row_elems() codes.
[[nodiscard]] std::vector<std::int8_t> decode_vnm(std::span<const std::int8_t> values,
                                                  std::span<const std::uint8_t> indices, const VnmLayout& layout);

}  // namespace pare::format
