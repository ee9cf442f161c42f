#include "pare/kernels/tile/tile_avx2.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// format::requantize as vectors: the upper clamp in float, before rounding, as the accumulator times the multiplier may
// lie beyond int32; what lies below becomes INT32_MIN and ends in the lower clamp.
PARE_ALWAYS_INLINE __m256i requantized(const std::int32_t* acc, const float* multiplier, __m256 hi) {
  const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(load(acc)), _mm256_load_ps(multiplier));
  return _mm256_cvtps_epi32(_mm256_min_ps(scaled, hi));
}

PARE_ALWAYS_INLINE void copy_columns(void* to, const void* from, std::int64_t bytes) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(bytes));
}

// Of a full panel, lanes 8 h to 8 h + 7 of its four vectors are columns 32 h to 32 h + 31; packing within 128-bit
// blocks puts them in order. A narrower panel is in order already.
void store_u8(const std::int32_t* acc, std::int64_t vectors, const PanelEpilogue& e, std::uint8_t* out) {
  alignas(32) std::uint8_t codes[kPanelColumns];
  const __m256 hi = _mm256_set1_ps(e.hi);
  const __m256i zero_point = _mm256_set1_epi16(static_cast<short>(e.zero_point));
  const __m256i qmin = _mm256_set1_epi8(static_cast<char>(e.qmin));
  const std::int64_t pairs = vectors == 4 ? 2 : (vectors + 1) / 2;
  for (std::int64_t h = 0; h < pairs; ++h) {
    __m256i v[4];
    PARE_UNROLL for (int j = 0; j < 4; ++j) {
      const std::int64_t at = vectors == 4 ? 16 * j + 8 * h : 32 * h + 8 * j;
      v[j] = requantized(acc + at, e.multiplier + at, hi);
    }
    const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero_point);
    const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(v[2], v[3]), zero_point);
    __m256i packed = _mm256_max_epu8(_mm256_packus_epi16(low, high), qmin);
    if (vectors != 4) packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    if (e.columns >= 32 * (h + 1)) {
      store_unaligned(out + 32 * h, packed);
    } else {
      store(codes, packed);
      if (e.columns > 32 * h) copy_columns(out + 32 * h, codes, e.columns - 32 * h);
    }
  }
}

// `row_scale`: the row's, or null.
void store_f32(const std::int32_t* acc, std::int64_t vectors, const PanelEpilogue& e, const float* row_scale,
               float* out) {
  alignas(32) float reals[8];
  const __m256 zero = _mm256_setzero_ps();
  for (std::int64_t column = 0; column < e.columns; column += 8) {
    // Of a full panel, 4 columns are 4 lanes; the next 4 are those of the vector that follows.
    const std::int64_t at = vectors == 4 ? column % 16 * 4 + column / 16 * 4 : column;
    const std::int64_t then = vectors == 4 ? at + 16 : at + 4;
    const auto four = [&](std::int64_t lane) {
      const __m128i sum = _mm_load_si128(reinterpret_cast<const __m128i*>(acc + lane));
      const __m128 real = _mm_mul_ps(_mm_cvtepi32_ps(sum), _mm_load_ps(e.multiplier + lane));
      if (row_scale == nullptr) return real;
      return _mm_add_ps(_mm_mul_ps(real, _mm_set1_ps(*row_scale)), _mm_load_ps(e.real_bias + lane));
    };
    __m256 real = _mm256_set_m128(four(then), four(at));
    // In this order of operands -0 stays -0, as in the reference.
    if (e.relu) real = _mm256_max_ps(zero, real);
    if (e.columns >= column + 8) {
      _mm256_storeu_ps(out + column, real);
    } else {
      _mm256_store_ps(reals, real);
      copy_columns(out + column, reals, (e.columns - column) * 4);
    }
  }
}

// Four columns of `from` at a time, to the order of lanes; `bytes` past the last column are 0.
void to_lanes(const void* from, std::int64_t columns, std::int64_t vectors, void* out) {
  alignas(32) std::int32_t in_order[kPanelColumns];
  if (columns < kPanelColumns) {
    for (int i = 0; i < 8; ++i) store(in_order + 8 * i, _mm256_setzero_si256());
    copy_columns(in_order, from, columns * 4);
    from = in_order;
  }
  const auto* source = static_cast<const std::int32_t*>(from);
  auto* lanes = static_cast<std::int32_t*>(out);
  for (std::int64_t column = 0; column < 16 * vectors; column += 4) {
    const std::int64_t lane = vectors == 4 ? column % 16 * 4 + column / 16 * 4 : column;
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes + lane),
                    _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + column)));
  }
}

}  // namespace

void store_tile_avx2(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors, const PanelEpilogue& e,
                     void* const* out) {
  for (std::int64_t r = 0; r < rows; ++r, lanes += kPanelColumns) {
    if (e.to_f32) {
      store_f32(lanes, vectors, e, e.row_scale == nullptr ? nullptr : e.row_scale + r, static_cast<float*>(out[r]));
    } else {
      store_u8(lanes, vectors, e, static_cast<std::uint8_t*>(out[r]));
    }
  }
}

void prepare_epilogue_avx2(const PanelEpilogueSource& source, PanelEpilogue& epilogue) {
  const Epilogue& e = *source.epilogue;
  const std::int64_t vectors = ceil_div(source.columns, kLanes);
  to_lanes(e.multiplier + source.first, source.columns, vectors, epilogue.multiplier);
  if (e.row_scale != nullptr) to_lanes(e.real_bias + source.first, source.columns, vectors, epilogue.real_bias);
  to_lanes(e.bias + source.first, source.columns, vectors, epilogue.start);
  // What the kernels leave out of a sum of w * a (tile_avx2.h), and the zero point.
  const __m256i factor = _mm256_set1_epi32(128 - source.zero_point);
  for (std::int64_t lane = 0; lane < kLanes * vectors; lane += 8) {
    __m256i sum = _mm256_setzero_si256();
    __m256i negative = _mm256_setzero_si256();
    for (std::int64_t tap = source.taps.begin; tap < source.taps.end; tap = source.taps.next(tap)) {
      const std::int64_t at = tap * kLanes * vectors + lane;
      sum = _mm256_add_epi32(sum, load(source.sums + at));
      negative = _mm256_add_epi32(negative, load(source.negative_sums + at));
    }
    const __m256i left_out = _mm256_add_epi32(_mm256_mullo_epi32(sum, factor), negative);
    store(epilogue.start + lane, _mm256_add_epi32(load(epilogue.start + lane), left_out));
  }
  epilogue.hi = static_cast<float>(e.qmax - e.zero_point);
  epilogue.zero_point = e.zero_point;
  epilogue.qmin = e.qmin;
  epilogue.to_f32 = e.output == Epilogue::Output::kF32;
  epilogue.relu = e.relu;
  epilogue.columns = source.columns;
}

}  // namespace pare::kernels
