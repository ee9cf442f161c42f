// Convolution without im2col: a tile of output pixels reads its activations where they are, tap by tap, through pointers
// (Dukhan, "The Indirect Convolution Algorithm", arXiv 1907.02129); the pointers are made for a block of tiles at a time.
// Taps whose input line lies in the padding are left out of a tile, and others that lie there read a row of zero
// points. Where taps are too short to be worth that (few input channels), each pixel's activations are copied together.
#include <cstring>

#include "pare/kernels/qconv/qconv_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// 34 tiles: the 14 x 14 pixels of a common last stage fit into one block.
constexpr std::int64_t kBlockTiles = 34;

std::int64_t at_least(std::int64_t value, std::int64_t limit) { return value < limit ? limit : value; }
std::int64_t at_most(std::int64_t value, std::int64_t limit) { return value > limit ? limit : value; }

// A 1 x 1 convolution counts as one tap.
bool copies_taps(const QConvShape& s, const PanelLayout& layout) {
  return layout.taps == 1 && s.kernel_h * s.kernel_w > 1;
}

// The scratch of a run, in this order.
struct Scratch {
  std::uint8_t* panels;              // run_panels'
  std::uint8_t* zero_row;            // c zero points
  const std::uint8_t** rows;         // [kBlockTiles][taps][kTileRows]
  std::uint8_t* copies;              // [kBlockTiles * kTileRows][c rounded up], where taps are copied
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
    copy_stride = round_up(layout.c, 16);
    panels = take(panel_scratch_bytes(layout));
    zero_row = take(static_cast<std::size_t>(layout.c));
    rows = reinterpret_cast<const std::uint8_t**>(
        take(static_cast<std::size_t>(kBlockTiles * kTileRows * layout.taps) * sizeof(void*)));
    copies = take(copies_taps(s, layout) ? static_cast<std::size_t>(kBlockTiles * kTileRows * copy_stride) : 0);
    bytes = offset;
  }
};

// Where an output pixel lies, and the input pixel of its first tap.
struct Pixel {
  std::int64_t image, top, left;
};

Pixel pixel_at(const QConvShape& s, std::int64_t pixel) {
  return {pixel / (s.out_h * s.out_w), pixel / s.out_w % s.out_h * s.stride_h - s.pad_top,
          pixel % s.out_w * s.stride_w - s.pad_left};
}

class Tiler {
 public:
  Tiler(const QConvArgs& args, const PanelLayout& layout, const Scratch& scratch)
      : args_(args), s_(args.shape), layout_(layout), scratch_(scratch), copies_(copies_taps(s_, layout)) {
    out_stride_ = s_.out_c * (args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4);
  }

  // Cuts pixels [*begin, end) into tiles until the block is full; returns their number and moves *begin.
  std::int64_t fill(std::int64_t* begin, std::int64_t end) {
    std::int64_t count = 0;
    while (*begin < end && count < kBlockTiles) {
      // Tiles of nearly equal height among pixels with the same taps.
      const Taps taps = taps_of(*begin);
      const std::int64_t run = same_taps_until(*begin, end, taps) - *begin;
      const std::int64_t height = ceil_div(run, ceil_div(run, kTileRows));
      make_tile(*begin, height, taps, count);
      *begin += height;
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

  // Taps of the lines of the kernel that lie in the image; all of them if none does, or where they cannot be left out.
  [[nodiscard]] Taps taps_of(std::int64_t pixel) const {
    const Taps all{0, layout_.taps};
    if (copies_ || layout_.format == WeightFormat::kVnm) return all;
    const std::int64_t top = pixel_at(s_, pixel).top;
    std::int64_t first = 0;
    std::int64_t last = s_.kernel_h;
    while (first < last && top + first * s_.dilation_h < 0) ++first;
    while (last > first && top + (last - 1) * s_.dilation_h >= s_.in_h) --last;
    return first == last ? all : Taps{first * s_.kernel_w, last * s_.kernel_w};
  }

  [[nodiscard]] std::int64_t same_taps_until(std::int64_t pixel, std::int64_t end, const Taps& taps) const {
    std::int64_t until = (pixel / s_.out_w + 1) * s_.out_w;
    // Enough for any tile: what lies further away is looked at when its turn comes.
    const std::int64_t far = pixel + kBlockTiles * kTileRows;
    while (until < end && until < far && taps_of(until) == taps) until += s_.out_w;
    return at_most(until, end);
  }

  void make_tile(std::int64_t pixel, std::int64_t height, const Taps& taps, std::int64_t index) {
    const std::uint8_t** rows = scratch_.rows + index * layout_.taps * kTileRows;
    std::uint8_t** out = out_ + index * kTileRows;
    Pixel pixels[kTileRows];
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const std::int64_t p = pixel + (r < height ? r : 0);
      pixels[r] = pixel_at(s_, p);
      out[r] = static_cast<std::uint8_t*>(args_.y) + p * out_stride_;
    }
    if (copies_) {
      copy_taps(pixels, height, index, rows);
    } else {
      point_at_taps(pixels, taps, rows);
    }
    tiles_[index] = {rows, out, height, taps.begin, taps.end};
  }

  void point_at_taps(const Pixel* pixels, const Taps& taps, const std::uint8_t** rows) const {
    const std::uint8_t* first[kTileRows];
    bool inside = true;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const Pixel& p = pixels[r];
      first[r] = args_.x + ((p.image * s_.in_h + p.top) * s_.in_w + p.left) * s_.in_c;
      inside = inside && p.left >= 0 && p.left + (s_.kernel_w - 1) * s_.dilation_w < s_.in_w;
    }
    for (std::int64_t tap = taps.begin; tap < taps.end; ++tap, rows += kTileRows) {
      const std::int64_t dy = tap / s_.kernel_w * s_.dilation_h;
      const std::int64_t dx = tap % s_.kernel_w * s_.dilation_w;
      const std::int64_t offset = (dy * s_.in_w + dx) * s_.in_c;
      for (std::int64_t r = 0; r < kTileRows; ++r) rows[r] = first[r] + offset;
      if (inside && lines_inside(pixels, dy)) continue;
      for (std::int64_t r = 0; r < kTileRows; ++r) {
        const std::int64_t iy = pixels[r].top + dy;
        const std::int64_t ix = pixels[r].left + dx;
        if (iy < 0 || iy >= s_.in_h || ix < 0 || ix >= s_.in_w) rows[r] = scratch_.zero_row;
      }
    }
  }

