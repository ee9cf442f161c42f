// What the AVX2 tile kernels share: how a product of u8 and s8 stays exact, the staging of activations, and the
// epilogue. For files that are compiled for AVX2 only.
//
// vpmaddubsw adds two products of a u8 and an s8 in int16 and saturates: 255 * 127 * 2 does not fit. It cannot
// saturate if the u8 is a weight's magnitude (at most 128) and the s8 an activation less 128, turned by the weight's
// sign: 2 * 128 * 128 = 32768 is reached from below only. Turning is ~x = -x - 1, as -x would lack 128:
//
//   sum of w * a = sum of |w| * (w < 0 ? ~x : x) + 128 * (sum of w) + (sum of |w| over w < 0),   x = a - 128
//
// and the last two terms are known when weights are packed; prepare() adds them to the accumulators' start. So a step
// of 32 products is vpxor, vpmaddubsw, vpmaddwd, vpaddd; a 2:4 step is the same, with a vpshufb that picks from x and
// ~x instead of the vpxor.
//
// Cycles a step on Zen 4, of which the port model promises 1: this, 1.10 to 1.16; even and odd bytes widened to 16
// bits, two vpmaddwd and two vpaddd, 1.27 to 1.29; vpmaddubsw that may saturate, 1.01. Splitting activations or weights
// into parts whose products cannot saturate takes three multiplications. In the whole loop a step also pays for a sixth
// of vpabsb and vpcmpgtb: 1.27 to 1.38, against 1.10 for what may saturate.
#pragma once

#include <immintrin.h>

#include "pare/kernels/tile/tile.h"

#define PARE_ALWAYS_INLINE inline __attribute__((always_inline))
#define PARE_UNROLL _Pragma("GCC unroll 16")
// GCC would compute it anew at each use, from memory.
#define PARE_PIN(vector) asm("" : "+x"(vector))

namespace pare::kernels {
namespace {

PARE_ALWAYS_INLINE __m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }
PARE_ALWAYS_INLINE __m256i load_unaligned(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
PARE_ALWAYS_INLINE void store(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }
PARE_ALWAYS_INLINE void store_unaligned(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

// The first 0 < `count` < 16 bytes as two loads that overlap, zeros after them; reads nothing else.
PARE_ALWAYS_INLINE __m128i load_few(const std::uint8_t* from, std::int64_t count) {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  if (count >= 8) {
    __builtin_memcpy(&first, from, 8);
    __builtin_memcpy(&last, from + count - 8, 8);
    last = last >> (4 * (16 - count)) >> (4 * (16 - count));  // by 64 where count is 8
  } else if (count >= 4) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    __builtin_memcpy(&low, from, 4);
    __builtin_memcpy(&high, from + count - 4, 4);
    first = low | std::uint64_t{high} << (8 * (count - 4));
  } else {
    const std::int64_t middle = count / 2;
    first = from[0] | std::uint64_t{from[middle]} << (8 * middle) | std::uint64_t{from[count - 1]} << (8 * (count - 1));
  }
  return _mm_set_epi64x(static_cast<long long>(last), static_cast<long long>(first));
}

// The first 0 < `count` < 32 bytes, zeros after them; reads nothing else. Never through memory: a load waits for all
// the stores whose bytes it takes.
PARE_ALWAYS_INLINE __m256i load_some(const std::uint8_t* from, std::int64_t count) {
  if (count < 16) return _mm256_zextsi128_si256(load_few(from, count));
  // Moves the last bytes to the front and clears what is behind them.
  alignas(32) static constexpr std::uint8_t kMoves[32] = {0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,
                                                          11,  12,  13,  14,  15,  128, 128, 128, 128, 128, 128,
                                                          128, 128, 128, 128, 128, 128, 128, 128, 128, 128};
  const auto load_16 = [](const std::uint8_t* bytes) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  };
  const __m128i upper = _mm_shuffle_epi8(load_16(from + count - 16), load_16(kMoves + 32 - count));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(from)), upper, 1);
}

// acc + sum over the 4 bytes of a lane of magnitude * turned.
PARE_ALWAYS_INLINE __m256i multiply_add(__m256i acc, __m256i magnitude, __m256i turned, __m256i ones) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, turned), ones));
}

// A walk goes over one to eight vectors of 8 lanes of a panel with the accumulators in registers, along a chunk of k
// whose activations were staged before. One row is bound by the memory its weights come from, and takes the whole
// panel; many rows take one vector, because each costs an accumulator.
template <int kRows, int kVectors>
constexpr int kWalk = kRows == 1 ? 2 * kVectors : (kRows == 2 ? 2 : 1);

// What is between two walks: [row][64] in the order of lanes.
struct Accumulators {
  alignas(64) std::int32_t lanes[kTileRows * kPanelColumns];

  void start(const PanelEpilogue& e, std::int64_t rows, std::int64_t vectors) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < 2 * vectors; ++j) store(lanes + 64 * r + 8 * j, load(e.start + 8 * j));
    }
  }
};

template <int kRows, int kWidth>
PARE_ALWAYS_INLINE void load_accumulators(__m256i (&acc)[kRows][kWidth], const std::int32_t* from) {
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) acc[r][j] = load(from + 64 * r + 8 * j);
  }
}

template <int kRows, int kWidth>
PARE_ALWAYS_INLINE void store_accumulators(const __m256i (&acc)[kRows][kWidth], std::int32_t* to) {
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) store(to + 64 * r + 8 * j, acc[r][j]);
  }
}

// Lines of the next panel, a few after each walk.
PARE_ALWAYS_INLINE const std::uint8_t* prefetch(const std::uint8_t* line, std::int64_t lines, std::int64_t step) {
  for (std::int64_t i = 0; i < lines; ++i, line += step) {
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
  }
  return line;
}

}  // namespace

// What becomes of the accumulators: [row][64] in the order of lanes.
void store_tile_avx2(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors, const PanelEpilogue& epilogue,
                     void* const* out);

}  // namespace pare::kernels
