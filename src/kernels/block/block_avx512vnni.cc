#include "pare/kernels/block/block_tile.h"
#include "pare/kernels/tile/tile_avx512.h"

namespace pare::kernels {

namespace {

// A 16 x 16 matrix of dwords, transposed.
PARE_ALWAYS_INLINE void transpose_16x16(__m512i (&v)[16]) {
  __m512i pairs[16];
  PARE_UNROLL for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  // Now four rows at a time: quads[4 q + i] holds, in its b-th 128 bits, column 4 b + i of rows 4 q to 4 q + 3.
  __m512i quads[4][4];
  PARE_UNROLL for (int q = 0; q < 4; ++q) {
    quads[0][q] = _mm512_unpacklo_epi64(pairs[4 * q], pairs[4 * q + 2]);
    quads[1][q] = _mm512_unpackhi_epi64(pairs[4 * q], pairs[4 * q + 2]);
    quads[2][q] = _mm512_unpacklo_epi64(pairs[4 * q + 1], pairs[4 * q + 3]);
    quads[3][q] = _mm512_unpackhi_epi64(pairs[4 * q + 1], pairs[4 * q + 3]);
  }
  PARE_UNROLL for (int i = 0; i < 4; ++i) {
    transpose_blocks(quads[i]);
    PARE_UNROLL for (int b = 0; b < 4; ++b) v[4 * b + i] = quads[i][b];
  }
}

// Results of 16 outputs, [output][row], dwords: codes, or reals.
struct Results {
  alignas(64) std::int32_t of[kBlockTileColumns][kBlockTileRows];
};

// Four codes of a row to a dword, then 16 bytes of each row.
PARE_ALWAYS_INLINE void store_codes(const Results& results, std::int64_t vector, __mmask16 columns, std::int64_t rows,
                                    void* const* out, std::int64_t n) {
  __m512i four[4];
  PARE_UNROLL for (int q = 0; q < 4; ++q) {
    const auto code = [&](int i) { return _mm512_load_si512(results.of[4 * q + i] + kBlockLanes * vector); };
    four[q] = _mm512_or_si512(_mm512_or_si512(code(0), _mm512_slli_epi32(code(1), 8)),
                              _mm512_or_si512(_mm512_slli_epi32(code(2), 16), _mm512_slli_epi32(code(3), 24)));
  }
  const __m512i low_01 = _mm512_unpacklo_epi32(four[0], four[1]);
  const __m512i high_01 = _mm512_unpackhi_epi32(four[0], four[1]);
  const __m512i low_23 = _mm512_unpacklo_epi32(four[2], four[3]);
  const __m512i high_23 = _mm512_unpackhi_epi32(four[2], four[3]);
  // The b-th 128 bits of row_of[i]: row 4 b + i.
  alignas(64) std::uint8_t row_of[4][64];
  _mm512_store_si512(row_of[0], _mm512_unpacklo_epi64(low_01, low_23));
  _mm512_store_si512(row_of[1], _mm512_unpackhi_epi64(low_01, low_23));
  _mm512_store_si512(row_of[2], _mm512_unpacklo_epi64(high_01, high_23));
  _mm512_store_si512(row_of[3], _mm512_unpackhi_epi64(high_01, high_23));
  for (std::int64_t r = 0; r < rows; ++r) {
    const __m128i codes = _mm_load_si128(reinterpret_cast<const __m128i*>(row_of[r % 4] + 16 * (r / 4)));
    _mm_mask_storeu_epi8(static_cast<std::uint8_t*>(out[r]) + n, columns, codes);
  }
}

PARE_ALWAYS_INLINE void store_reals(const Results& results, std::int64_t vector, __mmask16 columns, std::int64_t rows,
                                    void* const* out, std::int64_t n) {
  __m512i v[16];
  PARE_UNROLL for (int i = 0; i < 16; ++i) v[i] = _mm512_load_si512(results.of[i] + kBlockLanes * vector);
  transpose_16x16(v);
  alignas(64) float row_of[16][16];
  PARE_UNROLL for (int i = 0; i < 16; ++i) _mm512_store_si512(row_of[i], v[i]);
  for (std::int64_t r = 0; r < rows; ++r) {
    _mm512_mask_storeu_ps(static_cast<float*>(out[r]) + n, columns, _mm512_load_ps(row_of[r]));
  }
}

struct Lists {
  const std::int32_t* sums;
  const std::uint32_t* begins;
  const std::uint16_t* steps;
  const std::int32_t* values;  // four codes each

