// Rows of A in tiles of 64, transposed, with block-sparse weights (block/block_tile.h).
#include "pare/kernels/block/block_tile.h"
#include "pare/kernels/qgemm/qgemm_args.h"

namespace pare::kernels {

namespace {

[[maybe_unused]] void run(const BlockTileSet& set, const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end,
                          std::int64_t n_begin, std::int64_t n_end, void* scratch) {
  if (n_begin >= n_end) return;
  const std::int64_t out_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : sizeof(float);
  auto* activations = static_cast<std::uint8_t*>(scratch);
  const std::uint8_t* rows[kBlockTileRows];
  void* out[kBlockTileRows];
  BlockTileArgs tile;
  tile.activations = activations;
  tile.packed = args.packed;
  tile.epilogue = &args.epilogue;
  tile.zero_point = args.a_zero_point;
  tile.n_begin = n_begin;
  tile.n_end = n_end;
  tile.out = out;
  for (std::int64_t m = m_begin; m < m_end; m += kBlockTileRows) {
    tile.row_scale = args.epilogue.row_scale == nullptr ? nullptr : args.epilogue.row_scale + m;
    tile.rows = m_end - m < kBlockTileRows ? m_end - m : kBlockTileRows;
    tile.vectors = (tile.rows + kBlockLanes - 1) / kBlockLanes;
    for (std::int64_t r = 0; r < kBlockLanes * tile.vectors; ++r) {
      // Lanes without a row repeat the last one; what they compute is not written.
      const std::int64_t row = m + (r < tile.rows ? r : tile.rows - 1);
      rows[r] = args.a + row * args.a_stride_bytes;
      out[r] = static_cast<std::uint8_t*>(args.c) + row * args.c_stride_elems * out_bytes;
    }
    for (std::int64_t v = 0; v < tile.vectors; ++v) {
      set.transpose(rows + kBlockLanes * v, args.k, activations + 64 * v, 64 * tile.vectors);
    }
    set.columns(tile);
  }
}

}  // namespace

std::size_t qgemm_block_scratch(const QGemmArgs& args) {
  return static_cast<std::size_t>(lists_of(args.packed).activation_bytes());
}

#if defined(__x86_64__)
void qgemm_run_block_avx512vnni(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                                std::int64_t n_end, void* scratch) {
  run({transpose_steps_avx512vnni, block_columns_avx512vnni}, args, m_begin, m_end, n_begin, n_end, scratch);
}
#endif

}  // namespace pare::kernels
