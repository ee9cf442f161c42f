// vpmaddubsw adds two products of a u8 and an s8 in int16, where it could saturate; with 4-bit codes it cannot. Dense:
// code + 8 and an activation make at most 15 * 127, so the 16 products of a lane's half that a block of 32 k adds up,
// 30480, still fit. 2:4: activation + 128 and a code make at most 255 * 8, and a block adds 8 of them, 16320. So sums
// stay in int16 for a block, and only then vpmaddwd widens them. What the 8 and the 128 add is taken off as in
// matmul_nbits_avx512vnni.cc.
#include <immintrin.h>

#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

#define PARE_ALWAYS_INLINE inline __attribute__((always_inline))
#define PARE_UNROLL _Pragma("GCC unroll 16")

namespace pare::kernels {

namespace {

constexpr std::int64_t kAhead = 4096;

PARE_ALWAYS_INLINE __m256i load(const void* from) { return _mm256_load_si256(static_cast<const __m256i*>(from)); }

PARE_ALWAYS_INLINE __m256i broadcast_4(const std::uint8_t* bytes) {
  std::int32_t dword;
  __builtin_memcpy(&dword, bytes, sizeof dword);
  return _mm256_set1_epi32(dword);
}

PARE_ALWAYS_INLINE __m256i broadcast_8(const std::uint8_t* bytes) {
  long long qword;
  __builtin_memcpy(&qword, bytes, sizeof qword);
  return _mm256_set1_epi64x(qword);
}

PARE_ALWAYS_INLINE __m256i high_nibbles(__m256i both) {
  return _mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi8(0x0F));
}

PARE_ALWAYS_INLINE __m256i low_nibbles(__m256i both) { return _mm256_and_si256(both, _mm256_set1_epi8(0x0F)); }

// Signed codes from nibbles.
PARE_ALWAYS_INLINE __m256i codes_of(__m256i nibbles) {
  const __m256i codes = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,  //
                                         0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
  return _mm256_shuffle_epi8(codes, nibbles);
}

// 8 halves, none of them negative, infinite or NaN: their bits are those of a float whose exponent is 112 too small.
PARE_ALWAYS_INLINE __m256 floats_of(const std::uint8_t* halves) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(halves)));
  return _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 13)), _mm256_set1_ps(0x1p112F));
}

// Of a panel's 4 vectors of 8 columns, a walk over a group takes so many: one row reads memory in its order, more rows
// need the registers.
template <int kRows>
constexpr int kWalk = kRows == 1 ? 4 : (kRows == 2 ? 2 : 1);

template <int kRows>
PARE_ALWAYS_INLINE void dense_block(__m256i (&sum)[kRows][kWalk<kRows>], const std::uint8_t* values,
                                    const std::uint8_t* const (&row)[kRows], std::int64_t k) {
  PARE_UNROLL for (int s = 0; s < 4; ++s) {
    PARE_UNROLL for (int j = 0; j < kWalk<kRows>; ++j) {
      const __m256i both = load(values + 128 * s + 32 * j);
      const __m256i low = low_nibbles(both);
      const __m256i high = high_nibbles(both);
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256i first = _mm256_maddubs_epi16(low, broadcast_4(row[r] + k + 8 * s));
        const __m256i second = _mm256_maddubs_epi16(high, broadcast_4(row[r] + k + 8 * s + 4));
        sum[r][j] = _mm256_add_epi16(sum[r][j], _mm256_add_epi16(first, second));
      }
    }
  }
}

template <int kRows>
PARE_ALWAYS_INLINE void two_four_block(__m256i (&sum)[kRows][kWalk<kRows>], const std::uint8_t* block,
                                       const std::uint8_t* const (&row)[kRows], std::int64_t k) {
  const __m256i three = _mm256_set1_epi8(3);
  const __m256i upper = _mm256_set1_epi32(0x04040000);
  const __m256i half = _mm256_set1_epi8(static_cast<char>(0x80));
  PARE_UNROLL for (int j = 0; j < kWalk<kRows>; ++j) {
    const __m256i indices = load(block + 32 * j);
    __m256i offset = _mm256_setzero_si256();
    PARE_UNROLL for (int s = 0; s < 4; ++s) {
      const __m256i both = load(block + 128 + s / 2 * 128 + 32 * j);
      const __m256i w = codes_of(s % 2 == 0 ? low_nibbles(both) : high_nibbles(both));
      const __m256i control = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(indices, 2 * s), three), upper);
      offset = _mm256_add_epi16(offset, _mm256_maddubs_epi16(half, w));
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256i a = _mm256_shuffle_epi8(broadcast_8(row[r] + k + 8 * s), control);
        sum[r][j] = _mm256_add_epi16(sum[r][j], _mm256_maddubs_epi16(a, w));
      }
    }
    PARE_UNROLL for (int r = 0; r < kRows; ++r) sum[r][j] = _mm256_sub_epi16(sum[r][j], offset);
  }
}

struct Totals {
  alignas(32) float of[kNBitsRows][kNBitsColumns];
};

