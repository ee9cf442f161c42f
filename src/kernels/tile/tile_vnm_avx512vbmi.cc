// V:N:M tiles. Nothing is gathered beforehand: one vpermb picks a row's kept activations where a dense tile would
// broadcast four of them. It can pick other ones in each 128 bits, and the lanes of a full panel are permuted such that
// the q-th 128 bits of all its vectors are columns 16 q to 16 q + 15 (tile.h): so masks that 16 columns share cost
// what masks of 64 do. A step of 24 dot products pays for 6 such shuffles, and with V < 64 for one that spreads the
// indices; Zen 4 does them beside the products.
#include "pare/kernels/tile/tile_avx512.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// A source vector; with kMasked, which costs an eighth of a tile's time, zeros where its row has ended.
template <int kSource, bool kMasked>
PARE_ALWAYS_INLINE __m512i load_source(const std::uint8_t* bytes, __mmask64 there) {
  if constexpr (kSource == 64) {
    return kMasked ? _mm512_maskz_loadu_epi8(there, bytes) : _mm512_loadu_si512(bytes);
  } else {
    const auto mask = static_cast<__mmask32>(there);
    return _mm512_castsi256_si512(kMasked ? _mm256_maskz_loadu_epi8(mask, bytes)
                                          : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
  }
}

// The indices of a step: of a full panel for all its vectors, otherwise of vector j, which has one mask.
template <int kVectors, bool kOwnIndices>
PARE_ALWAYS_INLINE __m512i load_indices(const std::uint8_t* indices, int j, __m512i spread) {
  if constexpr (!kOwnIndices || kVectors < 4) return broadcast_4(indices + 4 * j);
  const __m512i sets = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(indices)));
  return _mm512_castps_si512(_mm512_permutevar_ps(_mm512_castsi512_ps(sets), spread));
}

// kMasked: a tap's last source vector is not full, and takes the steps that it has.
template <int kRows, int kVectors, int kSource, bool kOwnIndices, bool kMasked>
void walk(const TileArgs& args) {
  constexpr int kSets = kOwnIndices && kVectors < 4 ? kVectors : 1;
  constexpr std::int64_t kStepValues = 64 * kVectors;
  constexpr std::int64_t kStepIndices = kOwnIndices ? 4 * kIndexSets : 4;
  __m512i acc[kRows][kVectors];
  load_start(acc, *args.epilogue);
  const std::uint8_t* values = args.values;
  const std::uint8_t* indices = args.indices;
  const std::uint8_t* next = args.prefetch;
  const std::uint8_t* const* rows = args.rows;
  const std::int64_t full_steps = args.vnm.keep / 4;
  // The q-th 128 bits take the q-th dword.
  __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  PARE_PIN(spread);
  for (std::int64_t tap = 0, line_end = args.line_taps;; line_end += args.line_taps) {
    for (; tap < line_end; ++tap, rows += kTileRows) {
      for (std::int64_t offset = 0; offset < args.c; offset += kSource) {
        const std::uint8_t* row[kRows];
        PARE_UNROLL for (int r = 0; r < kRows; ++r) row[r] = rows[r] + offset;
        std::int64_t steps = full_steps;
        __mmask64 there = ~__mmask64{0};
        if (kMasked && args.c - offset < kSource) {
          steps = ceil_div((args.c - offset) * args.vnm.keep, 4 * kSource);
          there = (__mmask64{1} << (args.c - offset)) - 1;
        }
        for (std::int64_t step = 0; step < steps; ++step, values += kStepValues, indices += kStepIndices) {
          __m512i w[kVectors];
          PARE_UNROLL for (int j = 0; j < kVectors; ++j) w[j] = _mm512_load_si512(values + 64 * j);
          PARE_UNROLL for (int j = 0; j < kVectors; ++j) PARE_PIN(w[j]);
          __m512i positions[kSets];
          PARE_UNROLL for (int j = 0; j < kSets; ++j) {
            positions[j] = load_indices<kVectors, kOwnIndices>(indices, j, spread);
          }
          PARE_UNROLL for (int r = 0; r < kRows; ++r) {
            // Loaded anew in every step: no registers are left to keep the sources of all rows.
            asm("" : "+r"(row[r]));
            __m512i a[kSets];
            PARE_UNROLL for (int j = 0; j < kSets; ++j) {
              a[j] = _mm512_permutexvar_epi8(positions[j], load_source<kSource, kMasked>(row[r], there));
            }
            PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
              acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], a[j % kSets], w[j]);
            }
          }
          if constexpr (kRows > 1) {
            prefetch(next);
            next += args.prefetch_step;
          }
        }
        if constexpr (kMasked) {
          values += (full_steps - steps) * kStepValues;
          indices += (full_steps - steps) * kStepIndices;
        }
      }
    }
    if (tap >= args.taps) break;
    values += args.skip_values;
    indices += args.skip_indices;
  }
  store_tile(acc, *args.epilogue, args.out);
}

template <int kRows, int kVectors, int kSource, bool kOwnIndices>
void run(const TileArgs& args) {
  (args.c % kSource == 0 ? walk<kRows, kVectors, kSource, kOwnIndices, false>
                         : walk<kRows, kVectors, kSource, kOwnIndices, true>)(args);
}

#define PARE_TILE_ROW(vectors, source, own)                                                      \
  {                                                                                              \
    run<1, vectors, source, own>, run<2, vectors, source, own>, run<3, vectors, source, own>,    \
        run<4, vectors, source, own>, run<5, vectors, source, own>, run<6, vectors, source, own> \
  }
#define PARE_TILE_TABLE(source, own)                                                             \
  {                                                                                              \
    PARE_TILE_ROW(1, source, own), PARE_TILE_ROW(2, source, own), PARE_TILE_ROW(3, source, own), \
        PARE_TILE_ROW(4, source, own)                                                            \
  }
constexpr TileKernel kOf32[2][4][kTileRows] = {PARE_TILE_TABLE(32, false), PARE_TILE_TABLE(32, true)};
constexpr TileKernel kOf64[2][4][kTileRows] = {PARE_TILE_TABLE(64, false), PARE_TILE_TABLE(64, true)};

}  // namespace

TileKernel tile_vnm_avx512vbmi(std::int64_t rows, std::int64_t vectors, VnmShape shape, bool own_indices) {
  const auto& kernels = shape.source == 32 ? kOf32 : kOf64;
  return kernels[own_indices ? 1 : 0][vectors - 1][rows - 1];
}

}  // namespace pare::kernels
