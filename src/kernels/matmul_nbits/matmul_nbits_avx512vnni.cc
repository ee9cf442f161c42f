// Dense: vpdpbusd takes the stored code + 8 as its u8 and the activation as its s8; the 8 adds 8 times the sum of the
// group's activations, which the accumulators start without. 2:4: each column picks activations of its own, so there
// the activation + 128 is the u8 and 16 times the code the s8 (a nibble in the upper half of a byte, which keeps its
// sign); the 128 adds 128 times the sum of the group's weights, which one more vpdpbusd a vector of weights counts for
// all rows. The 16 is divided out of the scale, which is exact.
#include <immintrin.h>

#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

#define PARE_ALWAYS_INLINE inline __attribute__((always_inline))
#define PARE_UNROLL _Pragma("GCC unroll 16")
// GCC would compute it anew at each use.
#define PARE_PIN(vector) asm("" : "+v"(vector))

namespace pare::kernels {

namespace {

constexpr int kVectors = 2;
// How far ahead a panel's lines are asked for: found by measurement, as in tile/tile_dense_avx512vnni.cc.
constexpr std::int64_t kAhead = 4096;

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

PARE_ALWAYS_INLINE __m512i load_ahead(const std::uint8_t* line) {
  _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
  return _mm512_load_si512(line);
}

// 32 k of a dense panel. A single row alternates between two sets of accumulators: vpdpbusd has a latency of 4 cycles.
template <int kRows, int kSets>
PARE_ALWAYS_INLINE void dense_block(__m512i (&acc)[kSets][kRows][kVectors], const std::uint8_t* values,
                                    const std::uint8_t* const (&row)[kRows], std::int64_t k) {
  const __m512i low_nibbles = _mm512_set1_epi8(0x0F);
  PARE_UNROLL for (int s = 0; s < 4; ++s) {
    __m512i low[kVectors];
    __m512i high[kVectors];
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      const __m512i both = load_ahead(values + 64 * (s * kVectors + j));
      low[j] = _mm512_and_si512(both, low_nibbles);
      high[j] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_nibbles);
    }
    if constexpr (kRows > 1) {
      PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
        PARE_PIN(low[j]);
        PARE_PIN(high[j]);
      }
    }
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i first = broadcast_4(row[r] + k + 8 * s);
      const __m512i second = broadcast_4(row[r] + k + 8 * s + 4);
      PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
        acc[0][r][j] = _mm512_dpbusd_epi32(acc[0][r][j], low[j], first);
        acc[kSets - 1][r][j] = _mm512_dpbusd_epi32(acc[kSets - 1][r][j], high[j], second);
      }
    }
  }
}

// As tile/tile_two_four_avx512vnni.cc has it.
template <int kStep>
PARE_ALWAYS_INLINE __m512i decode(__m512i indices) {
  const __m512i shifted = kStep == 0 ? indices : _mm512_srli_epi16(indices, 2 * kStep);
  return _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi8(3), _mm512_set1_epi32(0x04040000), 0xEA);
}

template <int kRows, int kStep>
PARE_ALWAYS_INLINE void two_four_step(__m512i (&acc)[kRows][kVectors], __m512i (&offset)[kVectors],
                                      const __m512i (&indices)[kVectors], const __m512i (&values)[kVectors],
                                      const std::uint8_t* const (&row)[kRows], std::int64_t k) {
  const __m512i high_nibbles = _mm512_set1_epi8(static_cast<char>(0xF0));
  const __m512i half = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i control[kVectors];
  __m512i w[kVectors];
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
    control[j] = decode<kStep>(indices[j]);
    w[j] = _mm512_and_si512(kStep % 2 == 0 ? _mm512_slli_epi16(values[j], 4) : values[j], high_nibbles);
    offset[j] = _mm512_dpbusd_epi32(offset[j], half, w[j]);
  }
  if constexpr (kRows > 1) {
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      PARE_PIN(control[j]);
      PARE_PIN(w[j]);
    }
  }
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m512i a = broadcast_8(row[r] + k + 8 * kStep);
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], _mm512_shuffle_epi8(a, control[j]), w[j]);
    }
  }
}

template <int kRows>
PARE_ALWAYS_INLINE void two_four_block(__m512i (&acc)[kRows][kVectors], __m512i (&offset)[kVectors],
                                       const std::uint8_t* block, const std::uint8_t* const (&row)[kRows],
                                       std::int64_t k) {
  __m512i indices[kVectors];
  __m512i values[kVectors];
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) indices[j] = load_ahead(block + 64 * j);
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) values[j] = load_ahead(block + 128 + 64 * j);
  two_four_step<kRows, 0>(acc, offset, indices, values, row, k);
  two_four_step<kRows, 1>(acc, offset, indices, values, row, k);
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) values[j] = load_ahead(block + 256 + 64 * j);
  two_four_step<kRows, 2>(acc, offset, indices, values, row, k);
  two_four_step<kRows, 3>(acc, offset, indices, values, row, k);
}

