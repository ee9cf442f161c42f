// Convolution without im2col: a tile of output pixels reads its activations where they are, tap by tap, through
// pointers (Dukhan, "The Indirect Convolution Algorithm", arXiv 1907.02129); the pointers are made for a block of tiles
// at a time. Taps whose input line lies in the padding are left out of a tile, those whose column does where that pays,
// and others that lie there read a row of zero points. Where taps are too short to be worth that (few input channels),
// a whole line of the kernel is one tap; its activations lie side by side in lines of the input that are copied with
// their padding.
#include <cstring>

#include "pare/kernels/qconv/qconv_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// The 14 x 14 pixels of a common last stage fit into one block, and what a group of lines needs beyond full tiles: one
// for each kind of border.
constexpr std::int64_t kBlockTiles = 44;
constexpr std::int64_t kLineSlackTiles = 3;
constexpr std::int64_t kColumnSlack = 9;

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

// Cuts output pixels into tiles, a group of lines at a time: those of a group that have the same taps follow each
// other, line by line. It runs once for every tile of every image, so it counts along lines instead of dividing.
class Tiler {
 public:
  // Lines [begin, end) of all images.
  Tiler(const TileSet& tiles, const QConvArgs& args, const PanelLayout& layout, const Scratch& scratch,
        std::int64_t begin, std::int64_t end)
      : args_(args),
        s_(args.shape),
        layout_(layout),
        scratch_(scratch),
        out_stride_(s_.out_c * (args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4)),
        leaves_columns_out_(skips_taps(tiles, layout) && many_columns_outside()),
        group_lines_(lines_of_group()),
        end_(end),
        group_begin_(begin),
        group_end_(begin),
        columns_end_(s_.out_w) {}

  // Cuts the next pixels into tiles until the block or the group is full; returns their number, 0 at the end.
  std::int64_t fill() {
    std::int64_t count = 0;
    lines_used_ = 0;
    line_ready_ = false;
    if (class_left_ == 0 && !next_class() && !(next_group() && next_class())) return 0;
    do {
      // Tiles of nearly equal height among pixels with the same taps.
      const std::int64_t height = ceil_div(class_left_, ceil_div(class_left_, kTileRows));
      if (layout_.line_taps && lines_used_ + height > kBlockLines) break;
      class_left_ -= height;
      make_tile(height, count);
      ++count;
    } while (count < kBlockTiles && (class_left_ > 0 || next_class()));
    return count;
  }

  [[nodiscard]] const PanelTile* tiles() const { return tiles_; }

 private:
  // Lines or columns of the kernel that lie in the image; none if begin = end.
  struct Inside {
    std::int64_t begin, end;
    friend bool operator==(const Inside&, const Inside&) = default;
  };

  static Inside inside(std::int64_t first, std::int64_t kernel, std::int64_t dilation, std::int64_t extent) {
    Inside lines{0, kernel};
    while (lines.begin < lines.end && first + lines.begin * dilation < 0) ++lines.begin;
    while (lines.end > lines.begin && first + (lines.end - 1) * dilation >= extent) --lines.end;
    return lines;
  }
  [[nodiscard]] Inside kernel_lines(std::int64_t y) const {
    return inside(y * s_.stride_h - s_.pad_top, s_.kernel_h, s_.dilation_h, s_.in_h);
  }
  [[nodiscard]] Inside kernel_columns(std::int64_t x) const {
    return inside(x * s_.stride_w - s_.pad_left, s_.kernel_w, s_.dilation_w, s_.in_w);
  }
  // One past the last column with the kernel columns of x.
  [[nodiscard]] std::int64_t columns_like(std::int64_t x) const {
    const Inside columns = kernel_columns(x);
    while (++x < s_.out_w && kernel_columns(x) == columns) {
    }
    return x;
  }

  // The fewest taps in a hundred that are worth tiles of their own.
  static constexpr std::int64_t kLeastPercent = 3;

