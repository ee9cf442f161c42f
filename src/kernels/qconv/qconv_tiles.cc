// Convolution without im2col: a tile of output pixels reads its activations where they are, tap by tap, through
// pointers (Dukhan, "The Indirect Convolution Algorithm", arXiv 1907.02129); the pointers are made for a block of tiles
// at a time. Taps whose input line lies in the padding are left out of a tile, and others that lie there read a row of
// zero points. Where taps are too short to be worth that (few input channels), each pixel's activations are copied
// together.
#include <cstring>

#include "pare/kernels/qconv/qconv_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// 34 tiles: the 14 x 14 pixels of a common last stage fit into one block.
constexpr std::int64_t kBlockTiles = 34;

// Copies are made in words; they may write as much past the end of what they copy.
constexpr std::int64_t kWord = 8;

std::int64_t at_least(std::int64_t value, std::int64_t limit) { return value < limit ? limit : value; }
std::int64_t at_most(std::int64_t value, std::int64_t limit) { return value > limit ? limit : value; }

// A 1 x 1 convolution counts as one tap.
bool copies_taps(const QConvShape& s, const PanelLayout& layout) {
  return layout.taps == 1 && s.kernel_h * s.kernel_w > 1;
}

// The scratch of a run, in this order.
struct Scratch {
  std::uint8_t* panels;       // run_panels'
  std::uint8_t* zero_row;     // c zero points
  const std::uint8_t** rows;  // [kBlockTiles][taps][kTileRows]
  std::uint8_t* copies;       // [kBlockTiles * kTileRows][c rounded up], where taps are copied
  std::int64_t copy_stride;
  std::size_t bytes;

  Scratch(const QConvShape& s, const PanelLayout& layout, void* memory) {
    auto* begin = static_cast<std::uint8_t*>(memory);
    std::size_t offset = 0;
    const auto take = [&](std::size_t size) {
      std::uint8_t* place = begin == nullptr ? nullptr : begin + offset;
      offset += (size + 63) / 64 * 64;
      return place;
    };
    copy_stride = round_up(layout.c + kWord, 16);
    panels = take(panel_scratch_bytes(layout));
    zero_row = take(static_cast<std::size_t>(layout.c));
    rows = reinterpret_cast<const std::uint8_t**>(
        take(static_cast<std::size_t>(kBlockTiles * kTileRows * layout.taps) * sizeof(void*)));
    copies = take(copies_taps(s, layout) ? static_cast<std::size_t>(kBlockTiles * kTileRows * copy_stride) : 0);
    bytes = offset;
  }
};

// An output pixel: its image, and the input pixel of its first tap.
struct Pixel {
  std::int64_t image, top, left;
};

// Walks over output pixels in the order of memory.
class Cursor {
 public:
  Cursor(const QConvShape& s, std::int64_t pixel)
      : s_(s), pixel_(pixel), image_(pixel / (s.out_h * s.out_w)), y_(pixel / s.out_w % s.out_h), x_(pixel % s.out_w) {}

  [[nodiscard]] std::int64_t index() const { return pixel_; }
  [[nodiscard]] std::int64_t line() const { return y_; }
  [[nodiscard]] std::int64_t left_in_line() const { return s_.out_w - x_; }
  [[nodiscard]] Pixel pixel() const { return {image_, y_ * s_.stride_h - s_.pad_top, x_ * s_.stride_w - s_.pad_left}; }
  void advance() {
    ++pixel_;
    if (++x_ < s_.out_w) return;
    x_ = 0;
    if (++y_ < s_.out_h) return;
    y_ = 0;
    ++image_;
  }

 private:
  const QConvShape& s_;
  std::int64_t pixel_, image_, y_, x_;
};

