#include "pare/kernels/tile/tile_avx512.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// Rows that a tile gathers for the one that follows: one or two rows are followed by as many (the next panel's), more
// may be followed by up to kTileRows.
template <int kRows>
constexpr int kGatherRows = kRows <= 2 ? kRows : static_cast<int>(kTileRows);

// The kept bytes of one source vector, of each row. Bytes past the row's end are not read.
template <int kGather, int kSource, int kKeep>
PARE_ALWAYS_INLINE void gather(const std::uint8_t* const* rows, std::int64_t offset, std::int64_t left,
                               const std::uint8_t* indices, std::uint8_t* out, std::int64_t out_stride) {
  if constexpr (kSource == 32) {
    const __mmask32 mask = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    const __m256i positions = _mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(indices)));
    PARE_UNROLL for (int r = 0; r < kGather; ++r) {
      const __m256i source = _mm256_maskz_loadu_epi8(mask, rows[r] + offset);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r * out_stride),
                       _mm256_castsi256_si128(_mm256_permutexvar_epi8(positions, source)));
    }
  } else {
    const __mmask64 mask = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const auto* from = reinterpret_cast<const __m128i*>(indices);
    const __m512i positions = _mm512_castsi128_si512(kKeep == 16 ? _mm_load_si128(from) : _mm_loadl_epi64(from));
    PARE_UNROLL for (int r = 0; r < kGather; ++r) {
      const __m512i source = _mm512_maskz_loadu_epi8(mask, rows[r] + offset);
      const __m128i kept = _mm512_castsi512_si128(_mm512_permutexvar_epi8(positions, source));
      auto* to = reinterpret_cast<__m128i*>(out + r * out_stride);
      if constexpr (kKeep == 16) {
        _mm_storeu_si128(to, kept);
      } else {
        _mm_storel_epi64(to, kept);
      }
    }
  }
}

template <int kRows, int kVectors, int kSource, int kKeep>
void run(const TileArgs& args) {
  __m512i acc[kRows][kVectors];
  load_start(acc, *args.epilogue);
  const std::uint8_t* values = args.values;
  const std::uint8_t* next = args.prefetch;
  const std::uint8_t* const* next_rows = args.next_rows;
  const std::uint8_t* indices = args.next_indices;
  const std::int64_t stride = args.gathered_stride;
  const std::uint8_t* low = args.gathered;
  const std::uint8_t* high = args.gathered + 4 * stride;
  std::uint8_t* out = args.next_gathered;
  for (std::int64_t tap = 0; tap < args.taps; ++tap, next_rows += kTileRows) {
    for (std::int64_t offset = 0; offset < args.c; offset += kSource) {
      PARE_UNROLL for (int k = 0; k < kKeep; k += 4) {
        __m512i w[kVectors];
        PARE_UNROLL for (int j = 0; j < kVectors; ++j) w[j] = _mm512_load_si512(values + 64 * j);
        values += 64 * kVectors;
        PARE_UNROLL for (int j = 0; j < kVectors; ++j) PARE_PIN(w[j]);
        if constexpr (kRows == 1) {
          PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
            _mm_prefetch(reinterpret_cast<const char*>(values + 4096 + 64 * j), _MM_HINT_T0);
          }
        }
        PARE_UNROLL for (int r = 0; r < kRows; ++r) {
          const std::uint8_t* row = (r < 4 ? low : high) + (r % 4) * stride;
          const __m512i a = broadcast_4(row + k);
          PARE_UNROLL for (int j = 0; j < kVectors; ++j) acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], a, w[j]);
        }
        // The shuffle port idles in this loop: the next tile's activations are gathered meanwhile.
        if (k == (kKeep == 16 ? 4 : 0)) {
          gather<kGatherRows<kRows>, kSource, kKeep>(next_rows, offset, args.c - offset, indices, out, stride);
        }
        if constexpr (kRows > 1) {
          if (k % 8 == 4) {
            prefetch(next);
            next += args.prefetch_step;
          }
        }
      }
      low += kKeep;
      high += kKeep;
      out += kKeep;
      indices += kKeep;
    }
  }
  store_tile(acc, *args.epilogue, args.out);
}

// The gather alone, for the first tile of all.
template <int kSource, int kKeep>
void gather_first(const TileArgs& args) {
  const std::uint8_t* indices = args.next_indices;
  std::uint8_t* out = args.next_gathered;
  for (std::int64_t tap = 0; tap < args.taps; ++tap) {
    for (std::int64_t offset = 0; offset < args.c; offset += kSource) {
      gather<static_cast<int>(kTileRows), kSource, kKeep>(args.next_rows + tap * kTileRows, offset, args.c - offset,
                                                          indices, out, args.gathered_stride);
      indices += kKeep;
      out += kKeep;
    }
  }
}

#define PARE_TILE_ROW(vectors, source, keep)                                                        \
  {                                                                                                 \
    run<1, vectors, source, keep>, run<2, vectors, source, keep>, run<3, vectors, source, keep>,    \
        run<4, vectors, source, keep>, run<5, vectors, source, keep>, run<6, vectors, source, keep> \
  }
#define PARE_TILE_TABLE(source, keep)                                                               \
  {                                                                                                 \
    PARE_TILE_ROW(1, source, keep), PARE_TILE_ROW(2, source, keep), PARE_TILE_ROW(3, source, keep), \
        PARE_TILE_ROW(4, source, keep)                                                              \
  }
constexpr TileKernel kKernels[3][4][kTileRows] = {PARE_TILE_TABLE(32, 16), PARE_TILE_TABLE(64, 16),
                                                  PARE_TILE_TABLE(64, 8)};

}  // namespace

TileKernel tile_vnm_avx512vbmi(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  return kKernels[vnm_index(shape)][vectors - 1][rows - 1];
}

void gather_vnm_avx512vbmi(const TileArgs& args, VnmShape shape) {
  constexpr TileKernel kGathers[] = {gather_first<32, 16>, gather_first<64, 16>, gather_first<64, 8>};
  kGathers[vnm_index(shape)](args);
}

}  // namespace pare::kernels