  [[nodiscard]] bool many_columns_outside() const {
    if (layout_.line_taps) return false;
    std::int64_t outside = 0;
    for (std::int64_t x = 0; x < s_.out_w; ++x) {
      const Inside columns = kernel_columns(x);
      outside += s_.kernel_w - (columns.end - columns.begin);
    }
    return outside * 100 >= s_.out_w * s_.kernel_w * kLeastPercent;
  }

  // What pixels cost, in taps of a row. Tiles of fewer than four rows take the time of four: their weights come from
  // the second-level cache. One tap more is for the tile's epilogue.
  static std::int64_t work(std::int64_t pixels, std::int64_t taps) {
    const std::int64_t tiles = ceil_div(pixels, kTileRows);
    return (pixels > 4 * tiles ? pixels : 4 * tiles) * taps + tiles;
  }

  // Whether pixels of the same lines whose windows reach beyond the image to the left or right are worth tiles of their
  // own; these taps are left out of them then.
  [[nodiscard]] bool pays_to_split_columns() const {
    const std::int64_t lines = lines_.end - lines_.begin;
    std::int64_t split = 0;
    for (std::int64_t x = 0; x < s_.out_w;) {
      const Inside columns = kernel_columns(x);
      const std::int64_t end = columns_like(x);
      split += work(class_lines_ * (end - x), lines * (columns.end - columns.begin));
      x = end;
    }
    return split * 100 <= work(class_lines_ * s_.out_w, lines * s_.kernel_w) * (100 - kLeastPercent);
  }

  // As many as fill a block: whole images or equal parts of one.
  [[nodiscard]] std::int64_t lines_of_group() const {
    const std::int64_t tiles = kBlockTiles - (leaves_columns_out_ ? kColumnSlack : kLineSlackTiles);
    const std::int64_t most = tiles * kTileRows / s_.out_w;
    if (most >= s_.out_h) return most - most % s_.out_h;
    return most < 1 ? 1 : ceil_div(s_.out_h, ceil_div(s_.out_h, most));
  }

  // Taps of pixels with these lines and columns; those without any take them all, from the row of zero points.
  [[nodiscard]] TapRange taps_of(const Inside& lines, const Inside& columns) const {
    if (lines.begin == lines.end || columns.begin == columns.end) return {0, layout_.taps};
    if (layout_.line_taps) return {lines.begin, lines.end};
    TapRange taps{lines.begin * s_.kernel_w + columns.begin, (lines.end - 1) * s_.kernel_w + columns.end};
    if (columns.end - columns.begin < s_.kernel_w) {
      taps.line_taps = columns.end - columns.begin;
      taps.line_step = s_.kernel_w;
    }
    return taps;
  }

  bool next_group() {
    if (group_end_ == end_) return false;
    group_begin_ = group_end_;
    group_end_ = at_most(group_begin_ + group_lines_, end_);
    // Lines of an image that the group has.
    const std::int64_t y = group_begin_ % s_.out_h;
    const bool one_image = y + group_end_ - group_begin_ <= s_.out_h;
    lines_end_ = one_image ? y : 0;
    group_lines_end_ = one_image ? y + group_end_ - group_begin_ : s_.out_h;
    return true;
  }

  // The group's next pixels that have the same taps.
  bool next_class() {
    if (columns_end_ < s_.out_w) {
      columns_begin_ = columns_end_;
      first_line();
    } else {
      columns_begin_ = 0;
      do {
        if (lines_end_ == group_lines_end_) return false;
        lines_begin_ = lines_end_++;
        lines_ = kernel_lines(lines_begin_);
        while (lines_end_ < group_lines_end_ && kernel_lines(lines_end_) == lines_) ++lines_end_;
      } while (!first_line());
      splits_columns_ = leaves_columns_out_ && pays_to_split_columns();
    }
    columns_end_ = splits_columns_ ? columns_like(columns_begin_) : s_.out_w;
    taps_ = taps_of(lines_, splits_columns_ ? kernel_columns(columns_begin_) : Inside{0, s_.kernel_w});
    x_ = columns_begin_;
    class_left_ = class_lines_ * (columns_end_ - columns_begin_);
    line_ready_ = false;
    return class_left_ > 0;
  }

