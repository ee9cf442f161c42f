#include "pare/kernels/tile/tile_avx512.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// Of a lane's 8 activations, value byte b takes one of the first four (b < 2) or of the last four.
template <int kStep>
PARE_ALWAYS_INLINE __m512i decode(__m512i indices) {
  const __m512i shifted = kStep == 0 ? indices : _mm512_srli_epi16(indices, 2 * kStep);
  // (shifted & 3) | 4 in the upper half of a dword
  return _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi8(3), _mm512_set1_epi32(0x04040000), 0xEA);
}

template <int kRows, int kVectors, TileControl kControl, int kStep>
PARE_ALWAYS_INLINE void step(__m512i (&acc)[kRows][kVectors], const std::uint8_t* block, std::uint8_t* control,
                             const __m512i (&a)[kRows]) {
  __m512i c[kVectors];
  __m512i w[kVectors];
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
    std::uint8_t* kept = control + 64 * (kStep * kVectors + j);
    if constexpr (kControl == TileControl::kKept) {
      c[j] = _mm512_load_si512(kept);
    } else {
      c[j] = decode<kStep>(_mm512_load_si512(block + 64 * j));
      if constexpr (kControl == TileControl::kKeep) _mm512_store_si512(kept, c[j]);
    }
    w[j] = _mm512_load_si512(block + 64 * ((kStep + 1) * kVectors + j));
  }
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) { PARE_PIN(c[j]); }
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], _mm512_shuffle_epi8(a[r], c[j]), w[j]);
    }
  }
}

template <int kRows, int kVectors, TileControl kControl, int kStep>
PARE_ALWAYS_INLINE void full_step(__m512i (&acc)[kRows][kVectors], const std::uint8_t* block, std::uint8_t* control,
                                  const std::uint8_t* const (&row)[kRows], std::int64_t k) {
  __m512i a[kRows];
  PARE_UNROLL for (int r = 0; r < kRows; ++r) a[r] = broadcast_8(row[r] + k + 8 * kStep);
  step<kRows, kVectors, kControl, kStep>(acc, block, control, a);
}

constexpr std::int64_t kBlock = 32;

// The last activations of a tap, filled up to a whole block with zeros, for all rows.
__attribute__((noinline)) void copy_last_block(const std::uint8_t* const* rows, std::int64_t k, std::int64_t count,
                                               std::uint8_t* out) {
  const auto mask = static_cast<__mmask32>((1U << count) - 1U);
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + r * kBlock), _mm256_maskz_loadu_epi8(mask, rows[r] + k));
  }
}

template <int kRows, int kVectors, TileControl kControl>
void run(const TileArgs& args) {
  __m512i acc[kRows][kVectors];
  load_start(acc, *args.epilogue);
  const std::uint8_t* block = args.values;
  std::uint8_t* control = args.control;
  const std::uint8_t* next = args.prefetch;
  const std::uint8_t* const* rows = args.rows;
  alignas(32) std::uint8_t last[kTileRows * kBlock];
  const auto touch = [&] {
    if constexpr (kRows > 1) {
      prefetch(next);
      next += args.prefetch_step;
    }
  };
  for (std::int64_t tap = 0, line_end = args.line_taps;; line_end += args.line_taps) {
    for (; tap < line_end; ++tap, rows += kTileRows) {
      const std::uint8_t* row[kRows];
      PARE_UNROLL for (int r = 0; r < kRows; ++r) row[r] = rows[r];
      const auto last_block = [&](std::int64_t k) {
        copy_last_block(rows, k, args.c - k, last);
        PARE_UNROLL for (int r = 0; r < kRows; ++r) row[r] = last + r * kBlock - k;
      };
      const auto next_block = [&] {
        block += 320 * kVectors;
        if constexpr (kControl != TileControl::kNone) control += 256 * kVectors;
      };
      std::int64_t k = 0;
      for (; args.c - k > 24; k += kBlock) {
        if (args.c - k < kBlock) last_block(k);
        full_step<kRows, kVectors, kControl, 0>(acc, block, control, row, k);
        touch();
        full_step<kRows, kVectors, kControl, 1>(acc, block, control, row, k);
        touch();
        full_step<kRows, kVectors, kControl, 2>(acc, block, control, row, k);
        touch();
        full_step<kRows, kVectors, kControl, 3>(acc, block, control, row, k);
        touch();
        next_block();
      }
      // A last block that is not full: the steps that it has.
      const std::int64_t left = args.c - k;
      if (left > 0) {
        if (left % 8 != 0) last_block(k);
        full_step<kRows, kVectors, kControl, 0>(acc, block, control, row, k);
        if (left > 8) full_step<kRows, kVectors, kControl, 1>(acc, block, control, row, k);
        if (left > 16) full_step<kRows, kVectors, kControl, 2>(acc, block, control, row, k);
        touch();
        next_block();
      }
    }
    if (tap >= args.taps) break;
    block += args.skip_values;
    control += args.skip_control;
  }
  store_tile(acc, *args.epilogue, args.out);
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

TileKernel tile_two_four_avx512vnni(std::int64_t rows, std::int64_t vectors, TileControl control) {
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
