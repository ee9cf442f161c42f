#include <cstring>
#include <new>

#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

namespace {

// Segments that are shorter are not worth a tap of their own.
constexpr std::int64_t kLeastTapElems = 16;

// One panel: where it goes and which rows of the weights are its columns.
struct Panel {
  const PanelLayout& layout;
  std::int64_t first_row;
  std::int64_t columns;
  std::int64_t vectors;
  std::uint8_t* begin;

  [[nodiscard]] std::int32_t* sums() const { return reinterpret_cast<std::int32_t*>(begin); }
  [[nodiscard]] std::uint8_t* indices() const { return begin + layout.sums_bytes(vectors); }
  [[nodiscard]] std::int8_t* values(std::int64_t tap) const {
    return reinterpret_cast<std::int8_t*>(begin + layout.values_offset(vectors) + tap * layout.tap_bytes(vectors));
  }
};

// Calls body(row of the weights, vector, lane) for each column of the panel.
template <typename Body>
void for_columns(const Panel& panel, const Body& body) {
  for (std::int64_t vector = 0; vector < panel.vectors; ++vector) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const std::int64_t column = panel_column(panel.vectors, vector, lane);
      if (column < panel.columns) body(panel.first_row + column, vector, lane);
    }
  }
}

// Adds weights of one lane to the panel's sums.
void add_sums(const Panel& panel, std::int64_t tap, std::int64_t vector, std::int64_t lane, const std::int8_t* values,
              std::int64_t count) {
  std::int32_t* to = panel.sums() + (tap * panel.vectors + vector) * kLanes + lane;
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += values[i];
  *to += sum;
  if (!panel.layout.negative_sums) return;
  std::int32_t negative = 0;
  for (std::int64_t i = 0; i < count; ++i) negative -= values[i] < 0 ? values[i] : 0;
  to[panel.layout.taps * panel.vectors * kLanes] += negative;
}

// From [n][row_elems] codes. Short pieces of every column in turn, so that the lines that are written stay in the
// cache.
void pack_dense(const Panel& panel, const std::int8_t* codes, std::int64_t row_elems) {
  constexpr std::int64_t kPiece = 64;
  const std::int64_t elems = panel.layout.elems;
  const std::int64_t step = 64 * panel.vectors;
  for (std::int64_t tap = 0; tap < panel.layout.taps; ++tap) {
    for (std::int64_t begin = 0; begin < elems; begin += kPiece) {
      const std::int64_t end = begin + kPiece < elems ? begin + kPiece : elems;
      for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
        const std::int8_t* from = codes + row * row_elems + tap * elems + begin;
        std::int8_t* to = panel.values(tap) + begin / 4 * step + 64 * vector + 4 * lane;
        add_sums(panel, tap, vector, lane, from, end - begin);
        std::int64_t k = begin;
        for (; k + 4 <= end; k += 4, from += 4, to += step) std::memcpy(to, from, 4);
        if (k < end) std::memcpy(to, from, static_cast<std::size_t>(end - k));
      });
    }
  }
}

void pack_two_four(const Panel& panel, const CanonicalWeights& weights) {
  const std::int64_t groups = ceil_div(panel.layout.c, 4);
  const std::int64_t row_groups = groups * panel.layout.taps;
  const std::int64_t block_bytes = 320 * panel.vectors;
  for (std::int64_t tap = 0; tap < panel.layout.taps; ++tap) {
    for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
      const std::int64_t first = tap * groups;
      const std::int8_t* kept = weights.values + 2 * (row * row_groups + first);
      const std::uint8_t* nibbles = weights.indices + row * ((row_groups + 1) / 2);
      add_sums(panel, tap, vector, lane, kept, 2 * groups);
      for (std::int64_t g = 0; g < groups; ++g) {
        // Step s of a block covers two groups: bytes 0 and 1 of a lane, and bytes 2 and 3.
        std::int8_t* block = panel.values(tap) + g / 8 * block_bytes;
        const std::int64_t step = g % 8 / 2;
        const std::int64_t byte = 4 * lane + g % 2 * 2;
        const unsigned pair = nibbles[(first + g) / 2];
        const unsigned positions = (first + g) % 2 == 0 ? pair & 0xF : pair >> 4;
        auto* indices = reinterpret_cast<std::uint8_t*>(block) + 64 * vector + byte;
        indices[0] = static_cast<std::uint8_t>(indices[0] | (positions & 3) << (2 * step));
        indices[1] = static_cast<std::uint8_t>(indices[1] | (positions >> 2) << (2 * step));
        std::memcpy(block + 64 * ((step + 1) * panel.vectors + vector) + byte, kept + 2 * g, 2);
      }
    });
  }
}

