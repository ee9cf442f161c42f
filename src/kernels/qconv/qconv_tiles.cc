// Convolution without im2col: a tile of output pixels reads its activations where they are, tap by tap, through
// pointers (Dukhan, "The Indirect Convolution Algorithm", arXiv 1907.02129); the pointers are made for a block of tiles
// at a time. Taps whose input line lies in the padding are left out of a tile, and others that lie there read a row of
// zero points. Where taps are too short to be worth that (few input channels), a whole line of the kernel is one tap;
// its activations lie side by side in lines of the input that are copied with their padding.
#include <cstring>

#include "pare/kernels/qconv/qconv_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// 34 tiles: the 14 x 14 pixels of a common last stage fit into one block.
constexpr std::int64_t kBlockTiles = 34;

// Output lines whose input lines are copied for a block.
constexpr std::int64_t kBlockLines = 16;
static_assert(kBlockLines > kTileRows);

// Taps read whole dwords: up to so many bytes past the end of a line.
constexpr std::int64_t kLineSlack = 4;

std::int64_t at_most(std::int64_t value, std::int64_t limit) { return value > limit ? limit : value; }

// Columns of a line with its padding, as far as the convolution reads it.
std::int64_t padded_width(const QConvShape& s) { return (s.out_w - 1) * s.stride_w + s.kernel_w; }

// The scratch of a run, in this order.
struct Scratch {
  std::uint8_t* panels;       // run_panels'
  std::uint8_t* zero_row;     // c zero points
  const std::uint8_t** rows;  // [kBlockTiles][taps][kTileRows]
  std::uint8_t* lines;        // [kBlockLines][kernel_h][line_stride], where taps are lines
  std::int64_t line_stride;
  std::size_t bytes;

  Scratch(const QConvShape& s, const PanelLayout& layout, void* memory) {
    auto* begin = static_cast<std::uint8_t*>(memory);
    std::size_t offset = 0;
    const auto take = [&](std::size_t size) {
      std::uint8_t* place = begin == nullptr ? nullptr : begin + offset;
      offset += (size + 63) / 64 * 64;
      return place;
    };
    line_stride = round_up(padded_width(s) * s.in_c + kLineSlack, 16);
    panels = take(panel_scratch_bytes(layout));
    zero_row = take(static_cast<std::size_t>(layout.c));
    rows = reinterpret_cast<const std::uint8_t**>(
        take(static_cast<std::size_t>(kBlockTiles * kTileRows * layout.taps) * sizeof(void*)));
    lines = take(layout.line_taps ? static_cast<std::size_t>(kBlockLines * s.kernel_h * line_stride) : 0);
    bytes = offset;
  }
};

// Cuts output pixels, in the order of memory, into tiles. It runs once for every tile of every image, so it counts
// along lines instead of dividing.
class Tiler {
 public:
  Tiler(const QConvArgs& args, const PanelLayout& layout, const Scratch& scratch, std::int64_t begin, std::int64_t end)
      : args_(args),
        s_(args.shape),
        layout_(layout),
        scratch_(scratch),
        out_stride_(s_.out_c * (args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4)),
        end_(end),
        pixel_(begin),
        image_(begin / (s_.out_h * s_.out_w)),
        y_(begin / s_.out_w % s_.out_h),
        x_(begin % s_.out_w) {}

  // Cuts the pixels that are left into tiles until the block is full; returns their number, 0 at the end.
  std::int64_t fill() {
    std::int64_t count = 0;
    lines_used_ = 0;
    line_ready_ = false;
    while (pixel_ < end_ && count < kBlockTiles) {
      if (run_left_ == 0) begin_run();
      // Tiles of nearly equal height among pixels with the same taps.
      const std::int64_t height = ceil_div(run_left_, ceil_div(run_left_, kTileRows));
      if (layout_.line_taps && lines_used_ + height > kBlockLines) break;
      make_tile(height, count);
      run_left_ -= height;
      ++count;
    }
    return count;
  }

  [[nodiscard]] const PanelTile* tiles() const { return tiles_; }

 private:
  struct Taps {
    std::int64_t begin, end;
    friend bool operator==(const Taps&, const Taps&) = default;
  };

