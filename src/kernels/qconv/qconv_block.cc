// Convolution with block-sparse weights: output pixels in tiles of 64, whose activations are transposed tap by tap
// (block/block_tile.h). A tap in the padding is a row of zero points.
#include <cstring>

#include "pare/kernels/block/block_tile.h"
#include "pare/kernels/qconv/qconv_args.h"

namespace pare::kernels {

namespace {

std::int64_t zero_row_bytes(const BlockLists& lists) { return BlockLists::aligned(lists.c); }

// Where the window of an output pixel begins, in pixels of its image.
struct Corner {
  const std::uint8_t* image;
  std::int64_t y, x;

  Corner() = default;
  Corner(const QConvArgs& args, std::int64_t pixel) {
    const QConvShape& s = args.shape;
    const std::int64_t line = pixel / s.out_w;
    image = args.x + line / s.out_h * s.in_h * s.in_w * s.in_c;
    y = line % s.out_h * s.stride_h - s.pad_top;
    x = pixel % s.out_w * s.stride_w - s.pad_left;
  }
  [[nodiscard]] const std::uint8_t* tap(const QConvShape& s, std::int64_t dy, std::int64_t dx,
                                        const std::uint8_t* zero_row) const {
    const std::int64_t iy = y + dy;
    const std::int64_t ix = x + dx;
    // One comparison each: what lies before the image is huge when taken as unsigned.
    const bool inside = static_cast<std::uint64_t>(iy) < static_cast<std::uint64_t>(s.in_h) &&
                        static_cast<std::uint64_t>(ix) < static_cast<std::uint64_t>(s.in_w);
    return inside ? image + (iy * s.in_w + ix) * s.in_c : zero_row;
  }
};

[[maybe_unused]] void run(const BlockTileSet& set, const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end,
                          void* scratch) {
  const QConvShape& s = args.shape;
  const BlockLists& lists = lists_of(args.packed);
  const std::int64_t out_stride = s.out_c * (args.epilogue.output == Epilogue::Output::kU8 ? 1 : 4);
  auto* zero_row = static_cast<std::uint8_t*>(scratch);
  std::uint8_t* activations = zero_row + zero_row_bytes(lists);
  std::memset(zero_row, args.x_zero_point, static_cast<std::size_t>(lists.c));
  const std::uint8_t* rows[kBlockTileRows];
  void* out[kBlockTileRows];
  Corner corners[kBlockTileRows];
  BlockTileArgs tile;
  tile.activations = activations;
  tile.packed = args.packed;
  tile.epilogue = &args.epilogue;
  tile.zero_point = args.x_zero_point;
  tile.n_end = s.out_c;
  tile.out = out;
  const std::int64_t end = row_end * s.out_w;
  for (std::int64_t pixel = row_begin * s.out_w; pixel < end; pixel += kBlockTileRows) {
    tile.rows = end - pixel < kBlockTileRows ? end - pixel : kBlockTileRows;
    tile.vectors = (tile.rows + kBlockLanes - 1) / kBlockLanes;
    for (std::int64_t r = 0; r < kBlockLanes * tile.vectors; ++r) {
      // Lanes without a pixel repeat the last one; what they compute is not written.
      const std::int64_t at = pixel + (r < tile.rows ? r : tile.rows - 1);
      corners[r] = Corner(args, at);
      out[r] = static_cast<std::uint8_t*>(args.y) + at * out_stride;
    }
    std::uint8_t* to = activations;
    for (std::int64_t tap = 0; tap < lists.taps; ++tap) {
      const std::int64_t dy = tap / s.kernel_w * s.dilation_h;
      const std::int64_t dx = tap % s.kernel_w * s.dilation_w;
      for (std::int64_t r = 0; r < kBlockLanes * tile.vectors; ++r) rows[r] = corners[r].tap(s, dy, dx, zero_row);
      for (std::int64_t v = 0; v < tile.vectors; ++v) {
        set.transpose(rows + kBlockLanes * v, s.in_c, to + 64 * v, 64 * tile.vectors);
      }
      to += lists.tap_steps() * 64 * tile.vectors;
    }
    set.columns(tile);
  }
}

}  // namespace

std::size_t qconv_block_scratch(const QConvArgs& args) {
  const BlockLists& lists = lists_of(args.packed);
  return static_cast<std::size_t>(zero_row_bytes(lists) + lists.activation_bytes());
}

#if defined(__x86_64__)
void qconv_run_block_avx512vnni(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch) {
  run({transpose_steps_avx512vnni, block_columns_avx512vnni}, args, row_begin, row_end, scratch);
}
#endif

}  // namespace pare::kernels
