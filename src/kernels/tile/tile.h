// Register tiles: what the matrix products and the convolutions of one instruction set have in common.
//
// A tile is up to kTileRows rows of C (of a convolution: output pixels) by one panel of up to 64 columns. Both are the
// same product; a convolution only finds the activations of a row in several places, one a tap:
//
//   acc[r][j] = start[j] + sum over taps t, i < c of rows[t * kTileRows + r][i] * w[j][t * c + i]      u8 x s8, exact
//   out[r][j] = epilogue(acc[r][j])                                                                    epilogue.h
//
// start[j] = bias[j] - zero point * sum of w[j]: the zero point costs nothing inside the loop. A tap in the padding
// reads a row that is full of zero points.
//
// Panels, as pack_panels() lays them out. A panel has 1 to 4 vectors of 16 lanes; only the last has fewer than 4.
//   sums    int32 [taps][16 * vectors]     sum of the weights of a tap, lane by lane; with negative_sums the same of
//           the magnitudes of those below 0 (tile_avx2.h)
//   then, tap by tap:
//   dense   [ceil(c / 4)][vectors][16][4]                                 a lane's dword: 4 consecutive k
//   2:4     [ceil(c / 32)] { [vectors][64] indices, [4][vectors][64] values }   320 bytes a vector and 32 k
//           value byte 4 * lane + b of step s belongs to k = 8 s + 4 (b / 2) + position; the position is bits 2 s and
//           2 s + 1 of index byte 4 * lane + b
//   V:N:M   [ceil(kept / 4)][vectors][16][4], after the uint8 indices of all taps: which byte of its source vector a
//           kept k is (VnmShape). V = 16 and 32 have two forms: panels of V columns; or, for tiles that permute
//           activations where they use them (PanelKind::kPermuted), panels of 64 columns with indices
//           [taps][kept / 4][4][4], of which the q-th four of a step are those of columns 16 q to 16 q + 15
// Lanes: in a panel of 4 vectors lane l of vector j is column 16 (l / 4) + 4 j + l % 4, because packing 32-bit lanes to
// bytes within 128-bit blocks then leaves the columns in order; otherwise 16 j + l.
//
// The 320-byte layout and the V:N:M gather were found by measurement; docs/performance.md has the figures.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/epilogue.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

inline constexpr std::int64_t kTileRows = 6;
inline constexpr std::int64_t kPanelColumns = 64;
inline constexpr std::int64_t kLanes = 16;
inline constexpr std::int64_t kIndexSets = kPanelColumns / kLanes;  // where every 16 columns have indices of their own

[[nodiscard]] inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
[[nodiscard]] inline constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// How the kept weights of a V:N:M mask are gathered: `keep` bytes out of every `source` consecutive activations.
struct VnmShape {
  std::int64_t source = 64;
  std::int64_t keep = 16;

  [[nodiscard]] constexpr std::int64_t kept(std::int64_t c) const { return ceil_div(c, source) * keep; }
};
// 2:4 takes 16 of 32 bytes; 1:4 and 2:8 take 16 of 64, 1:8 takes 8 of 64. Where a tap's last 64 bytes are half empty,
// as with 32 input channels, they take 8 and 4 of 32.
[[nodiscard]] inline constexpr VnmShape vnm_shape(std::int64_t n, std::int64_t m, std::int64_t c) {
  const std::int64_t source = 2 * n == m || (c % 64 > 0 && c % 64 <= 32) ? 32 : 64;
  return {source, source * n / m};
}

// The shapes there are; a table of kernels by shape has one entry for each, in this order.
inline constexpr VnmShape kVnmShapes[] = {{32, 16}, {64, 16}, {64, 8}, {32, 8}, {32, 4}};
[[nodiscard]] inline constexpr std::int64_t vnm_index(const VnmShape& shape) {
  if (shape.source == 64) return shape.keep == 16 ? 1 : 2;
  return shape.keep == 16 ? 0 : (shape.keep == 8 ? 3 : 4);
}

// Where the parts of a panel lie.
struct PanelLayout {
  WeightFormat format = WeightFormat::kDense;
  bool line_taps = false;  // a tap is a whole line of a convolution's kernel
  bool negative_sums = false;
  bool permuted = false;     // V:N:M: of PanelKind::kPermuted
  bool own_indices = false;  // and every 16 columns of a panel have indices of their own
  VnmShape vnm;
  std::int64_t columns = kPanelColumns;  // of a panel, but of the last
  std::int64_t taps = 1;
  std::int64_t c = 0;      // activations that a tap reads
  std::int64_t elems = 0;  // weights of a tap; at most c, and 0 takes the place of those that lack

