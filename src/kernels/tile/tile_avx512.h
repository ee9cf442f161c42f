// What the AVX-512 tile kernels share: loads, the start of the accumulators and the epilogue. For files that are
// compiled for AVX-512 only.
#pragma once

#include <immintrin.h>

#include "pare/kernels/tile/tile.h"

#define PARE_ALWAYS_INLINE inline __attribute__((always_inline))
#define PARE_UNROLL _Pragma("GCC unroll 16")
// GCC would fold a load into each of its uses, and load a vector of weights once a row.
#define PARE_PIN(vector) asm("" : "+v"(vector))

namespace pare::kernels {

// What becomes of accumulators whose results are float32: [row][vector][16] in the order of lanes.
void store_f32_avx512vnni(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors, const PanelEpilogue& e,
                          void* const* out);
// The same for codes where e.exceeds_int32.
void store_u8_clamped_avx512vnni(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors,
                                 const PanelEpilogue& e, void* const* out);

namespace {

PARE_ALWAYS_INLINE __m512i broadcast_4(const std::uint8_t* bytes) {
  std::int32_t dword;
  __builtin_memcpy(&dword, bytes, sizeof dword);
  return _mm512_set1_epi32(dword);
}

PARE_ALWAYS_INLINE __m512i broadcast_8(const std::uint8_t* bytes) {
  long long qword;
  __builtin_memcpy(&qword, bytes, sizeof qword);
  return _mm512_set1_epi64(qword);
}

// The first `count` < 8 bytes, zeros after them.
PARE_ALWAYS_INLINE long long load_some(const std::uint8_t* bytes, std::int64_t count) {
  long long qword = 0;
  for (std::int64_t i = 0; i < count; ++i) qword |= static_cast<long long>(bytes[i]) << (8 * i);
  return qword;
}

PARE_ALWAYS_INLINE void prefetch(const std::uint8_t* line) {
  _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
}

// Four vectors as a 4 x 4 matrix of 128-bit blocks, transposed: from the lanes of a full panel to the order of its
// columns, or back.
PARE_ALWAYS_INLINE void transpose_blocks(__m512i (&v)[4]) {
  const __m512i ab_low = _mm512_shuffle_i32x4(v[0], v[1], 0x44);
  const __m512i ab_high = _mm512_shuffle_i32x4(v[0], v[1], 0xEE);
  const __m512i cd_low = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
  const __m512i cd_high = _mm512_shuffle_i32x4(v[2], v[3], 0xEE);
  v[0] = _mm512_shuffle_i32x4(ab_low, cd_low, 0x88);
  v[1] = _mm512_shuffle_i32x4(ab_low, cd_low, 0xDD);
  v[2] = _mm512_shuffle_i32x4(ab_high, cd_high, 0x88);
  v[3] = _mm512_shuffle_i32x4(ab_high, cd_high, 0xDD);
}

PARE_ALWAYS_INLINE __mmask16 column_mask(std::int64_t columns, int vector) {
  const std::int64_t left = columns - 16 * vector;
  return static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << (left > 0 ? left : 0)) - 1U);
}

// format::requantize as vectors: the upper clamp in float, before rounding, as the accumulator times the multiplier may
// lie beyond int32; what lies below becomes INT32_MIN and ends in the lower clamp.
PARE_ALWAYS_INLINE __m512i requantized(__m512i acc, __m512 multiplier, __m512 hi) {
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier), hi));
}

// The same without clamps, for products that lie within int32. Codes are four to a lane: clamping those saves 18 of a
// tile's 150 operations.
PARE_ALWAYS_INLINE __m512i rounded(__m512i acc, __m512 multiplier) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier));
}