  explicit Lists(const void* packed) {
    const BlockLists& lists = lists_of(packed);
    const auto* begin = static_cast<const std::uint8_t*>(packed);
    sums = reinterpret_cast<const std::int32_t*>(begin + BlockLists::sums_offset());
    begins = reinterpret_cast<const std::uint32_t*>(begin + lists.begins_offset());
    steps = reinterpret_cast<const std::uint16_t*>(begin + lists.steps_offset());
    values = reinterpret_cast<const std::int32_t*>(begin + lists.values_offset());
  }
};

// The results of one group of outputs, which begins at output n, to results.of[n % 16 ...].
template <int kGroup, int kVectors>
PARE_ALWAYS_INLINE void group(const BlockTileArgs& args, const Lists& lists, std::int64_t n, std::int64_t count,
                              Results& results) {
  const Epilogue& e = *args.epilogue;
  // A dot product has its result after four cycles: so many sums, at least, have to be under way.
  constexpr int kChains = kGroup * kVectors < 4 ? 4 / (kGroup * kVectors) : 1;
  __m512i sums[kChains][kGroup][kVectors];
  PARE_UNROLL for (int o = 0; o < kGroup; ++o) {
    const std::int64_t j = o < count ? n + o : n;
    // Without regard to overflow, which the sum of all makes good.
    const auto start = static_cast<std::uint32_t>(e.bias[j]) -
                       static_cast<std::uint32_t>(lists.sums[j]) * static_cast<std::uint32_t>(args.zero_point);
    PARE_UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[0][o][v] = _mm512_set1_epi32(static_cast<std::int32_t>(start));
      PARE_UNROLL for (int chain = 1; chain < kChains; ++chain) sums[chain][o][v] = _mm512_setzero_si512();
    }
  }
  const auto add = [&](std::int64_t entry, __m512i(&acc)[kGroup][kVectors]) {
    const std::uint8_t* from = args.activations + std::int64_t{lists.steps[entry]} * (64 * kVectors);
    __m512i a[kVectors];
    PARE_UNROLL for (int v = 0; v < kVectors; ++v) a[v] = _mm512_load_si512(from + 64 * v);
    PARE_UNROLL for (int o = 0; o < kGroup; ++o) {
      const __m512i w = _mm512_set1_epi32(lists.values[entry * kGroup + o]);
      PARE_UNROLL for (int v = 0; v < kVectors; ++v) acc[o][v] = _mm512_dpbusd_epi32(acc[o][v], a[v], w);
    }
  };
  std::int64_t entry = lists.begins[n / kGroup];
  const std::int64_t end = lists.begins[n / kGroup + 1];
  for (; entry + kChains <= end; entry += kChains) {
    PARE_UNROLL for (int chain = 0; chain < kChains; ++chain) add(entry + chain, sums[chain]);
  }
  for (; entry < end; ++entry) add(entry, sums[0]);
  __m512i(&acc)[kGroup][kVectors] = sums[0];
  PARE_UNROLL for (int chain = 1; chain < kChains; ++chain) {
    PARE_UNROLL for (int o = 0; o < kGroup; ++o) {
      PARE_UNROLL for (int v = 0; v < kVectors; ++v) acc[o][v] = _mm512_add_epi32(acc[o][v], sums[chain][o][v]);
    }
  }
  const __m512 hi = _mm512_set1_ps(static_cast<float>(e.qmax - e.zero_point));
  const __m512i zero_point = _mm512_set1_epi32(e.zero_point);
  const __m512i qmin = _mm512_set1_epi32(e.qmin);
  PARE_UNROLL for (int o = 0; o < kGroup; ++o) {
    const __m512 multiplier = _mm512_set1_ps(e.multiplier[o < count ? n + o : n]);
    std::int32_t* to = results.of[n % kBlockTileColumns + o];
    PARE_UNROLL for (int v = 0; v < kVectors; ++v) {
      if (e.output == Epilogue::Output::kU8) {
        const __m512i code = _mm512_add_epi32(requantized(acc[o][v], multiplier, hi), zero_point);
        _mm512_store_si512(to + kBlockLanes * v, _mm512_max_epi32(code, qmin));
      } else {
        __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[o][v]), multiplier);
        if (args.row_scale != nullptr) {
          // Lanes are rows.
          const std::int64_t left = args.rows - kBlockLanes * v;
          const __m512 scale = _mm512_maskz_loadu_ps(column_mask(left, 0), args.row_scale + kBlockLanes * v);
          real = _mm512_add_ps(_mm512_mul_ps(real, scale), _mm512_set1_ps(e.real_bias[o < count ? n + o : n]));
        }
        // In this order of operands -0 stays -0, as in the reference.
        if (e.relu) real = _mm512_max_ps(_mm512_setzero_ps(), real);
        _mm512_store_ps(reinterpret_cast<float*>(to) + kBlockLanes * v, real);
      }
    }
  }
}

