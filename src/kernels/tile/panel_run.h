// One panel of weights over a list of tiles: what qgemm and qconv have in common above the register tiles.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

// A tile's rows and where its results go. Its activations: these taps of the panel, in taps.count() * kTileRows
// pointers.
struct PanelTile {
  const std::uint8_t* const* rows = nullptr;
  std::uint8_t* const* out = nullptr;  // kTileRows pointers to column 0 of a row of C
  std::int64_t row_count = 0;
  TapRange taps;
  const float* row_scale = nullptr;  // of the first row; null unless the epilogue scales rows
};

struct PanelRun {
  const TileSet* tiles = nullptr;
  const void* packed = nullptr;
  const Epilogue* epilogue = nullptr;
  std::int32_t zero_point = 0;  // of the activations
  std::int64_t n = 0;           // columns of C
  bool streams = false;         // float32 results: past the caches; TileSet::finish_streams comes after the last panel
};

// Whether tiles may leave taps out of the middle of the panel.
[[nodiscard]] inline bool skips_taps(const TileSet& tiles, const PanelLayout& layout) {
  return tiles.skips_taps && (layout.format != WeightFormat::kVnm || layout.permuted);
}

// What run_panels scratches on, besides the tiles.
[[nodiscard]] std::size_t panel_scratch_bytes(const PanelLayout& layout);

// All `count` tiles for columns [n_begin, n_end); n_begin is a multiple of kPanelColumns.
// Precondition of taps with lines: skips_taps.
void run_panels(const PanelRun& run, const PanelTile* tiles, std::int64_t count, std::int64_t n_begin,
                std::int64_t n_end, void* scratch);

}  // namespace pare::kernels