// Adds one group of `blocks` blocks, from k on, for the vectors from `vector` on.
template <NBitsForm kForm, int kRows>
PARE_ALWAYS_INLINE void add_group(Totals& totals, const std::uint8_t* group, std::int64_t blocks, std::int64_t k,
                                  const std::uint8_t* const (&row)[kRows], const std::int32_t (&start)[kRows],
                                  int vector) {
  constexpr bool kDense = kForm == NBitsForm::kDense;
  constexpr int kWidth = kWalk<kRows>;
  constexpr std::int64_t kBytes = kDense ? 512 : 384;
  __m256i acc[kRows][kWidth];
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) acc[r][j] = _mm256_set1_epi32(start[r]);
  }
  const std::uint8_t* block = group + 64 + 32 * vector;
  for (std::int64_t b = 0; b < blocks; ++b, block += kBytes, k += kNBitsBlock) {
    PARE_UNROLL for (std::int64_t line = 0; line < kBytes * kWidth / 4; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(block + kAhead + line), _MM_HINT_T0);
    }
    __m256i sum[kRows][kWidth];
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      PARE_UNROLL for (int j = 0; j < kWidth; ++j) sum[r][j] = _mm256_setzero_si256();
    }
    if constexpr (kDense) {
      dense_block<kRows>(sum, block, row, k);
    } else {
      two_four_block<kRows>(sum, block, row, k);
    }
    const __m256i ones = _mm256_set1_epi16(1);
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
        acc[r][j] = _mm256_add_epi32(acc[r][j], _mm256_madd_epi16(sum[r][j], ones));
      }
    }
  }
  PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
    const __m256 scale = floats_of(group + 16 * (vector + j));
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      float* total = totals.of[r] + 8 * (vector + j);
      _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][j]), scale)));
    }
  }
}

template <int kRows>
void store(const Totals& totals, const NBitsTile& tile) {
  for (int r = 0; r < kRows; ++r) {
    std::int64_t c = 0;
    for (; c + 8 <= tile.columns; c += 8) {
      __m256 real = _mm256_mul_ps(_mm256_load_ps(totals.of[r] + c), _mm256_set1_ps(tile.a_scale[r]));
      if (tile.bias != nullptr) real = _mm256_add_ps(real, _mm256_loadu_ps(tile.bias + c));
      // The second operand where they are equal or one is NaN, so that -0 and NaN stay.
      if (tile.relu) real = _mm256_max_ps(_mm256_setzero_ps(), real);
      _mm256_storeu_ps(tile.out[r] + c, real);
    }
    for (; c < tile.columns; ++c) {
      const float real = totals.of[r][c] * tile.a_scale[r];
      const float sum = tile.bias == nullptr ? real : real + tile.bias[c];
      tile.out[r][c] = tile.relu && sum < 0.0F ? 0.0F : sum;
    }
  }
}

template <NBitsForm kForm, int kRows>
void run(const NBitsTile& tile) {
  constexpr bool kDense = kForm == NBitsForm::kDense;
  Totals totals;
  const std::uint8_t* row[kRows];
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    row[r] = tile.rows[r];
    for (float& total : totals.of[r]) total = 0.0F;
  }
  const std::uint8_t* at = tile.panel;
  std::int64_t group = 0;
  for (std::int64_t block = 0; block < tile.blocks; ++group) {
    const std::int64_t left = tile.blocks - block;
    const std::int64_t blocks = left < tile.group_blocks ? left : tile.group_blocks;
    std::int32_t start[kRows];
    PARE_UNROLL for (int r = 0; r < kRows; ++r) start[r] = kDense ? tile.starts[r][group] : 0;
    for (int vector = 0; vector < 4; vector += kWalk<kRows>) {
      add_group<kForm, kRows>(totals, at, blocks, block * kNBitsBlock, row, start, vector);
    }
    at += 64 + blocks * (kDense ? 512 : 384);
    block += blocks;
  }
  store<kRows>(totals, tile);
}

#define PARE_TILES(form) \
  { run<form, 1>, run<form, 2>, run<form, 3>, run<form, 4>, run<form, 5>, run<form, 6> }
constexpr NBitsTileKernel kDense[kNBitsRows] = PARE_TILES(NBitsForm::kDense);
constexpr NBitsTileKernel kTwoFour[kNBitsRows] = PARE_TILES(NBitsForm::kTwoFour);

}  // namespace

NBitsTileKernel nbits_dense_avx2(std::int64_t rows) { return kDense[rows - 1]; }
NBitsTileKernel nbits_two_four_avx2(std::int64_t rows) { return kTwoFour[rows - 1]; }

void nbits_starts_avx2(const std::uint8_t* row, std::int64_t blocks, std::int64_t group_blocks, std::int32_t* out) {
  const __m256i eights = _mm256_set1_epi8(8);
  const __m256i ones = _mm256_set1_epi16(1);
  for (std::int64_t block = 0; block < blocks; ++out) {
    const std::int64_t end = block + group_blocks < blocks ? block + group_blocks : blocks;
    __m256i sum = _mm256_setzero_si256();
    for (; block < end; ++block) {
      const auto* codes = reinterpret_cast<const __m256i*>(row + block * kNBitsBlock);
      const __m256i pairs = _mm256_maddubs_epi16(eights, _mm256_loadu_si256(codes));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
    *out = -_mm_cvtsi128_si32(four);
  }
}

}  // namespace pare::kernels
