#include "pare/kernels/tile/panel_run.h"

namespace pare::kernels {

namespace {

// Rows of gathered activations lie this much further apart than they are long, so that no two compete for one place in
// the cache.
constexpr std::int64_t kGatherSlack = 64;

std::int64_t gathered_stride(const PanelLayout& layout) {
  return round_up(layout.taps * layout.vnm.kept(layout.c), 64) + kGatherSlack;
}

std::int64_t gathered_bytes(const PanelLayout& layout) { return kTileRows * gathered_stride(layout); }

// The panel that begins at column n.
struct Panel {
  std::int64_t first = 0;
  std::int64_t columns = 0;
  std::int64_t vectors = 0;
  const std::uint8_t* begin = nullptr;
};

Panel panel_at(const PanelRun& run, std::int64_t n) {
  const PanelLayout& layout = layout_of(run.packed);
  Panel panel;
  panel.first = n;
  panel.columns = run.n - n < kPanelColumns ? run.n - n : kPanelColumns;
  panel.vectors = ceil_div(panel.columns, kLanes);
  panel.begin = static_cast<const std::uint8_t*>(run.packed) + kPackedHeaderBytes +
                n / kPanelColumns * layout.panel_bytes(4);
  return panel;
}

const std::uint8_t* indices_of(const PanelLayout& layout, const Panel& panel) {
  return panel.begin + layout.sums_bytes(panel.vectors);
}

// Hands out the lines of the next panel, so that it is in the cache when its turn comes.
class Prefetch {
 public:
  Prefetch(const std::uint8_t* begin, std::int64_t bytes) : next_(begin), end_(begin + bytes) {}
  void give(std::int64_t lines, TileArgs& args) {
    args.prefetch = next_;
    args.prefetch_step = end_ - next_ >= lines * 64 ? 64 : 0;
    next_ += args.prefetch_step * lines;
  }

 private:
  const std::uint8_t* next_;
  const std::uint8_t* end_;
};

}  // namespace

std::size_t panel_scratch_bytes(const PanelLayout& layout) {
  switch (layout.format) {
    case WeightFormat::kTwoFour:
      return static_cast<std::size_t>(layout.taps * ceil_div(layout.c, 32) * 256 * 4);
    case WeightFormat::kVnm:
      return static_cast<std::size_t>(2 * gathered_bytes(layout));
    case WeightFormat::kDense:
      break;
  }
  return 0;
}

void run_panels(const PanelRun& run, const PanelTile* tiles, std::int64_t count, std::int64_t n_begin,
                std::int64_t n_end, void* scratch) {
  const PanelLayout& layout = layout_of(run.packed);
  const std::int64_t tap_control_bytes = ceil_div(layout.c, 32) * 256;
  std::uint8_t* control = static_cast<std::uint8_t*>(scratch);
  std::uint8_t* gathered = static_cast<std::uint8_t*>(scratch);
  std::uint8_t* next_gathered = gathered + gathered_bytes(layout);
  TileArgs args;
  args.c = layout.c;
  args.gathered_stride = gathered_stride(layout);
  if (count == 0 || n_begin >= n_end) return;
  if (layout.format == WeightFormat::kVnm) {
    args.taps = layout.taps;
    args.next_rows = tiles[0].rows;
    args.next_indices = indices_of(layout, panel_at(run, n_begin));
    args.next_gathered = gathered;
    run.tiles->gather_vnm(args, layout.vnm);
  }
  PanelEpilogue epilogue;
  for (std::int64_t n = n_begin; n < n_end; n += kPanelColumns) {
    const Panel panel = panel_at(run, n);
    const Panel next = panel_at(run, n + kPanelColumns < n_end ? n + kPanelColumns : n);
    const std::uint8_t* values = panel.begin + layout.values_offset(panel.vectors);
    Prefetch prefetch(next.begin, next.first == n ? 0 : layout.panel_bytes(next.vectors));
    bool control_kept = false;
    std::int64_t tap_begin = -1;
    std::int64_t tap_end = -1;
    for (std::int64_t t = 0; t < count; ++t) {
      const PanelTile& tile = tiles[t];
      if (tile.tap_begin != tap_begin || tile.tap_end != tap_end) {
        tap_begin = tile.tap_begin;
        tap_end = tile.tap_end;
        run.tiles->prepare({run.epilogue, n, panel.columns, reinterpret_cast<const std::int32_t*>(panel.begin),
                            tap_begin, tap_end, run.zero_point},
                           epilogue);
      }
      args.rows = tile.rows;
      args.taps = tap_end - tap_begin;
      args.values = values + tap_begin * layout.tap_bytes(panel.vectors);
      args.epilogue = &epilogue;
      const std::int64_t elem_bytes = epilogue.to_f32 ? 4 : 1;
      void* out[kTileRows];
      for (std::int64_t r = 0; r < kTileRows; ++r) out[r] = tile.out[r] + n * elem_bytes;
      args.out = out;
      prefetch.give(args.taps * (layout.format == WeightFormat::kVnm ? layout.vnm.kept(layout.c) / 8 : layout.c / 8),
                    args);
      switch (layout.format) {
        case WeightFormat::kDense:
          run.tiles->dense(tile.row_count, panel.vectors)(args);
          break;
        case WeightFormat::kTwoFour: {
          args.control = control + tap_begin * tap_control_bytes * panel.vectors;
          const bool whole = tap_begin == 0 && tap_end == layout.taps;
          const TileControl use = control_kept ? TileControl::kKept
                                  : whole && count > 1 ? TileControl::kKeep
                                                       : TileControl::kNone;
          run.tiles->two_four(tile.row_count, panel.vectors, use)(args);
          control_kept = control_kept || use == TileControl::kKeep;
          break;
        }
        case WeightFormat::kVnm: {
          args.gathered = gathered;
          args.next_gathered = next_gathered;
          const bool last = t + 1 == count;
          args.next_rows = tiles[last ? 0 : t + 1].rows;
          args.next_indices = indices_of(layout, last ? next : panel);
          run.tiles->vnm(tile.row_count, panel.vectors, layout.vnm)(args);
          std::uint8_t* const now = gathered;
          gathered = next_gathered;
          next_gathered = now;
          break;
        }
      }
    }
  }
}

}  // namespace pare::kernels
