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

}  // namespace

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
    for (std::int64_t tap = source.tap_begin; tap < source.tap_end; ++tap) {
      sum = _mm512_add_epi32(sum, _mm512_load_si512(source.sums + (tap * vectors + j) * kLanes));
    }
    std::int32_t* start = epilogue.start + kLanes * j;
    _mm512_store_si512(start, _mm512_sub_epi32(_mm512_load_si512(start), _mm512_mullo_epi32(sum, zero_point)));
  }
  epilogue.hi = static_cast<float>(e.qmax - e.zero_point);
  epilogue.zero_point = e.zero_point;
  epilogue.qmin = e.qmin;
  epilogue.to_f32 = e.output == Epilogue::Output::kF32;
  epilogue.relu = e.relu;
  epilogue.columns = source.columns;
}

}  // namespace pare::kernels