// Precondition: !e.exceeds_int32.
template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void store_u8(const __m512i (&acc)[kRows][kVectors], const PanelEpilogue& e, void* const* out) {
  __m512 multiplier[kVectors];
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) multiplier[j] = _mm512_load_ps(e.multiplier + 16 * j);
  if constexpr (kVectors == 4) {
    const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(e.zero_point));
    const __m512i qmin = _mm512_set1_epi8(static_cast<char>(e.qmin));
    const __m512i qmax = _mm512_set1_epi8(static_cast<char>(e.qmax));
    const __mmask64 mask = e.columns >= 64 ? ~__mmask64{0} : (__mmask64{1} << e.columns) - 1;
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      __m512i v[4];
      PARE_UNROLL for (int j = 0; j < 4; ++j) v[j] = rounded(acc[r][j], multiplier[j]);
      const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
      const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point);
      const __m512i codes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), qmin), qmax);
      if (mask == ~__mmask64{0}) {
        _mm512_storeu_si512(out[r], codes);
      } else {
        _mm512_mask_storeu_epi8(out[r], mask, codes);
      }
    }
  } else if constexpr (kVectors == 2) {
    // Two rows at a time; what the packing interleaved is put in order by one permutation of dwords.
    const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(e.zero_point));
    const __m512i qmin = _mm512_set1_epi8(static_cast<char>(e.qmin));
    const __m512i qmax = _mm512_set1_epi8(static_cast<char>(e.qmax));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const auto mask = static_cast<__mmask32>(e.columns >= 32 ? ~0U : (1U << e.columns) - 1U);
    __m512i row[kRows + 1];
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      row[r] = _mm512_adds_epi16(
          _mm512_packs_epi32(rounded(acc[r][0], multiplier[0]), rounded(acc[r][1], multiplier[1])), zero_point);
    }
    row[kRows] = row[kRows - 1];
    PARE_UNROLL for (int r = 0; r < kRows; r += 2) {
      const int next = r + 1 < kRows ? r + 1 : r;
      const __m512i packed = _mm512_packus_epi16(row[r], row[r + 1]);
      const __m512i codes = _mm512_permutexvar_epi32(order, _mm512_min_epu8(_mm512_max_epu8(packed, qmin), qmax));
      const __m256i low = _mm512_castsi512_si256(codes);
      const __m256i high = _mm512_extracti64x4_epi64(codes, 1);
      if (mask == ~__mmask32{0}) {
        _mm256_storeu_si256(static_cast<__m256i*>(out[r]), low);
        if (next != r) _mm256_storeu_si256(static_cast<__m256i*>(out[next]), high);
      } else {
        _mm256_mask_storeu_epi8(out[r], mask, low);
        if (next != r) _mm256_mask_storeu_epi8(out[next], mask, high);
      }
    }
  } else {
    const __m512i zero_point = _mm512_set1_epi32(e.zero_point);
    const __m512i least = _mm512_set1_epi32(e.qmin - e.zero_point);
    const __m512i most = _mm512_set1_epi32(e.qmax - e.zero_point);
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
        const __m512i v = _mm512_min_epi32(_mm512_max_epi32(rounded(acc[r][j], multiplier[j]), least), most);
        _mm_mask_storeu_epi8(static_cast<std::uint8_t*>(out[r]) + 16 * j, column_mask(e.columns, j),
                             _mm512_cvtepi32_epi8(_mm512_add_epi32(v, zero_point)));
      }
    }
  }
}

template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void load_start(__m512i (&acc)[kRows][kVectors], const PanelEpilogue& e) {
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
    const __m512i start = _mm512_load_si512(e.start + 16 * j);
    PARE_UNROLL for (int r = 0; r < kRows; ++r) acc[r][j] = start;
  }
}

template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void store_tile(__m512i (&acc)[kRows][kVectors], const PanelEpilogue& e, void* const* out) {
  // Without this GCC spills accumulators inside the product's loop, in favour of what the epilogue will need.
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) asm volatile("" : "+v"(acc[r][j]));
  }
  if (e.to_f32 || e.exceeds_int32) {
    // Apart, as every tile would have it otherwise. float32 is a hundredth of the work where k is 768, and multipliers
    // of 1 and more are rare.
    alignas(64) std::int32_t lanes[kRows * kVectors * kLanes];
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      PARE_UNROLL for (int j = 0; j < kVectors; ++j) _mm512_store_si512(lanes + kLanes * (kVectors * r + j), acc[r][j]);
    }
    (e.to_f32 ? store_f32_avx512vnni : store_u8_clamped_avx512vnni)(lanes, kRows, kVectors, e, out);
  } else {
    store_u8(acc, e, out);
  }
}

}  // namespace
}  // namespace pare::kernels