  [[nodiscard]] bool lines_inside(const Pixel* pixels, std::int64_t dy) const {
    bool inside = true;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      inside = inside && pixels[r].top + dy >= 0 && pixels[r].top + dy < s_.in_h;
    }
    return inside;
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
    for (std::int64_t ky = 0; ky < s_.kernel_h; ++ky) {
      const std::int64_t iy = pixel.top + ky * s_.dilation_h;
      const bool line_inside = iy >= 0 && iy < s_.in_h;
      const std::uint8_t* line = args_.x + (pixel.image * s_.in_h + iy) * s_.in_w * s_.in_c;
      for (std::int64_t kx = 0; kx < s_.kernel_w; kx += run_taps, to += run_elems) {
        const std::int64_t ix = pixel.left + kx * s_.dilation_w;
        const std::int64_t first = line_inside ? at_most(at_least(-ix * s_.in_c, 0), run_elems) : run_elems;
        const std::int64_t last = line_inside ? at_least(at_most((s_.in_w - ix) * s_.in_c, run_elems), first) : run_elems;
        for (std::int64_t i = 0; i < first; ++i) to[i] = static_cast<std::uint8_t>(args_.x_zero_point);
        for (std::int64_t i = first; i < last; ++i) to[i] = line[ix * s_.in_c + i];
        for (std::int64_t i = last; i < run_elems; ++i) to[i] = static_cast<std::uint8_t>(args_.x_zero_point);
      }
    }
  }

  const QConvArgs& args_;
  const QConvShape& s_;
  const PanelLayout& layout_;
  const Scratch& scratch_;
  bool copies_;
  std::int64_t out_stride_;
  PanelTile tiles_[kBlockTiles];
  std::uint8_t* out_[kBlockTiles * kTileRows];
};

void run(const TileSet& tiles, const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* memory) {
  const QConvShape& s = args.shape;
  const PanelLayout& layout = layout_of(args.packed);
  const Scratch scratch(s, layout, memory);
  std::memset(scratch.zero_row, args.x_zero_point, static_cast<std::size_t>(layout.c));
  Tiler tiler(args, layout, scratch);
  const PanelRun panel_run{&tiles, args.packed, &args.epilogue, args.x_zero_point, s.out_c};
  std::int64_t pixel = row_begin * s.out_w;
  while (pixel < row_end * s.out_w) {
    const std::int64_t count = tiler.fill(&pixel, row_end * s.out_w);
    run_panels(panel_run, tiler.tiles(), count, 0, s.out_c, scratch.panels);
  }
}

}  // namespace

std::size_t qconv_tile_scratch(const QConvArgs& args) {
  return Scratch(args.shape, layout_of(args.packed), nullptr).bytes;
}

#if defined(__x86_64__)
void qconv_run_avx512vnni(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesAvx512Vnni, args, row_begin, row_end, scratch);
}

void qconv_run_avx512vbmi(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run(kTilesAvx512Vbmi, args, row_begin, row_end, scratch);
}
#endif

}  // namespace pare::kernels
