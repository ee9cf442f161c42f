// acc[r][j] = sum_k a[r][k] * w[j][k]     r < 4, j < 2; a and w int16, sums int32, exact
//
// The inner loop of the scalar qgemm and qconv: codes are widened to int16 first, because products of int16 that are
// summed in int32 are what compilers turn into multiply-add instructions on any x86-64 (pmaddwd) or ARMv8 (smlal).
// With it come the two packings that feed it.
//
// Non-goals: any speed-up from 2:4. Kept values would have to be gathered one by one; expanded to dense at packing time
// they run at the full rate of the multiply-adds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/weights.h"

namespace pare::kernels {

inline constexpr std::int64_t kDotRows = 4;
inline constexpr std::int64_t kDotColumns = 2;
// Lengths are padded with zeros to a multiple of this, so that no vector loop has a remainder.
inline constexpr std::int64_t kDotPad = 16;
// Elements of a row of activations that a kernel widens at a time; 4 rows of it are 8 KiB of stack.
inline constexpr std::int64_t kDotChunk = 1024;
// Columns whose accumulators a kernel keeps on the stack.
inline constexpr std::int64_t kDotBlock = 64;

[[nodiscard]] inline constexpr std::int64_t dot_padded(std::int64_t k) { return (k + kDotPad - 1) / kDotPad * kDotPad; }

// acc[r * acc_stride + j] += the sum above. `k` elements, a multiple of kDotPad; strides in elements.
void dot_s16_4x2(const std::int16_t* a, std::int64_t a_stride, const std::int16_t* w, std::int64_t w_stride,
                 std::int64_t k, std::int32_t* acc, std::int64_t acc_stride);

// All `columns` (at most kDotBlock) of a block of 4 rows; w has an even number of rows, acc is [4][kDotBlock].
void dot_s16_block(const std::int16_t* a, std::int64_t a_stride, const std::int16_t* w, std::int64_t w_stride,
                   std::int64_t k, std::int64_t columns, std::int32_t* acc);

// Packed weights: [n rounded up to even][dot_padded(k)] int16 codes, zeros in the padding, 2:4, V:N:M and blocks
// expanded to dense.
[[nodiscard]] inline bool uses_no_zeros(const CanonicalWeights& /*weights*/) { return false; }
[[nodiscard]] std::size_t packed_bytes_s16(const CanonicalWeights& weights);
void pack_s16_dense(const CanonicalWeights& weights, void* packed);
void pack_s16_two_four(const CanonicalWeights& weights, void* packed);
void pack_s16_vnm(const CanonicalWeights& weights, void* packed);
void pack_s16_block(const CanonicalWeights& weights, void* packed);

}  // namespace pare::kernels