  // The group's first line of the class, and how many there are; false if there is none.
  bool first_line() {
    class_lines_ = 0;
    std::int64_t image = group_begin_ / s_.out_h;
    std::int64_t y = group_begin_ % s_.out_h;
    for (std::int64_t line = group_begin_; line < group_end_; ++line) {
      if (y >= lines_begin_ && y < lines_end_ && class_lines_++ == 0) {
        image_ = image;
        y_ = y;
      }
      if (++y < s_.out_h) continue;
      y = 0;
      ++image;
    }
    return class_lines_ > 0;
  }

  void begin_line() {
    line_ready_ = true;
    line_out_ = static_cast<std::uint8_t*>(args_.y) + (image_ * s_.out_h + y_) * s_.out_w * out_stride_;
    if (layout_.line_taps) {
      line_first_ = copy_lines();
      return;
    }
    line_is_padding_ = lines_.begin == lines_.end;
    const std::int64_t top = y_ * s_.stride_h - s_.pad_top;
    line_first_ = args_.x + ((image_ * s_.in_h + top) * s_.in_w - s_.pad_left) * s_.in_c;
  }

  void advance() {
    if (++x_ < columns_end_) return;
    x_ = columns_begin_;
    line_ready_ = false;
    if (++y_ < lines_end_) return;
    y_ = lines_begin_;
    ++image_;
  }

  // The next `height` pixels.
  void make_tile(std::int64_t height, std::int64_t index) {
    const std::uint8_t** rows = scratch_.rows + index * layout_.taps * kTileRows;
    std::uint8_t** out = out_ + index * kTileRows;
    tiles_[index] = {rows, out, height, taps_};
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
      out[r] = line_out_ + x_ * out_stride_;
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
    const std::int64_t kx_begin = taps_.begin % s.kernel_w;
    const std::int64_t kx_end = (taps_.end - 1) % s.kernel_w + 1;
    for (std::int64_t ky = taps_.begin / s.kernel_w; ky * s.kernel_w < taps_.end; ++ky) {
      for (std::int64_t kx = kx_begin; kx < kx_end; ++kx, rows += kTileRows) {
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
  bool leaves_columns_out_;
  std::int64_t group_lines_;
  std::int64_t end_;
  std::int64_t group_begin_, group_end_;
  std::int64_t group_lines_end_ = 0;
  bool splits_columns_ = false;
  // The pixels with the same taps: these lines and columns of every image, as far as they are the group's.
  std::int64_t lines_begin_ = 0, lines_end_ = 0, columns_begin_ = 0, columns_end_;
  std::int64_t class_lines_ = 0;
  std::int64_t class_left_ = 0;  // of them, not in tiles yet
  Inside lines_{0, 0};
  TapRange taps_{0, 0};
  // The next pixel.
  std::int64_t image_ = 0, y_ = 0, x_ = 0;
  bool line_ready_ = false;  // the following belongs to its line
  bool line_is_padding_ = false;
  std::uint8_t* line_out_ = nullptr;
  const std::uint8_t* line_first_ = nullptr;  // what the first tap of column 0 reads
  std::int64_t lines_used_ = 0;               // of kBlockLines
  PanelTile tiles_[kBlockTiles];
  std::uint8_t* out_[kBlockTiles * kTileRows];
};

void run(const TileSet& tiles, const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* memory) {
  const QConvShape& s = args.shape;
  if (row_begin >= row_end) return;
  const PanelLayout& layout = layout_of(args.packed);
  const Scratch scratch(s, layout, memory);
  std::memset(scratch.zero_row, args.x_zero_point, static_cast<std::size_t>(layout.c));
  Tiler tiler(tiles, args, layout, scratch, row_begin, row_end);
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
