#include "pare/kernels/tile/tile_avx512.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void step(__m512i (&acc)[kRows][kVectors], const std::uint8_t*& values, const __m512i (&a)[kRows]) {
  __m512i w[kVectors];
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) w[j] = _mm512_load_si512(values + 64 * j);
  values += 64 * kVectors;
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) PARE_PIN(w[j]);
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], a[r], w[j]);
  }
}

template <int kRows, int kVectors>
void run(const TileArgs& args) {
  __m512i acc[kRows][kVectors];
  load_start(acc, *args.epilogue);
  const std::uint8_t* values = args.values;
  const std::uint8_t* next = args.prefetch;
  const std::uint8_t* const* rows = args.rows;
  for (std::int64_t tap = 0, line_end = args.line_taps;; line_end += args.line_taps) {
    for (; tap < line_end; ++tap, rows += kTileRows) {
      const std::uint8_t* row[kRows];
      PARE_UNROLL for (int r = 0; r < kRows; ++r) row[r] = rows[r];
      std::int64_t k = 0;
      for (; k + 8 <= args.c; k += 8) {
        _Pragma("GCC unroll 2") for (int half = 0; half < 2; ++half) {
          __m512i a[kRows];
          PARE_UNROLL for (int r = 0; r < kRows; ++r) a[r] = broadcast_4(row[r] + k + 4 * half);
          step(acc, values, a);
        }
        // One row reads every weight once, in order, and the processor fetches ahead better alone
        // (docs/performance.md).
        if constexpr (kRows > 1) {
          prefetch(next);
          next += args.prefetch_step;
        }
      }
      for (; k < args.c; k += 4) {
        __m512i a[kRows];
        const std::int64_t left = args.c - k;
        PARE_UNROLL for (int r = 0; r < kRows; ++r) {
          a[r] = left >= 4 ? broadcast_4(row[r] + k)
                           : _mm512_set1_epi32(static_cast<std::int32_t>(load_some(row[r] + k, left)));
        }
        step(acc, values, a);
      }
    }
    if (tap >= args.taps) break;
    values += args.skip_values;
  }
  store_tile(acc, *args.epilogue, args.out);
}

#define PARE_TILE_ROW(vectors) \
  { run<1, vectors>, run<2, vectors>, run<3, vectors>, run<4, vectors>, run<5, vectors>, run<6, vectors> }
constexpr TileKernel kKernels[4][kTileRows] = {PARE_TILE_ROW(1), PARE_TILE_ROW(2), PARE_TILE_ROW(3), PARE_TILE_ROW(4)};

}  // namespace

TileKernel tile_dense_avx512vnni(std::int64_t rows, std::int64_t vectors) { return kKernels[vectors - 1][rows - 1]; }

}  // namespace pare::kernels
