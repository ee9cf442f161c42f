// Rows of A in blocks that stay in the second-level cache while all panels pass over them (tile/tile.h).
#include "pare/kernels/qgemm/qgemm_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kBlockRows = 22 * kTileRows;

// Results of so many bytes are not in the second-level cache any more when they are read. Writing them past it saves
// reading their lines first.
constexpr std::int64_t kLeastStreamedBytes = std::int64_t{4} << 20;

void run(const TileSet& tiles, const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
         std::int64_t n_end, void* scratch) {
  const std::int64_t out_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : sizeof(float);
  const bool streams =
      tiles.finish_streams != nullptr && out_bytes > 1 && args.m * args.n * out_bytes >= kLeastStreamedBytes;
  const PanelRun panel_run{&tiles, args.packed, &args.epilogue, args.a_zero_point, args.n, streams};
  for (std::int64_t block = m_begin; block < m_end; block += kBlockRows) {
    const std::int64_t block_end = block + kBlockRows < m_end ? block + kBlockRows : m_end;
    const std::int64_t count = ceil_div(block_end - block, kTileRows);
    const std::uint8_t* rows[kBlockRows + kTileRows];
    std::uint8_t* out[kBlockRows + kTileRows];
    PanelTile list[kBlockRows / kTileRows];
    std::int64_t m = block;
    for (std::int64_t t = 0; t < count; ++t) {
      // Tiles of nearly equal height: a last one of a single row would be the slowest.
      const std::int64_t height = ceil_div(block_end - m, count - t);
      for (std::int64_t r = 0; r < kTileRows; ++r) {
        const std::int64_t row = r < height ? m + r : m;
        rows[t * kTileRows + r] = args.a + row * args.a_stride_bytes;
        out[t * kTileRows + r] = static_cast<std::uint8_t*>(args.c) + row * args.c_stride_elems * out_bytes;
      }
      const float* row_scale = args.epilogue.row_scale == nullptr ? nullptr : args.epilogue.row_scale + m;
      list[t] = {rows + t * kTileRows, out + t * kTileRows, height, {0, 1}, row_scale};
      m += height;
    }
    run_panels(panel_run, list, count, n_begin, n_end, scratch);
  }
  if (streams) tiles.finish_streams();
}

}  // namespace

std::size_t qgemm_tile_scratch(const QGemmArgs& args) { return panel_scratch_bytes(layout_of(args.packed)); }

#define PARE_QGEMM_TILES(isa, tiles)                                                                          \
  void qgemm_run_##isa(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin, \
                       std::int64_t n_end, void* scratch) {                                                   \
    run(tiles, args, m_begin, m_end, n_begin, n_end, scratch);                                                \
  }
#if defined(__x86_64__)
PARE_QGEMM_TILES(avx2, kTilesAvx2)
PARE_QGEMM_TILES(avx512vnni, kTilesAvx512Vnni)
PARE_QGEMM_TILES(avx512vbmi, kTilesAvx512Vbmi)
#elif defined(__aarch64__)
PARE_QGEMM_TILES(neon_dotprod, kTilesNeonDotprod)
PARE_QGEMM_TILES(neon_i8mm, kTilesNeonI8mm)
#endif

}  // namespace pare::kernels
