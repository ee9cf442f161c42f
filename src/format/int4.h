// int4 weights of a linear layer, as stored: signed 4-bit codes in groups along k, each group with a float16 scale.
//
//   weight[row][k] = code[row][k] * scale[row][k / group]        zero point 0: a masked weight is code 0, exactly 0
//
// A row has `k` elements and ceil(k / group) groups; the last group may be shorter. `group` is 32, 64, 128 or 256.
//
// Stored form, row by row:
//   dense   codes    two a byte, the earlier element in the low nibble, as in ONNX's INT4; each row starts on a byte,
//                    and an odd last nibble is 0                                       0.5 byte a weight
//   2:4     codes    a byte for every 4 elements: the two that are kept, the first in the low nibble
//           indices  positions of the kept, exactly as format/two_four.h has them     0.375 byte a weight together
//   both    scales   float16 bits, one for each (row, group): 2 / group byte a weight, so 0.0625 at group 32
// With group 32 that is 0.5625 byte a weight dense and 0.4375 at 2:4.
//
// Codes are two's complement in [-8, 7]. pare itself writes [-7, 7] (Int4Scale::kAmaxOver7): then the largest weight of
// a group is represented, whatever its sign; with scale = max|w| / 7.5, as TorchAO has it, it clips where it is
// positive.
//
// Canonical (so that equal weights give equal bytes): a scale is finite and above 0, but that of a group whose codes
// are all 0 is 0.
//
// Non-goals: zero points other than 0 (they would store a masked weight as another code), more than one scale format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pare/format/affine.h"
#include "pare/format/two_four.h"

namespace pare::format {

inline constexpr QuantRange kInt4WeightRange{-7, 7};

enum class Int4Form : std::uint8_t { kDense, kTwoFour };

// What the scale of a group comes from.
enum class Int4Scale : std::uint8_t {
  kAmaxOver7,    // max|w| / 7, codes in [-7, 7]
  kAmaxOver7p5,  // max|w| / 7.5, codes in [-8, 7]: TorchAO's, whose largest positive weight clips by 1/15
};
[[nodiscard]] constexpr QuantRange int4_range(Int4Scale rule) {
  return rule == Int4Scale::kAmaxOver7 ? kInt4WeightRange : kInt4Range;
}

struct Int4Layout {
  Int4Form form = Int4Form::kDense;
  std::int64_t rows = 0;
  std::int64_t k = 0;
  std::int64_t group = 32;

  [[nodiscard]] std::int64_t groups_per_row() const { return (k + group - 1) / group; }
  [[nodiscard]] TwoFourLayout two_four() const { return {rows, 1, k}; }
  [[nodiscard]] std::int64_t row_codes_bytes() const { return form == Int4Form::kDense ? (k + 1) / 2 : (k + 3) / 4; }
  [[nodiscard]] std::int64_t row_indices_bytes() const {
    return form == Int4Form::kDense ? 0 : two_four().row_indices_bytes();
  }
  friend bool operator==(const Int4Layout&, const Int4Layout&) = default;
};

[[nodiscard]] constexpr bool is_int4_group(std::int64_t group) {
  return group == 32 || group == 64 || group == 128 || group == 256;
}

// The nibble's two's complement value.
[[nodiscard]] constexpr std::int8_t int4_from_nibble(unsigned nibble) {
  return static_cast<std::int8_t>(static_cast<int>((nibble & 0xFU) ^ 8U) - 8);
}

struct Int4Codes {
  std::vector<std::int8_t> codes;     // [rows][k], one a byte
  std::vector<std::uint16_t> scales;  // [rows][groups_per_row]
};

struct Int4Weights {
  Int4Layout layout;
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> indices;  // 2:4 only
  std::vector<std::uint16_t> scales;
};

// float16 bits of the scale of a group whose largest magnitude this is: rounded to nearest, at most 65504.
[[nodiscard]] std::uint16_t int4_scale(float largest, Int4Scale rule);

// Codes and scales of each group: code = quantize(w, scale, int4_range(rule)), 0 where the scale is 0; only `rows`, `k`
// and `group` of the layout matter. Precondition: finite weights, rows * k of them.
[[nodiscard]] Int4Codes quantize_int4(std::span<const float> weights, const Int4Layout& layout,
                                      Int4Scale rule = Int4Scale::kAmaxOver7);

// Precondition: codes within [-8, 7], which keep the 2:4 pattern if the form asks for it, and canonical scales.
[[nodiscard]] Int4Weights encode_int4(const Int4Codes& weights, const Int4Layout& layout);

// Why stored bytes are not a canonical encoding ("row 3 group 1: the scale is not finite"), or "" if they are. Every
// kernel trusts bytes that passed here.
[[nodiscard]] std::string explain_invalid_int4(std::span<const std::uint8_t> codes,
                                               std::span<const std::uint8_t> indices,
                                               std::span<const std::uint16_t> scales, const Int4Layout& layout);

// rows * k codes, one a byte. Precondition: valid bytes.
[[nodiscard]] std::vector<std::int8_t> decode_int4(std::span<const std::uint8_t> codes,
                                                   std::span<const std::uint8_t> indices, const Int4Layout& layout);

}  // namespace pare::format