class Tiler {
 public:
  Tiler(const QConvArgs& args, const PanelLayout& layout, const Scratch& scratch, std::int64_t begin, std::int64_t end)
      : args_(args),
        s_(args.shape),
        layout_(layout),
        scratch_(scratch),
        copies_(copies_taps(s_, layout)),
        out_stride_(s_.out_c * (args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4)),
        cursor_(s_, begin),
        end_(end) {}

  // Cuts the pixels that are left into tiles until the block is full; returns their number, 0 at the end.
  std::int64_t fill() {
    std::int64_t count = 0;
    while (cursor_.index() < end_ && count < kBlockTiles) {
      if (run_left_ == 0) begin_run();
      // Tiles of nearly equal height among pixels with the same taps.
      const std::int64_t height = ceil_div(run_left_, ceil_div(run_left_, kTileRows));
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

  // Taps of the lines of the kernel that lie in the image; all of them if none does.
  [[nodiscard]] Taps taps_of_line(std::int64_t y) const {
    const Taps all{0, layout_.taps};
    if (copies_) return all;
    const std::int64_t top = y * s_.stride_h - s_.pad_top;
    std::int64_t first = 0;
    std::int64_t last = s_.kernel_h;
    while (first < last && top + first * s_.dilation_h < 0) ++first;
    while (last > first && top + (last - 1) * s_.dilation_h >= s_.in_h) --last;
    return first == last ? all : Taps{first * s_.kernel_w, last * s_.kernel_w};
  }

  // A run of lines with the same taps, from the cursor on.
  void begin_run() {
    taps_ = taps_of_line(cursor_.line());
    run_left_ = cursor_.left_in_line();
    const std::int64_t most = end_ - cursor_.index();
    for (std::int64_t y = cursor_.line() + 1; run_left_ < most; ++y, run_left_ += s_.out_w) {
      if (y == s_.out_h) y = 0;
      if (taps_of_line(y) != taps_) break;
    }
    run_left_ = at_most(run_left_, most);
  }

  // The next `height` pixels.
  void make_tile(std::int64_t height, std::int64_t index) {
    const std::uint8_t** rows = scratch_.rows + index * layout_.taps * kTileRows;
    std::uint8_t** out = out_ + index * kTileRows;
    Pixel pixels[kTileRows];
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      pixels[r] = r < height ? cursor_.pixel() : pixels[0];
      out[r] = r < height ? static_cast<std::uint8_t*>(args_.y) + cursor_.index() * out_stride_ : out[0];
      if (r < height) cursor_.advance();
    }
    if (copies_) {
      copy_taps(pixels, height, index, rows);
    } else {
      point_at_taps(pixels, rows);
    }
    tiles_[index] = {rows, out, height, taps_.begin, taps_.end};
  }

  void point_at_taps(const Pixel* pixels, const std::uint8_t** rows) const {
    const std::uint8_t* first[kTileRows];
    bool inside = true;
    const std::int64_t lines = s_.kernel_h * s_.dilation_h;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const Pixel& p = pixels[r];
      first[r] = args_.x + ((p.image * s_.in_h + p.top) * s_.in_w + p.left) * s_.in_c;
      inside = inside && p.left >= 0 && p.left + (s_.kernel_w - 1) * s_.dilation_w < s_.in_w && p.top >= 0 &&
               p.top + lines - s_.dilation_h < s_.in_h;
    }
    for (std::int64_t ky = taps_.begin / s_.kernel_w; ky < taps_.end / s_.kernel_w; ++ky) {
      const std::int64_t dy = ky * s_.dilation_h;
      for (std::int64_t kx = 0; kx < s_.kernel_w; ++kx, rows += kTileRows) {
        const std::int64_t dx = kx * s_.dilation_w;
        const std::int64_t offset = (dy * s_.in_w + dx) * s_.in_c;
        for (std::int64_t r = 0; r < kTileRows; ++r) rows[r] = first[r] + offset;
        if (inside) continue;
        for (std::int64_t r = 0; r < kTileRows; ++r) {
          const std::int64_t iy = pixels[r].top + dy;
          const std::int64_t ix = pixels[r].left + dx;
          if (iy < 0 || iy >= s_.in_h || ix < 0 || ix >= s_.in_w) rows[r] = scratch_.zero_row;
        }
      }
    }
  }