void pack_vnm(const Panel& panel, const CanonicalWeights& weights) {
  const PanelLayout& layout = panel.layout;
  const format::VnmPattern& pattern = weights.vnm;
  const std::int64_t row_kept = ceil_div(layout.c, pattern.m) * pattern.n;  // of one tap, as stored
  const std::int64_t tap_kept = layout.vnm.kept(layout.c);                  // of one tap, as packed
  const auto pack_indices = [&](std::int64_t first_row, std::int64_t tap, const auto& place) {
    const std::uint8_t* stored = weights.indices + (first_row / pattern.v * layout.taps + tap) * row_kept;
    for (std::int64_t i = 0; i < row_kept; ++i) {
      const std::int64_t k = i / pattern.n * pattern.m + stored[i];
      panel.indices()[place(tap * tap_kept + i)] = static_cast<std::uint8_t>(k % layout.vnm.source);
    }
  };
  for (std::int64_t tap = 0; tap < layout.taps; ++tap) {
    if (layout.own_indices) {
      for (std::int64_t column = 0; column < panel.columns; column += kLanes) {
        pack_indices(panel.first_row + column, tap,
                     [column](std::int64_t i) { return i / 4 * 16 + column / kLanes * 4 + i % 4; });
      }
    } else {
      pack_indices(panel.first_row, tap, [](std::int64_t i) { return i; });
    }
    for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
      const std::int8_t* kept = weights.values + (row * layout.taps + tap) * row_kept;
      add_sums(panel, tap, vector, lane, kept, row_kept);
      std::int8_t* to = panel.values(tap) + 64 * vector + 4 * lane;
      for (std::int64_t i = 0; i < row_kept; ++i) to[i / 4 * 64 * panel.vectors + i % 4] = kept[i];
    });
  }
}

// A layer whose stored form no panel keeps: its panels are dense. A row at a time would need memory for the row.
void pack_expanded(const Panel& panel, const CanonicalWeights& weights, WeightFormat stored) {
  const std::int64_t elems = panel.layout.elems;
  for (std::int64_t tap = 0; tap < panel.layout.taps; ++tap) {
    for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
      std::int8_t* to = panel.values(tap) + 64 * vector + 4 * lane;
      for (std::int64_t i = 0; i < elems; ++i) {
        const auto code = static_cast<std::int8_t>(weight_at(weights, stored, row, tap * elems + i));
        to[i / 4 * 64 * panel.vectors + i % 4] = code;
        add_sums(panel, tap, vector, lane, &code, 1);
      }
    });
  }
}

bool has_vnm_kernel(const format::VnmPattern& p) {
  return (p.v % kPanelColumns == 0 || p.v == 16 || p.v == 32) && (2 * p.n == p.m || 4 * p.n == p.m || 8 * p.n == p.m) &&
         p.m <= 8;
}

}  // namespace

