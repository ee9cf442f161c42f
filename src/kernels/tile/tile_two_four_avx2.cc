#include "pare/kernels/tile/tile_avx2.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// Activations are staged as what vpshufb picks from: of every 8, x = a - 128 and then ~x, 16 bytes.
constexpr std::int64_t kChunk = 512;               // k that are staged at a time
constexpr std::int64_t kStride = 2 * kChunk + 64;  // between rows of staged activations

PARE_ALWAYS_INLINE void stage_32(__m256i a, std::uint8_t* to) {
  const __m256i x = _mm256_xor_si256(a, _mm256_set1_epi8(-128));
  const __m256i turned = _mm256_xor_si256(a, _mm256_set1_epi8(127));
  const __m256i even = _mm256_unpacklo_epi64(x, turned);  // of 8 k each: the first and the third
  const __m256i odd = _mm256_unpackhi_epi64(x, turned);
  store_unaligned(to, _mm256_permute2x128_si256(even, odd, 0x20));
  store_unaligned(to + 32, _mm256_permute2x128_si256(even, odd, 0x31));
}

PARE_ALWAYS_INLINE void stage(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  std::int64_t k = 0;
  for (; k + 32 <= count; k += 32) stage_32(load_unaligned(from + k), to + 2 * k);
  if (k < count) stage_32(load_some(from + k, count - k), to + 2 * k);
}

struct Constants {
  __m256i ones = _mm256_set1_epi16(1);
  __m256i position = _mm256_set1_epi8(3);
  // Value byte b of a lane takes one of the first four of 8 activations (b < 2) or of the last four; one of x or of ~x.
  __m256i positive = _mm256_set1_epi32(0x04040000);
  __m256i negative = _mm256_set1_epi32(0x0C0C0808);
};

template <int kStep>
PARE_ALWAYS_INLINE __m256i decode(__m256i indices, __m256i w, const Constants& constants) {
  const __m256i shifted = kStep == 0 ? indices : _mm256_srli_epi16(indices, 2 * kStep);
  return _mm256_or_si256(_mm256_and_si256(shifted, constants.position),
                         _mm256_blendv_epi8(constants.positive, constants.negative, w));
}

template <int kVectors, TileControl kControl, int kStep, int kRows, int kWidth>
PARE_ALWAYS_INLINE void step(__m256i (&acc)[kRows][kWidth], const std::uint8_t* block, std::uint8_t* control,
                             const std::uint8_t* staged, const Constants& constants) {
  PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
    const __m256i w = load(block + 64 * (kStep + 1) * kVectors + 32 * j);
    std::uint8_t* kept = control + 64 * kStep * kVectors + 32 * j;
    __m256i c;
    if constexpr (kControl == TileControl::kKept) {
      c = load(kept);
    } else {
      c = decode<kStep>(load(block + 32 * j), w, constants);
      if constexpr (kControl == TileControl::kKeep) store(kept, c);
    }
    __m256i magnitude = _mm256_abs_epi8(w);
    PARE_PIN(magnitude);
    PARE_PIN(c);
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      const auto* from = reinterpret_cast<const __m128i*>(staged + kStride * r + 16 * kStep);
      const __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128(from));
      acc[r][j] = multiply_add(acc[r][j], magnitude, _mm256_shuffle_epi8(x, c), constants.ones);
    }
  }
}

