#include "pare/kernels/dot/dot_s16.h"

namespace pare::kernels {

void dot_s16_4x2(const std::int16_t* a, std::int64_t a_stride, const std::int16_t* w, std::int64_t w_stride,
                 std::int64_t k, std::int32_t* acc, std::int64_t acc_stride) {
  const std::int16_t* a0 = a;
  const std::int16_t* a1 = a + a_stride;
  const std::int16_t* a2 = a + 2 * a_stride;
  const std::int16_t* a3 = a + 3 * a_stride;
  const std::int16_t* w0 = w;
  const std::int16_t* w1 = w + w_stride;
  // Eight named sums, not an array: GCC 12 keeps these in eight vector registers.
  std::int32_t c00 = 0, c01 = 0, c10 = 0, c11 = 0, c20 = 0, c21 = 0, c30 = 0, c31 = 0;
  const std::int64_t whole = k / kDotPad * kDotPad;  // tells the compiler that there is no remainder
  for (std::int64_t i = 0; i < whole; ++i) {
    c00 += a0[i] * w0[i];
    c01 += a0[i] * w1[i];
    c10 += a1[i] * w0[i];
    c11 += a1[i] * w1[i];
    c20 += a2[i] * w0[i];
    c21 += a2[i] * w1[i];
    c30 += a3[i] * w0[i];
    c31 += a3[i] * w1[i];
  }
  acc[0] += c00;
  acc[1] += c01;
  acc[acc_stride] += c10;
  acc[acc_stride + 1] += c11;
  acc[2 * acc_stride] += c20;
  acc[2 * acc_stride + 1] += c21;
  acc[3 * acc_stride] += c30;
  acc[3 * acc_stride + 1] += c31;
}

void dot_s16_block(const std::int16_t* a, std::int64_t a_stride, const std::int16_t* w, std::int64_t w_stride,
                   std::int64_t k, std::int64_t columns, std::int32_t* acc) {
  for (std::int64_t j = 0; j < columns; j += kDotColumns) {
    dot_s16_4x2(a, a_stride, w + j * w_stride, w_stride, k, acc + j, kDotBlock);
  }
}

std::size_t packed_bytes_s16(const CanonicalWeights& weights) {
  const std::int64_t rows = (weights.n + kDotColumns - 1) / kDotColumns * kDotColumns;
  return static_cast<std::size_t>(rows * dot_padded(weights.k())) * sizeof(std::int16_t);
}

namespace {

void clear(const CanonicalWeights& weights, std::int16_t* out) {
  const auto count = static_cast<std::int64_t>(packed_bytes_s16(weights) / sizeof(std::int16_t));
  for (std::int64_t i = 0; i < count; ++i) out[i] = 0;
}

}  // namespace

void pack_s16_dense(const CanonicalWeights& weights, void* packed) {
  auto* out = static_cast<std::int16_t*>(packed);
  clear(weights, out);
  const std::int64_t k = weights.k();
  for (std::int64_t row = 0; row < weights.n; ++row) {
    for (std::int64_t i = 0; i < k; ++i) {
      out[row * dot_padded(k) + i] = weights.values[row * k + i];
    }
  }
}

void pack_s16_two_four(const CanonicalWeights& weights, void* packed) {
  auto* out = static_cast<std::int16_t*>(packed);
  clear(weights, out);
  const std::int64_t groups_per_segment = (weights.segment_elems + 3) / 4;
  const std::int64_t groups_per_row = weights.segments * groups_per_segment;
  for (std::int64_t row = 0; row < weights.n; ++row) {
    const std::int8_t* values = weights.values + row * 2 * groups_per_row;
    const std::uint8_t* indices = weights.indices + row * ((groups_per_row + 1) / 2);
    std::int16_t* out_row = out + row * dot_padded(weights.k());
    for (std::int64_t group = 0; group < groups_per_row; ++group) {
      const std::int64_t segment_start = group / groups_per_segment * weights.segment_elems;
      const std::int64_t in_segment = group % groups_per_segment * 4;
      const int nibble = (indices[group / 2] >> (4 * (group % 2))) & 0xF;
      for (int kept = 0; kept < 2; ++kept) {
        const std::int64_t position = in_segment + (kept == 0 ? nibble & 3 : nibble >> 2);
        // A tail of one element stores its second value, 0, at a position past its end.
        if (position < weights.segment_elems) out_row[segment_start + position] = values[2 * group + kept];
      }
    }
  }
}

void pack_s16_vnm(const CanonicalWeights& weights, void* packed) {
  auto* out = static_cast<std::int16_t*>(packed);
  clear(weights, out);
  const format::VnmPattern& p = weights.vnm;
  const std::int64_t segment_kept = (weights.segment_elems + p.m - 1) / p.m * p.n;
  const std::int64_t row_kept = weights.segments * segment_kept;
  for (std::int64_t row = 0; row < weights.n; ++row) {
    std::int16_t* out_row = out + row * dot_padded(weights.k());
    for (std::int64_t i = 0; i < row_kept; ++i) {
      const std::int64_t position = i % segment_kept / p.n * p.m + weights.indices[row / p.v * row_kept + i];
      // A tail that lacks elements stores zeros at positions past its end.
      if (position < weights.segment_elems) {
        out_row[i / segment_kept * weights.segment_elems + position] = weights.values[row * row_kept + i];
      }
    }
  }
}

void pack_s16_block(const CanonicalWeights& weights, void* packed) {
  auto* out = static_cast<std::int16_t*>(packed);
  clear(weights, out);
  const format::BlockPattern& p = weights.block;
  const std::int64_t segment_blocks = (weights.segment_elems + p.columns - 1) / p.columns;
  const std::int64_t row_blocks = weights.segments * segment_blocks;
  const std::int8_t* values = weights.values;
  for (std::int64_t row = 0; row < weights.n; row += p.rows) {
    const std::uint8_t* bits = weights.indices + row / p.rows * ((row_blocks + 7) / 8);
    for (std::int64_t block = 0; block < row_blocks; ++block) {
      if ((bits[block / 8] >> (block % 8) & 1) == 0) continue;
      const std::int64_t in_segment = block % segment_blocks * p.columns;
      for (std::int64_t i = 0; i < p.elems(); ++i, ++values) {
        // What hangs over an edge is stored as 0.
        if (*values == 0) continue;
        out[(row + i / p.columns) * dot_padded(weights.k()) + block / segment_blocks * weights.segment_elems +
            in_segment + i % p.columns] = *values;
      }
    }
  }
}

}  // namespace pare::kernels
