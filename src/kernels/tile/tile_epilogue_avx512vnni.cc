#include "pare/kernels/tile/tile_avx512.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// Four vectors from the order of columns to the order of lanes; a narrower panel keeps the columns' order.
void store_lanes(__m512i (&v)[4], std::int64_t vectors, void* out) {
  if (vectors == 4) transpose_blocks(v);
  for (std::int64_t j = 0; j < vectors; ++j) _mm512_store_si512(static_cast<std::int32_t*>(out) + 16 * j, v[j]);
}

void load_columns(const void* from, std::int64_t columns, __m512i (&v)[4]) {
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm512_maskz_loadu_epi32(column_mask(columns, j), static_cast<const std::int32_t*>(from) + 16 * j);
  }
}

template <int kVectors>
void store_rows(const std::int32_t* lanes, std::int64_t rows, const PanelEpilogue& e, void* const* out) {
  __m512 multiplier[kVectors];
  __m512 bias[kVectors];
  __mmask16 mask[kVectors];
  for (int j = 0; j < kVectors; ++j) {
    multiplier[j] = _mm512_load_ps(e.multiplier + kLanes * j);
    if (e.row_scale != nullptr) bias[j] = _mm512_load_ps(e.real_bias + kLanes * j);
    mask[j] = column_mask(e.columns, j);
  }
  const bool streams = e.streams && e.columns == kLanes * kVectors;
  for (std::int64_t r = 0; r < rows; ++r, lanes += kLanes * kVectors) {
    __m512i v[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(lanes + kLanes * j)), multiplier[j]);
      if (e.row_scale != nullptr) {
        real = _mm512_add_ps(_mm512_mul_ps(real, _mm512_set1_ps(e.row_scale[r])), bias[j]);
      }
      // In this order of operands -0 stays -0, as in the reference.
      if (e.relu) real = _mm512_max_ps(_mm512_setzero_ps(), real);
      v[j] = _mm512_castps_si512(real);
    }
    if constexpr (kVectors == 4) transpose_blocks(v);
    auto* to = static_cast<float*>(out[r]);
    if (streams && reinterpret_cast<std::uintptr_t>(to) % 64 == 0) {
      for (int j = 0; j < kVectors; ++j) _mm512_stream_ps(to + kLanes * j, _mm512_castsi512_ps(v[j]));
      continue;
    }
    for (int j = 0; j < kVectors; ++j) {
      _mm512_mask_storeu_ps(to + kLanes * j, mask[j], _mm512_castsi512_ps(v[j]));
    }
  }
}

template <int kVectors>
void store_clamped_rows(const std::int32_t* lanes, std::int64_t rows, const PanelEpilogue& e, void* const* out) {
  const __m512 hi = _mm512_set1_ps(e.hi);
  const __m512i zero_point = _mm512_set1_epi32(e.zero_point);
  const __m512i qmin = _mm512_set1_epi32(e.qmin);
  for (std::int64_t r = 0; r < rows; ++r, lanes += kLanes * kVectors) {
    __m512i v[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      const __m512i acc = _mm512_load_si512(lanes + kLanes * j);
      const __m512 multiplier = _mm512_load_ps(e.multiplier + kLanes * j);
      v[j] = _mm512_max_epi32(_mm512_add_epi32(requantized(acc, multiplier, hi), zero_point), qmin);
    }
    if constexpr (kVectors == 4) transpose_blocks(v);
    auto* to = static_cast<std::uint8_t*>(out[r]);
    for (int j = 0; j < kVectors; ++j) {
      _mm_mask_storeu_epi8(to + kLanes * j, column_mask(e.columns, j), _mm512_cvtepi32_epi8(v[j]));
    }
  }
}

// Where |multiplier| < 1 an accumulator times it is an int32, as floats of int32 are at most 2^31.
bool any_exceeds_int32(const PanelEpilogue& e, std::int64_t vectors) {
  const __m512 one = _mm512_set1_ps(1.0F);
  __mmask16 any = 0;
  for (std::int64_t j = 0; j < vectors; ++j) {
    const __m512 magnitude = _mm512_abs_ps(_mm512_load_ps(e.multiplier + kLanes * j));
    any = static_cast<__mmask16>(any | _mm512_cmp_ps_mask(magnitude, one, _CMP_NLT_UQ));
  }
  return any != 0;
}

}  // namespace

void store_u8_clamped_avx512vnni(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors,
                                 const PanelEpilogue& e, void* const* out) {
  constexpr void (*kStore[])(const std::int32_t*, std::int64_t, const PanelEpilogue&, void* const*) = {
      store_clamped_rows<1>, store_clamped_rows<2>, store_clamped_rows<3>, store_clamped_rows<4>};
  kStore[vectors - 1](lanes, rows, e, out);
}

void store_f32_avx512vnni(const std::int32_t* lanes, std::int64_t rows, std::int64_t vectors, const PanelEpilogue& e,
                          void* const* out) {
  constexpr void (*kStore[])(const std::int32_t*, std::int64_t, const PanelEpilogue&, void* const*) = {
      store_rows<1>, store_rows<2>, store_rows<3>, store_rows<4>};
  kStore[vectors - 1](lanes, rows, e, out);
}

void finish_streams_avx512vnni() { _mm_sfence(); }

void prepare_epilogue_avx512vnni(const PanelEpilogueSource& source, PanelEpilogue& epilogue) {
  const Epilogue& e = *source.epilogue;
  const std::int64_t vectors = ceil_div(source.columns, kLanes);
  __m512i v[4];
  load_columns(e.multiplier + source.first, source.columns, v);
  store_lanes(v, vectors, epilogue.multiplier);
  if (e.row_scale != nullptr) {
    load_columns(e.real_bias + source.first, source.columns, v);
    store_lanes(v, vectors, epilogue.real_bias);
  }
  load_columns(e.bias + source.first, source.columns, v);
  store_lanes(v, vectors, epilogue.start);
  const __m512i zero_point = _mm512_set1_epi32(source.zero_point);
  for (std::int64_t j = 0; j < vectors; ++j) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t tap = source.taps.begin; tap < source.taps.end; tap = source.taps.next(tap)) {
      sum = _mm512_add_epi32(sum, _mm512_load_si512(source.sums + (tap * vectors + j) * kLanes));
    }
    std::int32_t* start = epilogue.start + kLanes * j;
    _mm512_store_si512(start, _mm512_sub_epi32(_mm512_load_si512(start), _mm512_mullo_epi32(sum, zero_point)));
  }
  epilogue.hi = static_cast<float>(e.qmax - e.zero_point);
  epilogue.zero_point = e.zero_point;
  epilogue.qmin = e.qmin;
  epilogue.qmax = e.qmax;
  epilogue.exceeds_int32 = any_exceeds_int32(epilogue, vectors);
  epilogue.to_f32 = e.output == Epilogue::Output::kF32;
  epilogue.relu = e.relu;
  epilogue.columns = source.columns;
}

}  // namespace pare::kernels