template <int kRows>
PARE_ALWAYS_INLINE void store(const __m512 (&total)[kRows][kVectors], const NBitsTile& tile) {
  PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
    const std::int64_t left = tile.columns - 16 * j;
    const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << (left > 0 ? left : 0)) - 1U);
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      __m512 real = _mm512_mul_ps(total[r][j], _mm512_set1_ps(tile.a_scale[r]));
      if (tile.bias != nullptr) real = _mm512_add_ps(real, _mm512_maskz_loadu_ps(mask, tile.bias + 16 * j));
      // The second operand where they are equal or one is NaN, so that -0 and NaN stay.
      if (tile.relu) real = _mm512_max_ps(_mm512_setzero_ps(), real);
      _mm512_mask_storeu_ps(tile.out[r] + 16 * j, mask, real);
    }
  }
}

template <NBitsForm kForm, int kRows>
void run(const NBitsTile& tile) {
  constexpr bool kDense = kForm == NBitsForm::kDense;
  constexpr int kSets = kDense && kRows == 1 ? 2 : 1;
  __m512 total[kRows][kVectors];
  const std::uint8_t* row[kRows];
  const std::int32_t* start[kRows];
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    row[r] = tile.rows[r];
    start[r] = tile.starts[r];
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) total[r][j] = _mm512_setzero_ps();
  }
  const std::uint8_t* at = tile.panel;
  std::int64_t group = 0;
  for (std::int64_t block = 0; block < tile.blocks; ++group) {
    const std::int64_t end = block + tile.group_blocks < tile.blocks ? block + tile.group_blocks : tile.blocks;
    const __m512i halves = load_ahead(at);
    at += 64;
    __m512i acc[kSets][kRows][kVectors];
    __m512i offset[kVectors];
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      offset[j] = _mm512_setzero_si512();
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        acc[0][r][j] = kDense ? _mm512_set1_epi32(start[r][group]) : _mm512_setzero_si512();
        if constexpr (kSets == 2) acc[1][r][j] = _mm512_setzero_si512();
      }
    }
    for (; block < end; ++block) {
      if constexpr (kDense) {
        dense_block<kRows, kSets>(acc, at, row, block * kNBitsBlock);
        at += 512;
      } else {
        two_four_block<kRows>(acc[0], offset, at, row, block * kNBitsBlock);
        at += 384;
      }
    }
    __m512 scale[kVectors] = {_mm512_cvtph_ps(_mm512_castsi512_si256(halves)),
                              _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1))};
    PARE_UNROLL for (int j = 0; j < kVectors; ++j) {
      if constexpr (!kDense) scale[j] = _mm512_mul_ps(scale[j], _mm512_set1_ps(0.0625F));
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        __m512i sum = acc[0][r][j];
        if constexpr (kSets == 2) sum = _mm512_add_epi32(sum, acc[1][r][j]);
        if constexpr (!kDense) sum = _mm512_sub_epi32(sum, offset[j]);
        total[r][j] = _mm512_add_ps(total[r][j], _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale[j]));
      }
    }
  }
  store<kRows>(total, tile);
}

#define PARE_TILES(form) \
  { run<form, 1>, run<form, 2>, run<form, 3>, run<form, 4>, run<form, 5>, run<form, 6> }
constexpr NBitsTileKernel kDense[kNBitsRows] = PARE_TILES(NBitsForm::kDense);
constexpr NBitsTileKernel kTwoFour[kNBitsRows] = PARE_TILES(NBitsForm::kTwoFour);

}  // namespace

NBitsTileKernel nbits_dense_avx512vnni(std::int64_t rows) { return kDense[rows - 1]; }
NBitsTileKernel nbits_two_four_avx512vnni(std::int64_t rows) { return kTwoFour[rows - 1]; }

void nbits_starts_avx512vnni(const std::uint8_t* row, std::int64_t blocks, std::int64_t group_blocks,
                             std::int32_t* out) {
  const __m256i eights = _mm256_set1_epi8(8);
  for (std::int64_t block = 0; block < blocks; ++out) {
    const std::int64_t end = block + group_blocks < blocks ? block + group_blocks : blocks;
    __m256i sum = _mm256_setzero_si256();
    for (; block < end; ++block) {
      const auto* codes = reinterpret_cast<const __m256i*>(row + block * kNBitsBlock);
      sum = _mm256_dpbusd_epi32(sum, eights, _mm256_loadu_si256(codes));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
    *out = -_mm_cvtsi128_si32(four);
  }
}

}  // namespace pare::kernels
