#include <cstring>
#include <new>

#include "pare/base/error.h"
#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

namespace {

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

// The sum of eight bytes at a time, in four fields of 16 bits that are folded before they can overflow.
constexpr std::uint64_t kEveryByte = 0x0101010101010101U;
constexpr std::uint64_t kEvenBytes = 0x00FF00FF00FF00FFU;

// Sums of codes, and of the magnitudes of those below 0. A code is summed as code + 128, a magnitude below 0 as
// ~code + 1: both are unsigned bytes.
class Sums {
 public:
  // At most 128 times.
  void add(std::uint64_t codes) {
    const std::uint64_t shifted = codes ^ (kEveryByte * 0x80);
    all_ += (shifted & kEvenBytes) + (shifted >> 8 & kEvenBytes);
    const std::uint64_t below = codes >> 7 & kEveryByte;
    const std::uint64_t magnitude = (~codes & (below * 0xFF)) + below;
    below_ += (magnitude & kEvenBytes) + (magnitude >> 8 & kEvenBytes);
    offset_ += 8 * 128;
  }
  [[nodiscard]] std::int32_t all() const { return fold(all_) - offset_; }
  [[nodiscard]] std::int32_t below() const { return fold(below_); }

 private:
  static std::int32_t fold(std::uint64_t fields) {
    return static_cast<std::int32_t>((fields & 0xFFFF) + (fields >> 16 & 0xFFFF) + (fields >> 32 & 0xFFFF) +
                                     (fields >> 48));
  }

  std::uint64_t all_ = 0;
  std::uint64_t below_ = 0;
  std::int32_t offset_ = 0;
};

// Adds weights of one lane to the panel's sums.
void add_sums(const Panel& panel, std::int64_t tap, std::int64_t vector, std::int64_t lane, const std::int8_t* values,
              std::int64_t count) {
  constexpr std::int64_t kMost = 128 * 8;
  std::int32_t* to = panel.sums() + (tap * panel.vectors + vector) * kLanes + lane;
  while (count > 0) {
    const std::int64_t some = count < kMost ? count : kMost;
    Sums sums;
    std::uint64_t codes = 0;
    std::int64_t i = 0;
    // Copies whose length is known are single instructions, others are calls.
    for (; i + 8 <= some; i += 8) {
      std::memcpy(&codes, values + i, 8);
      sums.add(codes);
    }
    if (i < some) {
      codes = 0;
      std::memcpy(&codes, values + i, static_cast<std::size_t>(some - i));
      sums.add(codes);
    }
    *to += sums.all();
    if (panel.layout.negative_sums) to[panel.layout.taps * panel.vectors * kLanes] += sums.below();
    values += some;
    count -= some;
  }
}

// Four codes at a time to places `step` bytes apart; of the last ones as many as there are.
void spread_dwords(const std::int8_t* from, std::int64_t count, std::int8_t* to, std::int64_t step) {
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4, from += 4, to += step) std::memcpy(to, from, 4);
  if (k < count) std::memcpy(to, from, static_cast<std::size_t>(count - k));
}

// Every packing takes short pieces of all columns in turn, so that the lines that are written stay in the cache.

// From [n][row_elems] codes.
void pack_dense(const Panel& panel, const std::int8_t* codes, std::int64_t row_elems) {
  constexpr std::int64_t kPiece = 256;
  const std::int64_t elems = panel.layout.elems;
  const std::int64_t step = 64 * panel.vectors;
  for (std::int64_t tap = 0; tap < panel.layout.taps; ++tap) {
    for (std::int64_t begin = 0; begin < elems; begin += kPiece) {
      const std::int64_t count = elems - begin < kPiece ? elems - begin : kPiece;
      for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
        const std::int8_t* from = codes + row * row_elems + tap * elems + begin;
        add_sums(panel, tap, vector, lane, from, count);
        spread_dwords(from, count, panel.values(tap) + begin / 4 * step + 64 * vector + 4 * lane, step);
      });
    }
  }
}

// The positions of up to eight groups as stored, group g in bits 4 g to 4 g + 3; 0 for those past the last.
std::uint32_t stored_positions(const std::uint8_t* nibbles, std::int64_t first, std::int64_t count) {
  const std::uint8_t* from = nibbles + first / 2;
  std::uint32_t bits = 0;
  if (count == 8) {
    std::memcpy(&bits, from, 4);
    return first % 2 == 0 ? bits : bits >> 4 | static_cast<std::uint32_t>(from[4]) << 28;
  }
  for (std::int64_t g = 0; g < count; ++g) {
    const std::int64_t at = first % 2 + g;
    bits |= static_cast<std::uint32_t>(from[at / 2] >> (at % 2 * 4) & 0xF) << (4 * g);
  }
  return bits;
}

