// Weights as the artifact stores them: what every packing routine reads.
#pragma once

#include <cstdint>

#include "pare/format/block_pattern.h"
#include "pare/format/vnm_pattern.h"

namespace pare::kernels {

enum class WeightFormat : std::uint8_t { kDense, kTwoFour, kVnm, kBlock };

// Segments of a convolution that are shorter are not worth a tap of their own: a line of the kernel is one tap.
inline constexpr std::int64_t kLeastTapElems = 32;

// Dense: `values` is [n][k] row-major, k = segments * segment_elems. 2:4: format/two_four.h with rows = n; V:N:M:
// format/vnm.h; blocks: format/block.h. Linear has one segment; a convolution has one per tap.
struct CanonicalWeights {
  const std::int8_t* values = nullptr;
  const std::uint8_t* indices = nullptr;  // null for dense
  std::int64_t n = 0;
  std::int64_t segments = 1;
  std::int64_t segment_elems = 0;
  // Segments whose activations lie side by side: the taps of a line of a convolution's kernel, unless it is dilated.
  std::int64_t line_segments = 1;
  format::VnmPattern vnm = {};      // V:N:M only
  format::BlockPattern block = {};  // blocks only

  [[nodiscard]] std::int64_t k() const { return segments * segment_elems; }
  // Whether a tap, what kernels read at a time, is a whole line of a convolution's kernel; and its length.
  [[nodiscard]] bool line_taps() const { return segments > 1 && line_segments > 1 && segment_elems < kLeastTapElems; }
  [[nodiscard]] std::int64_t tap_elems() const { return line_taps() ? line_segments * segment_elems : segment_elems; }
};

// The code at row `row`, dense position `k`: how a reference reads weights. Where a mask is stored, the group's indices
// are looked up at every call. Not for blocks, of which all before would have to be counted: references take them
// decoded, as dense.
[[nodiscard]] inline std::int32_t weight_at(const CanonicalWeights& weights, WeightFormat format, std::int64_t row,
                                            std::int64_t k) {
  if (format == WeightFormat::kDense) {
    return weights.values[row * weights.k() + k];
  }
  const std::int64_t segment = k / weights.segment_elems;
  const std::int64_t in_segment = k % weights.segment_elems;
  if (format == WeightFormat::kVnm) {
    const format::VnmPattern& p = weights.vnm;
    const std::int64_t groups_per_segment = (weights.segment_elems + p.m - 1) / p.m;
    const std::int64_t row_kept = weights.segments * groups_per_segment * p.n;
    const std::int64_t first = (segment * groups_per_segment + in_segment / p.m) * p.n;
    const std::uint8_t* indices = weights.indices + row / p.v * row_kept + first;
    for (std::int64_t i = 0; i < p.n; ++i) {
      if (indices[i] == in_segment % p.m) return weights.values[row * row_kept + first + i];
    }
    return 0;
  }
  const std::int64_t groups_per_segment = (weights.segment_elems + 3) / 4;
  const std::int64_t groups_per_row = weights.segments * groups_per_segment;
  const std::int64_t group = segment * groups_per_segment + in_segment / 4;
  const std::uint8_t pair = weights.indices[row * ((groups_per_row + 1) / 2) + group / 2];
  const int nibble = group % 2 == 0 ? pair & 0xF : pair >> 4;
  const std::int64_t position = in_segment % 4;
  const std::int8_t* kept = weights.values + 2 * (row * groups_per_row + group);
  if (position == (nibble & 3)) return kept[0];
  if (position == (nibble >> 2)) return kept[1];
  return 0;
}

}  // namespace pare::kernels