  void copy_taps(const Pixel* pixels, std::int64_t height, std::int64_t index, const std::uint8_t** rows) const {
    std::uint8_t* to = scratch_.copies + index * kTileRows * scratch_.copy_stride;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      if (r >= height) {
        rows[r] = rows[0];
        continue;
      }
      rows[r] = to + r * scratch_.copy_stride;
      copy_pixel(pixels[r], to + r * scratch_.copy_stride);
    }
  }

  // What one pixel reads, in the order ky, kx, i.
  void copy_pixel(const Pixel& pixel, std::uint8_t* to) const {
    // NHWC makes the taps of a kernel line one run of memory, unless they are dilated.
    const std::int64_t run_taps = s_.dilation_w == 1 ? s_.kernel_w : 1;
    const std::int64_t run_elems = run_taps * s_.in_c;
    if (run_taps == s_.kernel_w && copy_inside(pixel, run_elems, to)) return;
    for (std::int64_t ky = 0; ky < s_.kernel_h; ++ky) {
      const std::int64_t iy = pixel.top + ky * s_.dilation_h;
      const bool line_inside = iy >= 0 && iy < s_.in_h;
      const std::uint8_t* line = args_.x + (pixel.image * s_.in_h + iy) * s_.in_w * s_.in_c;
      for (std::int64_t kx = 0; kx < s_.kernel_w; kx += run_taps, to += run_elems) {
        const std::int64_t ix = pixel.left + kx * s_.dilation_w;
        const std::int64_t first = line_inside ? at_most(at_least(-ix * s_.in_c, 0), run_elems) : run_elems;
        const std::int64_t last =
            line_inside ? at_least(at_most((s_.in_w - ix) * s_.in_c, run_elems), first) : run_elems;
        for (std::int64_t i = 0; i < first; ++i) to[i] = static_cast<std::uint8_t>(args_.x_zero_point);
        for (std::int64_t i = first; i < last; ++i) to[i] = line[ix * s_.in_c + i];
        for (std::int64_t i = last; i < run_elems; ++i) to[i] = static_cast<std::uint8_t>(args_.x_zero_point);
      }
    }
  }

  // copy_pixel for a pixel whose taps lie within the image, words read past their ends included; false for others.
  [[nodiscard]] bool copy_inside(const Pixel& pixel, std::int64_t run_elems, std::uint8_t* to) const {
    const std::int64_t last_line = pixel.top + (s_.kernel_h - 1) * s_.dilation_h;
    const std::int64_t line_elems = s_.in_w * s_.in_c;
    const std::int64_t last_read = last_line * line_elems + pixel.left * s_.in_c + round_up(run_elems, kWord);
    if (pixel.top < 0 || pixel.left < 0 || last_line >= s_.in_h || pixel.left + s_.kernel_w > s_.in_w ||
        last_read > s_.in_h * line_elems) {
      return false;
    }
    const std::uint8_t* from = args_.x + (pixel.image * s_.in_h + pixel.top) * line_elems + pixel.left * s_.in_c;
    for (std::int64_t ky = 0; ky < s_.kernel_h; ++ky, from += s_.dilation_h * line_elems, to += run_elems) {
      for (std::int64_t i = 0; i < run_elems; i += kWord) std::memcpy(to + i, from + i, kWord);
    }
    return true;
  }

  const QConvArgs& args_;
  const QConvShape& s_;
  const PanelLayout& layout_;
  const Scratch& scratch_;
  bool copies_;
  std::int64_t out_stride_;
  Cursor cursor_;
  std::int64_t end_;
  Taps taps_{0, 0};
  std::int64_t run_left_ = 0;  // pixels from the cursor on that have these taps
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