// `k` activations, in taps of `tap_k`; a tap's last block of 32 ends where the tap does.
template <int kRows, int kVectors, TileControl kControl>
PARE_ALWAYS_INLINE void walk(std::int32_t* lanes, const std::uint8_t* block, std::uint8_t* control,
                             const std::uint8_t* staged, std::int64_t k, std::int64_t tap_k) {
  __m256i acc[kRows][kWalk<kRows, kVectors>];
  load_accumulators(acc, lanes);
  Constants constants;
  PARE_PIN(constants.ones);
  PARE_PIN(constants.position);
  PARE_PIN(constants.positive);
  PARE_PIN(constants.negative);
  while (k > 0) {
    std::int64_t left = tap_k < k ? tap_k : k;
    k -= left;
    for (; left > 24; left -= 32) {
      step<kVectors, kControl, 0>(acc, block, control, staged, constants);
      step<kVectors, kControl, 1>(acc, block, control, staged, constants);
      step<kVectors, kControl, 2>(acc, block, control, staged, constants);
      step<kVectors, kControl, 3>(acc, block, control, staged, constants);
      block += 320 * kVectors;
      control += 256 * kVectors;
      staged += 64;
    }
    if (left > 0) {
      step<kVectors, kControl, 0>(acc, block, control, staged, constants);
      if (left > 8) step<kVectors, kControl, 1>(acc, block, control, staged, constants);
      if (left > 16) step<kVectors, kControl, 2>(acc, block, control, staged, constants);
      block += 320 * kVectors;
      control += 256 * kVectors;
      staged += 64;
    }
  }
  store_accumulators(acc, lanes);
}

template <int kRows, int kVectors, TileControl kControl>
void run(const TileArgs& args) {
  constexpr int kWidth = kWalk<kRows, kVectors>;
  Accumulators acc;
  acc.start(*args.epilogue, kRows, kVectors);
  alignas(64) std::uint8_t staged[kTileRows * kStride];
  const std::uint8_t* block = args.values;
  std::uint8_t* control = args.control;
  const std::uint8_t* next = args.prefetch;
  const std::int64_t padded = round_up(args.c, 32);
  std::int64_t tap = 0;
  std::int64_t k = 0;  // of the tap
  while (tap < args.taps) {
    // A part of one tap, or several whole ones.
    std::int64_t blocks = 0;
    std::int64_t real = 0;
    do {
      const std::int64_t room = kChunk - 32 * blocks;
      const std::int64_t count = padded - k < room ? padded - k : room;
      const std::int64_t there = args.c - k < count ? args.c - k : count;
      for (std::int64_t r = 0; r < kRows; ++r) {
        stage(args.rows[tap * kTileRows + r] + k, there, staged + r * kStride + 64 * blocks);
      }
      blocks += count / 32;
      real += there;
      k += count;
      if (k == padded) {
        k = 0;
        ++tap;
      }
    } while (tap < args.taps && k == 0 && 32 * blocks + padded <= kChunk);
    for (int j = 0; j < 2 * kVectors; j += kWidth) {
      walk<kRows, kVectors, kControl>(acc.lanes + 8 * j, block + 32 * j, control + 32 * j, staged, real, args.c);
      if constexpr (kRows > 1) next = prefetch(next, real * kWidth / (16 * kVectors), args.prefetch_step);
    }
    block += blocks * 320 * kVectors;
    control += blocks * 256 * kVectors;
  }
  store_tile_avx2(acc.lanes, kRows, kVectors, *args.epilogue, args.out);
}

#define PARE_TILE_ROW(vectors, control)                                                                     \
  {                                                                                                         \
    run<1, vectors, control>, run<2, vectors, control>, run<3, vectors, control>, run<4, vectors, control>, \
        run<5, vectors, control>, run<6, vectors, control>                                                  \
  }
#define PARE_TILE_TABLE(control) \
  { PARE_TILE_ROW(1, control), PARE_TILE_ROW(2, control), PARE_TILE_ROW(3, control), PARE_TILE_ROW(4, control) }
constexpr TileKernel kNone[4][kTileRows] = PARE_TILE_TABLE(TileControl::kNone);
constexpr TileKernel kKeep[4][kTileRows] = PARE_TILE_TABLE(TileControl::kKeep);
constexpr TileKernel kKept[4][kTileRows] = PARE_TILE_TABLE(TileControl::kKept);

}  // namespace

TileKernel tile_two_four_avx2(std::int64_t rows, std::int64_t vectors, TileControl control) {
  switch (control) {
    case TileControl::kKeep:
      return kKeep[vectors - 1][rows - 1];
    case TileControl::kKept:
      return kKept[vectors - 1][rows - 1];
    case TileControl::kNone:
      break;
  }
  return kNone[vectors - 1][rows - 1];
}

}  // namespace pare::kernels
