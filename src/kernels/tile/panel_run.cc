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
  panel.columns = run.n - n < layout.columns ? run.n - n : layout.columns;
  panel.vectors = ceil_div(panel.columns, kLanes);
  panel.begin = static_cast<const std::uint8_t*>(run.packed) + kPackedHeaderBytes +
                n / layout.columns * layout.panel_bytes(layout.columns / kLanes);
  return panel;
}

// Fewer tiles do not repay the writing of their controls, which take more room than the weights.
constexpr std::int64_t kLeastTilesToKeep = 4;

bool is_whole(const PanelLayout& layout, const PanelTile& tile) { return tile.taps == TapRange{0, layout.taps}; }

// Only a tile with all taps decodes all the controls that the others then read; 0 if there is none.
std::int64_t first_whole(const PanelLayout& layout, const PanelTile* tiles, std::int64_t count) {
  for (std::int64_t t = 0; t < count; ++t) {
    if (is_whole(layout, tiles[t])) return t;
  }
  return 0;
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

// The activations that V:N:M tiles read: two buffers, one for the tile that runs, one that it fills for the next.
class Gather {
 public:
  Gather(const PanelRun& run, const PanelLayout& layout, void* scratch)
      : tiles_(*run.tiles),
        layout_(layout),
        stride_(gathered_stride(layout)),
        now_(static_cast<std::uint8_t*>(scratch)),
        next_(now_ + gathered_bytes(layout)) {}

  void first(const Panel& panel, const PanelTile& tile) {
    TileArgs args;
    args.c = layout_.c;
    apart(args, panel, tile, now_);
  }

  // `args` but for what concerns the gathering.
  void run(TileArgs& args, const PanelTile& tile, const Panel& panel, const PanelTile& next, const Panel& next_panel) {
    // A tile gathers as many taps as it has itself, and one of one or two rows as many rows. Where the next one has
    // others, it is gathered apart, and what the loop gathers is thrown away.
    const bool same = next.taps == tile.taps && (tile.row_count > 2 || next.row_count <= tile.row_count);
    args.gathered = now_;
    args.gathered_stride = stride_;
    args.next_gathered = next_;
    args.next_rows = same ? next.rows : tile.rows;
    args.next_row_count = same ? next.row_count : 1;
    args.next_indices = indices(same ? next_panel : panel, tile.taps.begin);
    tiles_.vnm(tile.row_count, panel.vectors, layout_.vnm)(args);
    if (!same) apart(args, next_panel, next, next_);
    std::uint8_t* const filled = next_;
    next_ = now_;
    now_ = filled;
  }

 private:
  [[nodiscard]] const std::uint8_t* indices(const Panel& panel, std::int64_t tap) const {
    return panel.begin + layout_.sums_bytes(panel.vectors) + tap * layout_.vnm.kept(layout_.c);
  }

  void apart(TileArgs& args, const Panel& panel, const PanelTile& tile, std::uint8_t* to) const {
    args.taps = tile.taps.count();
    args.next_rows = tile.rows;
    args.next_row_count = tile.row_count;
    args.next_indices = indices(panel, tile.taps.begin);
    args.next_gathered = to;
    args.gathered_stride = stride_;
    tiles_.gather_vnm(args, layout_.vnm);
  }

  const TileSet& tiles_;
  const PanelLayout& layout_;
  std::int64_t stride_;
  std::uint8_t* now_;
  std::uint8_t* next_;
};

}  // namespace

std::size_t panel_scratch_bytes(const PanelLayout& layout) {
  switch (layout.format) {
    case WeightFormat::kTwoFour:
      return static_cast<std::size_t>(layout.taps * ceil_div(layout.c, 32) * 256 * 4);
    case WeightFormat::kVnm:
      return static_cast<std::size_t>(layout.permuted ? 0 : 2 * gathered_bytes(layout));
    case WeightFormat::kDense:
    case WeightFormat::kBlock:
      break;
  }
  return 0;
}