  [[nodiscard]] constexpr std::int64_t tap_bytes(std::int64_t vectors) const {
    switch (format) {
      case WeightFormat::kTwoFour:
        return ceil_div(c, 32) * 320 * vectors;
      case WeightFormat::kVnm:
        return vnm.kept(c) / 4 * 64 * vectors;
      case WeightFormat::kDense:
      case WeightFormat::kBlock:  // never in panels
        break;
    }
    return ceil_div(c, 4) * 64 * vectors;
  }
  [[nodiscard]] constexpr std::int64_t sums_bytes(std::int64_t vectors) const {
    return taps * 64 * vectors * (negative_sums ? 2 : 1);
  }
  [[nodiscard]] constexpr std::int64_t tap_index_bytes() const { return vnm.kept(c) * (own_indices ? kIndexSets : 1); }
  [[nodiscard]] constexpr std::int64_t indices_bytes() const {
    return format == WeightFormat::kVnm ? round_up(taps * tap_index_bytes(), 64) : 0;
  }
  [[nodiscard]] constexpr std::int64_t values_offset(std::int64_t vectors) const {
    return sums_bytes(vectors) + indices_bytes();
  }
  [[nodiscard]] constexpr std::int64_t panel_bytes(std::int64_t vectors) const {
    return values_offset(vectors) + taps * tap_bytes(vectors);
  }
  [[nodiscard]] constexpr std::int64_t bytes(std::int64_t n) const {
    const std::int64_t last = n % columns;
    return n / columns * panel_bytes(columns / kLanes) + (last == 0 ? 0 : panel_bytes(ceil_div(last, kLanes)));
  }
};

// Column of lane `lane` of vector `vector` within its panel.
[[nodiscard]] inline constexpr std::int64_t panel_column(std::int64_t vectors, std::int64_t vector, std::int64_t lane) {
  return vectors == 4 ? 16 * (lane / 4) + 4 * vector + lane % 4 : 16 * vector + lane;
}

// Packed weights: a PanelLayout in the first 64 bytes, then the panels.
inline constexpr std::int64_t kPackedHeaderBytes = 64;

// What tiles want of their panels, beside what the weights say.
enum class PanelKind : std::uint8_t {
  kPlain,
  kSigned,    // negative_sums
  kPermuted,  // V:N:M whose tiles gather nothing; V = 16 and 32: own_indices instead of panels of V columns
};

// The layout in which tiles run these weights. It is dense for stored zeros that no tile makes use of: V:N:M with V
// other than 16, 32 and multiples of 64, or n:m other than 1:2, 2:4, 1:4, 2:8, 1:8; and lines of a convolution's kernel
// that are one tap where channels are no whole number of groups. Such weights are packed from their dense codes.
[[nodiscard]] PanelLayout panel_layout(const CanonicalWeights& weights, WeightFormat format, PanelKind kind);
// The kernels' packings. Precondition of the sparse ones: panels_use_zeros.
template <WeightFormat kFormat>
[[nodiscard]] bool panels_use_zeros(const CanonicalWeights& weights) {
  return kFormat != WeightFormat::kDense && panel_layout(weights, kFormat, PanelKind::kPlain).format == kFormat;
}
template <WeightFormat kFormat>
[[nodiscard]] std::size_t packed_panels_bytes(const CanonicalWeights& weights);
template <WeightFormat kFormat>
void pack_panels(const CanonicalWeights& weights, void* packed);
template <WeightFormat kFormat>
[[nodiscard]] std::size_t packed_signed_panels_bytes(const CanonicalWeights& weights);
template <WeightFormat kFormat>
void pack_signed_panels(const CanonicalWeights& weights, void* packed);
[[nodiscard]] std::size_t packed_permuted_panels_bytes(const CanonicalWeights& weights);
void pack_permuted_panels(const CanonicalWeights& weights, void* packed);

[[nodiscard]] inline const PanelLayout& layout_of(const void* packed) {
  return *static_cast<const PanelLayout*>(packed);
}

// What a tile kernel needs of its panel's epilogue, in lane order.
struct PanelEpilogue {
  alignas(64) std::int32_t start[kPanelColumns];
  alignas(64) float multiplier[kPanelColumns];
  alignas(64) float real_bias[kPanelColumns];  // where rows are scaled
  float hi;                                    // qmax - zero_point
  std::int32_t zero_point;
  std::int32_t qmin;
  std::int32_t qmax;
  bool exceeds_int32;  // an accumulator times its multiplier might; set by the AVX-512 tiles' prepare()
  bool to_f32;
  bool relu;               // to_f32 only
  bool streams;            // to_f32 only, and a wish: past the caches
  const float* row_scale;  // of the tile's first row; or null
  std::int64_t columns;
};