  // Lines of the kernel that lie in the image; none if begin = end.
  [[nodiscard]] Taps kernel_lines(std::int64_t y) const {
    const std::int64_t top = y * s_.stride_h - s_.pad_top;
    Taps lines{0, s_.kernel_h};
    while (lines.begin < lines.end && top + lines.begin * s_.dilation_h < 0) ++lines.begin;
    while (lines.end > lines.begin && top + (lines.end - 1) * s_.dilation_h >= s_.in_h) --lines.end;
    return lines;
  }

  // Taps of these lines; a pixel that has none takes them all, from the row of zero points.
  [[nodiscard]] Taps taps_of_line(std::int64_t y) const {
    const Taps lines = kernel_lines(y);
    const std::int64_t line_taps = layout_.line_taps ? 1 : s_.kernel_w;
    return lines.begin == lines.end ? Taps{0, layout_.taps} : Taps{lines.begin * line_taps, lines.end * line_taps};
  }

  // A run of lines with the same taps, from the next pixel on.
  void begin_run() {
    taps_ = taps_of_line(y_);
    run_left_ = s_.out_w - x_;
    const std::int64_t most = end_ - pixel_;
    for (std::int64_t y = y_ + 1; run_left_ < most; ++y, run_left_ += s_.out_w) {
      if (y == s_.out_h) y = 0;
      if (taps_of_line(y) != taps_) break;
    }
    run_left_ = at_most(run_left_, most);
  }

  void begin_line() {
    line_ready_ = true;
    if (layout_.line_taps) {
      line_first_ = copy_lines();
      return;
    }
    const Taps lines = kernel_lines(y_);
    line_is_padding_ = lines.begin == lines.end;
    const std::int64_t top = y_ * s_.stride_h - s_.pad_top;
    line_first_ = args_.x + ((image_ * s_.in_h + top) * s_.in_w - s_.pad_left) * s_.in_c;
  }

  void advance() {
    ++pixel_;
    if (++x_ < s_.out_w) return;
    x_ = 0;
    line_ready_ = false;
    if (++y_ < s_.out_h) return;
    y_ = 0;
    ++image_;
  }