template <int kGroup, int kVectors>
void columns(const BlockTileArgs& args) {
  const Lists lists(args.packed);
  Results results;
  for (std::int64_t n = args.n_begin; n < args.n_end; n += kBlockTileColumns) {
    const std::int64_t count = args.n_end - n < kBlockTileColumns ? args.n_end - n : kBlockTileColumns;
    for (std::int64_t j = 0; j < count; j += kGroup) {
      group<kGroup, kVectors>(args, lists, n + j, count - j, results);
    }
    const __mmask16 mask = column_mask(count, 0);
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const std::int64_t left = args.rows - kBlockLanes * v;
      const std::int64_t rows = left < kBlockLanes ? left : kBlockLanes;
      if (args.epilogue->output == Epilogue::Output::kU8) {
        store_codes(results, v, mask, rows, args.out + kBlockLanes * v, n);
      } else {
        store_reals(results, v, mask, rows, args.out + kBlockLanes * v, n);
      }
    }
  }
}

}  // namespace

void transpose_steps_avx512vnni(const std::uint8_t* const* rows, std::int64_t c, std::uint8_t* to,
                                std::int64_t stride_bytes) {
  for (std::int64_t k = 0; k < c; k += 64) {
    const std::int64_t left = c - k < 64 ? c - k : 64;
    __m512i v[16];
    if (left == 64) {
      PARE_UNROLL for (int r = 0; r < 16; ++r) v[r] = _mm512_loadu_si512(rows[r] + k);
    } else {
      const __mmask64 mask = (__mmask64{1} << left) - 1;
      PARE_UNROLL for (int r = 0; r < 16; ++r) v[r] = _mm512_maskz_loadu_epi8(mask, rows[r] + k);
    }
    transpose_16x16(v);
    alignas(64) std::uint8_t steps[16][64];
    PARE_UNROLL for (int s = 0; s < 16; ++s) {
      if (left == 64) {
        _mm512_store_si512(to + s * stride_bytes, v[s]);
      } else {
        _mm512_store_si512(steps[s], v[s]);
      }
    }
    if (left < 64) {
      for (std::int64_t s = 0; 4 * s < left; ++s) {
        _mm512_store_si512(to + s * stride_bytes, _mm512_load_si512(steps[s]));
      }
    }
    to += 16 * stride_bytes;
  }
}

void block_columns_avx512vnni(const BlockTileArgs& args) {
  using Columns = void (*)(const BlockTileArgs& args);
  constexpr Columns kOne[4] = {columns<1, 1>, columns<1, 2>, columns<1, 3>, columns<1, 4>};
  constexpr Columns kFour[4] = {columns<4, 1>, columns<4, 2>, columns<4, 3>, columns<4, 4>};
  (lists_of(args.packed).group == 4 ? kFour : kOne)[args.vectors - 1](args);
}

}  // namespace pare::kernels
