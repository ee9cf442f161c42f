#include "pare/kernels/tile/tile_avx2.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kChunk = 512;           // k that are staged at a time
constexpr std::int64_t kStride = kChunk + 32;  // between rows of staged activations

// x = a - 128 of `count` activations, and some bytes more, which weights of 0 meet.
PARE_ALWAYS_INLINE void stage(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  const __m256i half = _mm256_set1_epi8(-128);
  std::int64_t k = 0;
  for (; k + 32 <= count; k += 32) store_unaligned(to + k, _mm256_xor_si256(load_unaligned(from + k), half));
  if (k < count) store_unaligned(to + k, _mm256_xor_si256(load_some(from + k, count - k), half));
}

PARE_ALWAYS_INLINE __m256i broadcast_4(const std::uint8_t* bytes) {
  std::int32_t dword;
  __builtin_memcpy(&dword, bytes, sizeof dword);
  return _mm256_set1_epi32(dword);
}

template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void walk(std::int32_t* lanes, const std::uint8_t* values, const std::uint8_t* staged,
                             std::int64_t steps, const std::uint8_t* ahead) {
  constexpr int kWidth = kWalk<kRows, kVectors>;
  __m256i acc[kRows][kWidth];
  load_accumulators(acc, lanes);
  __m256i ones = _mm256_set1_epi16(1);
  __m256i zero = _mm256_setzero_si256();
  PARE_PIN(ones);
  PARE_PIN(zero);
  for (std::int64_t s = 0; s < steps; ++s) {
    if constexpr (kRows == 1) {
      PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
        _mm_prefetch(reinterpret_cast<const char*>(values + 4096 + 64 * j), _MM_HINT_T0);
      }
    } else {
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
      ahead += 32 * kWidth;
    }
    __m256i x[kRows];
    if constexpr (kWidth > 1) {
      PARE_UNROLL for (int r = 0; r < kRows; ++r) x[r] = broadcast_4(staged + kStride * r);
    }
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
      const __m256i w = load(values + 32 * j);
      __m256i magnitude = _mm256_abs_epi8(w);
      __m256i sign = _mm256_cmpgt_epi8(zero, w);
      PARE_PIN(magnitude);
      PARE_PIN(sign);
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        if constexpr (kWidth == 1) x[r] = broadcast_4(staged + kStride * r);
        acc[r][j] = multiply_add(acc[r][j], magnitude, _mm256_xor_si256(x[r], sign), ones);
      }
    }
    values += 64 * kVectors;
    staged += 4;
  }
  store_accumulators(acc, lanes);
}

template <int kRows, int kVectors>
void run(const TileArgs& args) {
  constexpr int kWidth = kWalk<kRows, kVectors>;
  Accumulators acc;
  acc.start(*args.epilogue, kRows, kVectors);
  alignas(64) std::uint8_t staged[kTileRows * kStride];
  const std::uint8_t* values = args.values;
  const std::int64_t padded = round_up(args.c, 4);
  std::int64_t tap = 0;
  std::int64_t k = 0;  // of the tap
  while (tap < args.taps) {
    // Taps follow each other in a chunk, as they do in the panel.
    std::int64_t filled = 0;
    while (tap < args.taps && filled < kChunk) {
      const std::int64_t room = kChunk - filled;
      const std::int64_t count = padded - k < room ? padded - k : room;
      const std::int64_t there = args.c - k < count ? args.c - k : count;
      for (std::int64_t r = 0; r < kRows; ++r) {
        stage(args.rows[tap * kTileRows + r] + k, there, staged + r * kStride + filled);
      }
      filled += count;
      k += count;
      if (k == padded) {
        k = 0;
        ++tap;
      }
    }
    // While walks go up and down a chunk, the lines of the next come to the cache in their order; after the last chunk
    // those of the next panel.
    const std::uint8_t* after = values + kChunk / 4 * 64 * kVectors;
    for (int j = 0; j < 2 * kVectors; j += kWidth) {
      walk<kRows, kVectors>(acc.lanes + 8 * j, values + 32 * j, staged, filled / 4,
                            after + filled / 4 * 64 * kVectors * j / (2 * kVectors));
    }
    values += filled / 4 * 64 * kVectors;
  }
  store_tile_avx2(acc.lanes, kRows, kVectors, *args.epilogue, args.out);
}

#define PARE_TILE_ROW(vectors) \
  { run<1, vectors>, run<2, vectors>, run<3, vectors>, run<4, vectors>, run<5, vectors>, run<6, vectors> }
constexpr TileKernel kKernels[4][kTileRows] = {PARE_TILE_ROW(1), PARE_TILE_ROW(2), PARE_TILE_ROW(3), PARE_TILE_ROW(4)};

}  // namespace

TileKernel tile_dense_avx2(std::int64_t rows, std::int64_t vectors) { return kKernels[vectors - 1][rows - 1]; }

}  // namespace pare::kernels