  // The next `height` pixels.
  void make_tile(std::int64_t height, std::int64_t index) {
    const std::uint8_t** rows = scratch_.rows + index * layout_.taps * kTileRows;
    std::uint8_t** out = out_ + index * kTileRows;
    tiles_[index] = {rows, out, height, taps_.begin, taps_.end};
    const std::uint8_t* first[kTileRows] = {};  // of each pixel: what its first tap reads
    std::int64_t left[kTileRows] = {};          // and in which column
    const std::int64_t last_left = s_.in_w - (s_.kernel_w - 1) * s_.dilation_w - 1;
    bool at_border = false;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      if (r >= height) {
        first[r] = first[0];
        left[r] = left[0];
        out[r] = out[0];
        continue;
      }
      if (!line_ready_) begin_line();
      first[r] = line_first_ + x_ * s_.stride_w * s_.in_c;
      left[r] = line_is_padding_ ? s_.in_w : x_ * s_.stride_w - s_.pad_left;
      at_border = at_border || left[r] < 0 || left[r] > last_left;
      out[r] = static_cast<std::uint8_t*>(args_.y) + pixel_ * out_stride_;
      advance();
    }
    if (layout_.line_taps) {
      point_at_lines(first, rows);
    } else if (at_border) {
      point_at_taps<true>(first, left, rows);
    } else {
      point_at_taps<false>(first, left, rows);
    }
  }

  void point_at_lines(const std::uint8_t* const* first, const std::uint8_t** rows) const {
    for (std::int64_t tap = taps_.begin; tap < taps_.end; ++tap, rows += kTileRows) {
      const std::int64_t offset = tap * scratch_.line_stride;
      for (std::int64_t r = 0; r < kTileRows; ++r) rows[r] = first[r] + offset;
    }
  }

  template <bool kBorder>
  void point_at_taps(const std::uint8_t* const* first, const std::int64_t* left, const std::uint8_t** rows) const {
    const QConvShape s = s_;
    const std::uint8_t* const zero_row = scratch_.zero_row;
    const auto width = static_cast<std::uint64_t>(s.in_w);
    for (std::int64_t ky = taps_.begin / s.kernel_w; ky < taps_.end / s.kernel_w; ++ky) {
      for (std::int64_t kx = 0; kx < s.kernel_w; ++kx, rows += kTileRows) {
        const std::int64_t dx = kx * s.dilation_w;
        const std::int64_t offset = (ky * s.dilation_h * s.in_w + dx) * s.in_c;
        for (std::int64_t r = 0; r < kTileRows; ++r) {
          // One comparison: columns left of the image are huge when taken as unsigned.
          const bool inside = !kBorder || static_cast<std::uint64_t>(left[r] + dx) < width;
          rows[r] = inside ? first[r] + offset : zero_row;
        }
      }
    }
  }

  // The input lines of the output line, kernel_h of them, copied with their padding into the next place for lines.
  const std::uint8_t* copy_lines() {
    std::uint8_t* const first = scratch_.lines + lines_used_++ * s_.kernel_h * scratch_.line_stride;
    const std::int64_t width = padded_width(s_);
    const std::int64_t begin = at_most(s_.pad_left, width);
    const std::int64_t end = at_most(begin + s_.in_w, width);
    for (std::int64_t ky = 0; ky < s_.kernel_h; ++ky) {
      std::uint8_t* to = first + ky * scratch_.line_stride;
      const std::int64_t iy = y_ * s_.stride_h - s_.pad_top + ky * s_.dilation_h;
      const bool inside = iy >= 0 && iy < s_.in_h;
      fill_columns(to, 0, inside ? begin : width);
      if (!inside) continue;
      std::memcpy(to + begin * s_.in_c, args_.x + (image_ * s_.in_h + iy) * s_.in_w * s_.in_c,
                  static_cast<std::size_t>((end - begin) * s_.in_c));
      fill_columns(to, end, width);
    }
    return first;
  }

  void fill_columns(std::uint8_t* line, std::int64_t begin, std::int64_t end) const {
    std::memset(line + begin * s_.in_c, args_.x_zero_point, static_cast<std::size_t>((end - begin) * s_.in_c));
  }

  const QConvArgs& args_;
  const QConvShape& s_;
  const PanelLayout& layout_;
  const Scratch& scratch_;
  std::int64_t out_stride_;
  std::int64_t end_;
  // The next pixel: its number, and where it lies.
  std::int64_t pixel_, image_, y_, x_;
  bool line_ready_ = false;  // the following belongs to its line
  bool line_is_padding_ = false;
  const std::uint8_t* line_first_ = nullptr;  // what the first tap of column 0 reads
  Taps taps_{0, 0};
  std::int64_t run_left_ = 0;    // pixels from the next on that have these taps
  std::int64_t lines_used_ = 0;  // of kBlockLines
  PanelTile tiles_[kBlockTiles];
  std::uint8_t* out_[kBlockTiles * kTileRows];
};

void run(const TileSet& tiles, const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* memory) {
  const QConvShape& s = args.shape;
  if (row_begin >= row_end) return;
  const PanelLayout& layout = layout_of(args.packed);
  const Scratch scratch(s, layout, memory);
  std::memset(scratch.zero_row, args.x_zero_point, static_cast<std::size_t>(layout.c));
  Tiler tiler(args, layout, scratch, row_begin * s.out_w, row_end * s.out_w);
  const PanelRun panel_run{&tiles, args.packed, &args.epilogue, args.x_zero_point, s.out_c};
  while (const std::int64_t count = tiler.fill()) {
    run_panels(panel_run, tiler.tiles(), count, 0, s.out_c, scratch.panels);
  }
}

}  // namespace

std::size_t qconv_tile_scratch(const QConvArgs& args) {
  return Scratch(args.shape, layout_of(args.packed), nullptr).bytes;
}

#if defined(__x86_64__)
void qconv_run_avx2(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesAvx2, args, row_begin, row_end, scratch);
}

void qconv_run_avx512vnni(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesAvx512Vnni, args, row_begin, row_end, scratch);
}

void qconv_run_avx512vbmi(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesAvx512Vbmi, args, row_begin, row_end, scratch);
}
#elif defined(__aarch64__)
void qconv_run_neon_dotprod(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesNeonDotprod, args, row_begin, row_end, scratch);
}

void qconv_run_neon_i8mm(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesNeonI8mm, args, row_begin, row_end, scratch);
}
#endif

}  // namespace pare::kernels