// Which taps of a panel a tile has: all of [begin, end), or with line_taps > 0 the first line_taps of every line_step
// from begin on; then end is one past the last of them.
struct TapRange {
  std::int64_t begin = 0;
  std::int64_t end = 1;
  std::int64_t line_taps = 0;
  std::int64_t line_step = 0;

  [[nodiscard]] constexpr std::int64_t count() const {
    return line_taps == 0 ? end - begin : ((end - begin - line_taps) / line_step + 1) * line_taps;
  }
  // The tap after `tap`; end or more after the last.
  [[nodiscard]] constexpr std::int64_t next(std::int64_t tap) const {
    return line_taps > 0 && (tap - begin) % line_step == line_taps - 1 ? tap + line_step - line_taps + 1 : tap + 1;
  }
  friend bool operator==(const TapRange&, const TapRange&) = default;
};

struct TileArgs {
  const std::uint8_t* const* rows = nullptr;  // [taps][kTileRows]; rows past the tile's repeat a valid one
  std::int64_t taps = 1;
  std::int64_t c = 0;
  const std::uint8_t* values = nullptr;
  // Behind every line_taps taps some are left out: their bytes in values, control and indices. Without any, line_taps
  // is taps. Only kernels of a set that skips_taps read this.
  std::int64_t line_taps = 1;
  std::int64_t skip_values = 0;
  std::int64_t skip_control = 0;
  std::int64_t skip_indices = 0;
  const PanelEpilogue* epilogue = nullptr;
  void* const* out = nullptr;              // kTileRows pointers to the panel's first column of a row of C
  const std::uint8_t* prefetch = nullptr;  // touched line by line while the tile runs; never read
  std::int64_t prefetch_step = 0;          // 64, or 0 to stay
  std::uint8_t* control = nullptr;         // 2:4: [taps][ceil(c / 32)][4][vectors][64] shuffle controls, or null
  // V:N:M without gathering: the indices of the tile's taps.
  const std::uint8_t* indices = nullptr;
  VnmShape vnm;
  // V:N:M: activations as gathered, kTileRows rows of gathered_stride bytes, and where the next tile's go meanwhile.
  const std::uint8_t* gathered = nullptr;
  std::int64_t gathered_stride = 0;
  const std::uint8_t* const* next_rows = nullptr;
  std::int64_t next_row_count = 0;  // how many of them differ: a kernel may gather no more
  const std::uint8_t* next_indices = nullptr;
  std::uint8_t* next_gathered = nullptr;
};

using TileKernel = void (*)(const TileArgs& args);

// What a 2:4 tile does with TileArgs::control: nothing, fill it for the tiles that follow, or read it.
enum class TileControl : std::uint8_t { kNone, kKeep, kKept };

// Columns [first, first + columns) of an epilogue for the tiles of one panel that have these taps.
struct PanelEpilogueSource {
  const Epilogue* epilogue = nullptr;
  std::int64_t first = 0;
  std::int64_t columns = 0;
  const std::int32_t* sums = nullptr;           // the panel's
  const std::int32_t* negative_sums = nullptr;  // if it has them
  TapRange taps;
  std::int32_t zero_point = 0;  // of the activations
};

// The tile kernels of one instruction set: `rows` in [1, kTileRows], `vectors` in [1, 4].
struct TileSet {
  TileKernel (*dense)(std::int64_t rows, std::int64_t vectors);
  TileKernel (*two_four)(std::int64_t rows, std::int64_t vectors, TileControl control);
  TileKernel (*vnm)(std::int64_t rows, std::int64_t vectors, VnmShape shape);
  // Gathers what next_rows point to into next_gathered.
  void (*gather_vnm)(const TileArgs& args, VnmShape shape);
  void (*prepare)(const PanelEpilogueSource& source, PanelEpilogue& epilogue);
  // Instead of vnm and gather_vnm, which are null then: tiles that need no gathering, and panels of kind kPermuted.
  TileKernel (*vnm_permuted)(std::int64_t rows, std::int64_t vectors, VnmShape shape, bool own_indices) = nullptr;
  // What makes results that were written past the caches visible to other threads; null if none are written so.
  void (*finish_streams)() = nullptr;
  bool skips_taps = false;  // dense, two_four and vnm_permuted know TileArgs::line_taps
};

}  // namespace pare::kernels