PanelLayout panel_layout(const CanonicalWeights& weights, WeightFormat format, PanelKind kind) {
  PanelLayout layout;
  layout.negative_sums = kind == PanelKind::kSigned;
  layout.taps = weights.segments;
  layout.c = weights.segment_elems;
  layout.elems = layout.c;
  if (layout.taps > 1 && layout.c < kLeastTapElems) {
    layout.line_taps = weights.line_segments > 1;
    layout.taps /= weights.line_segments;
    layout.elems *= weights.line_segments;
    layout.c = layout.line_taps ? round_up(layout.elems, 4) : layout.elems;
    return layout;
  }
  if (format == WeightFormat::kVnm && has_vnm_kernel(weights.vnm)) {
    layout.format = format;
    layout.vnm = vnm_shape(weights.vnm.n, weights.vnm.m, layout.c);
    layout.permuted = kind == PanelKind::kPermuted;
    layout.own_indices = layout.permuted && weights.vnm.v < kPanelColumns;
    if (weights.vnm.v < kPanelColumns && !layout.own_indices) layout.columns = weights.vnm.v;
  } else if (format == WeightFormat::kTwoFour) {
    layout.format = format;
  }
  return layout;
}

namespace {

std::size_t packed_bytes(const PanelLayout& layout, std::int64_t n) {
  return static_cast<std::size_t>(kPackedHeaderBytes + layout.bytes(n));
}

template <WeightFormat kFormat>
void pack(const CanonicalWeights& weights, const PanelLayout& of, void* packed) {
  static_assert(sizeof(PanelLayout) <= kPackedHeaderBytes);
  std::memset(packed, 0, packed_bytes(of, weights.n));
  const PanelLayout& layout = *new (packed) PanelLayout(of);
  std::uint8_t* begin = static_cast<std::uint8_t*>(packed) + kPackedHeaderBytes;
  for (std::int64_t first = 0; first < weights.n; first += layout.columns) {
    const std::int64_t left = weights.n - first;
    const std::int64_t columns = left < layout.columns ? left : layout.columns;
    const Panel panel{layout, first, columns, ceil_div(columns, kLanes), begin};
    if constexpr (kFormat == WeightFormat::kDense) {
      pack_dense(panel, weights.values, weights.k());
    } else if (layout.format != kFormat) {
      pack_expanded(panel, weights, kFormat);
    } else if constexpr (kFormat == WeightFormat::kTwoFour) {
      pack_two_four(panel, weights);
    } else {
      pack_vnm(panel, weights);
    }
    begin += layout.panel_bytes(panel.vectors);
  }
}

}  // namespace

template <WeightFormat kFormat>
std::size_t packed_panels_bytes(const CanonicalWeights& weights) {
  return packed_bytes(panel_layout(weights, kFormat, PanelKind::kPlain), weights.n);
}

template <WeightFormat kFormat>
void pack_panels(const CanonicalWeights& weights, void* packed) {
  pack<kFormat>(weights, panel_layout(weights, kFormat, PanelKind::kPlain), packed);
}

template <WeightFormat kFormat>
std::size_t packed_signed_panels_bytes(const CanonicalWeights& weights) {
  return packed_bytes(panel_layout(weights, kFormat, PanelKind::kSigned), weights.n);
}

template <WeightFormat kFormat>
void pack_signed_panels(const CanonicalWeights& weights, void* packed) {
  pack<kFormat>(weights, panel_layout(weights, kFormat, PanelKind::kSigned), packed);
}

std::size_t packed_permuted_panels_bytes(const CanonicalWeights& weights) {
  return packed_bytes(panel_layout(weights, WeightFormat::kVnm, PanelKind::kPermuted), weights.n);
}

void pack_permuted_panels(const CanonicalWeights& weights, void* packed) {
  pack<WeightFormat::kVnm>(weights, panel_layout(weights, WeightFormat::kVnm, PanelKind::kPermuted), packed);
}

#define PARE_PACKINGS(format)                                                                             \
  template std::size_t packed_panels_bytes<WeightFormat::format>(const CanonicalWeights& weights);        \
  template void pack_panels<WeightFormat::format>(const CanonicalWeights& weights, void* packed);         \
  template std::size_t packed_signed_panels_bytes<WeightFormat::format>(const CanonicalWeights& weights); \
  template void pack_signed_panels<WeightFormat::format>(const CanonicalWeights& weights, void* packed);
PARE_PACKINGS(kDense)
PARE_PACKINGS(kTwoFour)
PARE_PACKINGS(kVnm)

}  // namespace pare::kernels