// Byte s of `stored` has the positions of step s's four kept values; byte b of the result has those of a lane's value
// b in all four steps. A transposition of 4 x 4 fields of two bits (Warren, Hacker's Delight, 7-3).
std::uint32_t lane_positions(std::uint32_t stored) {
  const std::uint32_t inner = (stored >> 6 ^ stored) & 0x00CC00CCU;
  stored ^= inner ^ inner << 6;
  const std::uint32_t outer = (stored >> 12 ^ stored) & 0x0000F0F0U;
  return stored ^ outer ^ outer << 12;
}

void pack_two_four(const Panel& panel, const CanonicalWeights& weights) {
  constexpr std::int64_t kPiece = 64;  // groups
  const std::int64_t groups = ceil_div(panel.layout.c, 4);
  const std::int64_t row_groups = groups * panel.layout.taps;
  const std::int64_t step = 64 * panel.vectors;
  for (std::int64_t tap = 0; tap < panel.layout.taps; ++tap) {
    for (std::int64_t begin = 0; begin < groups; begin += kPiece) {
      const std::int64_t end = begin + kPiece < groups ? begin + kPiece : groups;
      for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
        const std::int8_t* kept = weights.values + 2 * (row * row_groups + tap * groups);
        const std::uint8_t* nibbles = weights.indices + row * ((row_groups + 1) / 2);
        add_sums(panel, tap, vector, lane, kept + 2 * begin, 2 * (end - begin));
        for (std::int64_t g = begin; g < end; g += 8) {
          std::int8_t* block = panel.values(tap) + g / 8 * 5 * step + 64 * vector + 4 * lane;
          const std::int64_t count = end - g < 8 ? end - g : 8;
          const std::uint32_t positions = lane_positions(stored_positions(nibbles, tap * groups + g, count));
          std::memcpy(block, &positions, 4);
          spread_dwords(kept + 2 * g, 2 * count, block + step, step);
        }
      });
    }
  }
}

void pack_vnm(const Panel& panel, const CanonicalWeights& weights) {
  constexpr std::int64_t kPiece = 256;
  const PanelLayout& layout = panel.layout;
  const format::VnmPattern& pattern = weights.vnm;
  const std::int64_t row_kept = ceil_div(layout.c, pattern.m) * pattern.n;  // of one tap, as stored
  const std::int64_t tap_kept = layout.vnm.kept(layout.c);                  // of one tap, as packed
  const std::int64_t step = 64 * panel.vectors;
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
    for (std::int64_t begin = 0; begin < row_kept; begin += kPiece) {
      const std::int64_t count = row_kept - begin < kPiece ? row_kept - begin : kPiece;
      for_columns(panel, [&](std::int64_t row, std::int64_t vector, std::int64_t lane) {
        const std::int8_t* kept = weights.values + (row * layout.taps + tap) * row_kept + begin;
        add_sums(panel, tap, vector, lane, kept, count);
        spread_dwords(kept, count, panel.values(tap) + begin / 4 * step + 64 * vector + 4 * lane, step);
      });
    }
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
  layout.line_taps = weights.line_taps();
  layout.elems = weights.tap_elems();
  layout.taps = layout.line_taps ? weights.segments / weights.line_segments : weights.segments;
  layout.c = layout.line_taps ? round_up(layout.elems, 4) : layout.elems;
  // Groups of a line follow each other where none is filled up with zeros.
  const auto has_groups = [&](std::int64_t m) { return !layout.line_taps || weights.segment_elems % m == 0; };
  if (format == WeightFormat::kVnm && has_vnm_kernel(weights.vnm) && has_groups(weights.vnm.m)) {
    layout.format = format;
    layout.vnm = vnm_shape(weights.vnm.n, weights.vnm.m, layout.c);
    layout.permuted = kind == PanelKind::kPermuted;
    layout.own_indices = layout.permuted && weights.vnm.v < kPanelColumns;
    if (weights.vnm.v < kPanelColumns && !layout.own_indices) layout.columns = weights.vnm.v;
  } else if (format == WeightFormat::kTwoFour && has_groups(4)) {
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
  PARE_CHECK(of.format == kFormat);
  std::memset(packed, 0, kPackedHeaderBytes);
  const PanelLayout& layout = *new (packed) PanelLayout(of);
  std::uint8_t* begin = static_cast<std::uint8_t*>(packed) + kPackedHeaderBytes;
  for (std::int64_t first = 0; first < weights.n; first += layout.columns) {
    const std::int64_t left = weights.n - first;
    const std::int64_t columns = left < layout.columns ? left : layout.columns;
    const Panel panel{layout, first, columns, ceil_div(columns, kLanes), begin};
    const std::int64_t panel_bytes = layout.panel_bytes(panel.vectors);
    std::memset(begin, 0, static_cast<std::size_t>(panel_bytes));
    if constexpr (kFormat == WeightFormat::kDense) {
      pack_dense(panel, weights.values, weights.k());
    } else if constexpr (kFormat == WeightFormat::kTwoFour) {
      pack_two_four(panel, weights);
    } else {
      pack_vnm(panel, weights);
    }
    begin += panel_bytes;
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