void run_panels(const PanelRun& run, const PanelTile* tiles, std::int64_t count, std::int64_t n_begin,
                std::int64_t n_end, void* scratch) {
  if (count == 0 || n_begin >= n_end) return;
  const PanelLayout& layout = layout_of(run.packed);
  const std::int64_t tap_control_bytes = ceil_div(layout.c, 32) * 256;
  std::uint8_t* control = static_cast<std::uint8_t*>(scratch);
  Gather gather(run, layout, scratch);
  const bool gathers = layout.format == WeightFormat::kVnm && !layout.permuted;
  if (gathers) gather.first(panel_at(run, n_begin), tiles[0]);
  TileArgs args;
  args.c = layout.c;
  const std::int64_t lead = layout.format == WeightFormat::kTwoFour ? first_whole(layout, tiles, count) : 0;
  PanelEpilogue epilogue;
  for (std::int64_t n = n_begin; n < n_end; n += layout.columns) {
    const Panel panel = panel_at(run, n);
    const Panel next = panel_at(run, n + layout.columns < n_end ? n + layout.columns : n);
    const std::uint8_t* values = panel.begin + layout.values_offset(panel.vectors);
    Prefetch prefetch(next.begin, next.first == n ? 0 : layout.panel_bytes(next.vectors));
    bool control_kept = false;
    TapRange taps{-1, -1};
    for (std::int64_t t = 0; t < count; ++t) {
      // The leading tile first, and those before it after it.
      const PanelTile& tile = tiles[t == 0 ? lead : (t <= lead ? t - 1 : t)];
      if (tile.taps != taps) {
        taps = tile.taps;
        args.line_taps = taps.line_taps == 0 ? taps.count() : taps.line_taps;
        const std::int64_t skipped = taps.line_step - taps.line_taps;
        args.skip_values = skipped * layout.tap_bytes(panel.vectors);
        args.skip_control = skipped * tap_control_bytes * panel.vectors;
        args.skip_indices = skipped * layout.tap_index_bytes();
        const auto* sums = reinterpret_cast<const std::int32_t*>(panel.begin);
        run.tiles->prepare(
            {run.epilogue, n, panel.columns, sums, sums + layout.taps * panel.vectors * kLanes, taps, run.zero_point},
            epilogue);
        epilogue.streams = run.streams;
      }
      epilogue.row_scale = tile.row_scale;
      args.rows = tile.rows;
      args.taps = taps.count();
      args.values = values + taps.begin * layout.tap_bytes(panel.vectors);
      args.epilogue = &epilogue;
      const std::int64_t elem_bytes = run.epilogue->output == Epilogue::Output::kF32 ? 4 : 1;
      void* out[kTileRows];
      for (std::int64_t r = 0; r < kTileRows; ++r) out[r] = tile.out[r] + n * elem_bytes;
      args.out = out;
      prefetch.give(args.taps * (layout.format == WeightFormat::kVnm ? layout.vnm.kept(layout.c) / (gathers ? 8 : 4)
                                                                     : layout.c / 8),
                    args);
      switch (layout.format) {
        case WeightFormat::kBlock:  // never in panels
        case WeightFormat::kDense:
          run.tiles->dense(tile.row_count, panel.vectors)(args);
          break;
        case WeightFormat::kTwoFour: {
          args.control = control + taps.begin * tap_control_bytes * panel.vectors;
          const TileControl use = control_kept                                           ? TileControl::kKept
                                  : is_whole(layout, tile) && count >= kLeastTilesToKeep ? TileControl::kKeep
                                                                                         : TileControl::kNone;
          run.tiles->two_four(tile.row_count, panel.vectors, use)(args);
          control_kept = control_kept || use == TileControl::kKeep;
          break;
        }
        case WeightFormat::kVnm: {
          if (!gathers) {
            args.indices = panel.begin + layout.sums_bytes(panel.vectors) + taps.begin * layout.tap_index_bytes();
            args.vnm = layout.vnm;
            run.tiles->vnm_permuted(tile.row_count, panel.vectors, layout.vnm, layout.own_indices)(args);
            break;
          }
          const bool last = t + 1 == count;
          gather.run(args, tile, panel, tiles[last ? 0 : t + 1], last ? next : panel);
          break;
        }
      }
    }
  }
}

}  // namespace pare::kernels
