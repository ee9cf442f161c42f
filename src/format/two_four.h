// 2:4 semi-structured int8 weights, as stored: 0.625 byte a weight.
//
// A weight is a matrix of `rows` rows, each made of `segments` runs of `segment_elems` consecutive elements; every run
// is cut into groups of 4, and of each group at most two elements are not 0.
//   Linear  [n, k]          rows = n, segments = 1, segment_elems = k          (row-major)
//   Conv2d  [O, I, kh, kw]  rows = O, segments = kh * kw, segment_elems = I    (order O, kh, kw, I: groups run along
//   the
//                                                                               input channels)
// The last group of a run may be a tail of 1 to 3 elements; the positions past its end count as zeros and are never
// kept.
//
// Stored form, both row by row, groups in order:
//   values   int8, two a group: row_values_bytes() = 2 * groups_per_row
//   indices  one nibble a group: low two bits = position of the first value, high two bits = position of the second,
//            first < second. Two groups a byte, the earlier in the low nibble; each row starts on a byte and an odd
//            last nibble is padded with 0.
// Canonical (so that equal weights give equal bytes): the kept positions are those of the non-zeros; where a group has
// fewer than two, the lowest positions that are free fill up, with value 0. In a tail of one element the second
// position is 1, with value 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pare::format {

struct TwoFourLayout {
  std::int64_t rows = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;

  [[nodiscard]] std::int64_t row_elems() const { return segments * segment_elems; }
  [[nodiscard]] std::int64_t groups_per_segment() const { return (segment_elems + 3) / 4; }
  [[nodiscard]] std::int64_t groups_per_row() const { return segments * groups_per_segment(); }
  [[nodiscard]] std::int64_t row_values_bytes() const { return 2 * groups_per_row(); }
  [[nodiscard]] std::int64_t row_indices_bytes() const { return (groups_per_row() + 1) / 2; }
  friend bool operator==(const TwoFourLayout&, const TwoFourLayout&) = default;
};

struct TwoFourWeights {
  TwoFourLayout layout;
  std::vector<std::int8_t> values;
  std::vector<std::uint8_t> indices;
};

// Where a matrix breaks the pattern: the first group with more than two non-zeros, or -1.
struct PatternViolation {
  std::int64_t row = -1;
  std::int64_t group = -1;
  std::int64_t violations = 0;  // groups in all that break it
};

// `dense`: rows * row_elems() codes in the order above.
[[nodiscard]] PatternViolation find_two_four_violation(std::span<const std::int8_t> dense, const TwoFourLayout& layout);

// Precondition: the pattern holds (find_two_four_violation), sizes match.
[[nodiscard]] TwoFourWeights encode_two_four(std::span<const std::int8_t> dense, const TwoFourLayout& layout);

// Why stored bytes are not a canonical encoding ("row 3 group 17: positions 2, 1 are not ascending"), or "" if they
// are. Every kernel trusts bytes that passed here.
[[nodiscard]] std::string explain_invalid_two_four(std::span<const std::int8_t> values,
                                                   std::span<const std::uint8_t> indices, const TwoFourLayout& layout);

// Precondition: valid bytes. Returns rows * row_elems() codes.
[[nodiscard]] std::vector<std::int8_t> decode_two_four(std::span<const std::int8_t> values,
                                                       std::span<const std::uint8_t> indices,
                                                       const TwoFourLayout& layout);

}  // namespace pare::format
