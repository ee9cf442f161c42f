// Panels outside, so that one comes from memory once; rows of A in blocks whose tiles pass over it. For the instruction
// sets that have tiles.
#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

#if defined(__x86_64__)

namespace pare::kernels {

namespace {

constexpr std::int64_t kBlockRows = 22 * kNBitsRows;

const NBitsHeader& header_of(const void* packed) { return *static_cast<const NBitsHeader*>(packed); }

struct RowTile {
  const std::uint8_t* rows[kNBitsRows];
  const std::int32_t* starts[kNBitsRows];
  std::int64_t first = 0;
  std::int64_t height = 0;
};

void run(const NBitsTileSet& set, const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end,
         std::int64_t n_begin, std::int64_t n_end, void* scratch) {
  const NBitsHeader& header = header_of(args.packed);
  const bool dense = header.form == NBitsForm::kDense;
  auto* starts = static_cast<std::int32_t*>(scratch);
  NBitsTile tile;
  tile.blocks = header.blocks();
  tile.group_blocks = header.group / kNBitsBlock;
  for (std::int64_t block = m_begin; block < m_end; block += kBlockRows) {
    const std::int64_t block_end = block + kBlockRows < m_end ? block + kBlockRows : m_end;
    const std::int64_t count = (block_end - block + kNBitsRows - 1) / kNBitsRows;
    RowTile list[kBlockRows / kNBitsRows];
    std::int64_t m = block;
    for (std::int64_t t = 0; t < count; ++t) {
      RowTile& rows = list[t];
      rows.first = m;
      // Tiles of nearly equal height: a last one of a single row would be the slowest.
      rows.height = (block_end - m + count - t - 1) / (count - t);
      for (std::int64_t r = 0; r < kNBitsRows; ++r) {
        const std::int64_t row = r < rows.height ? m + r : m;
        rows.rows[r] = args.a + row * args.a_stride_bytes;
        rows.starts[r] = starts + (row - block) * header.groups();
        if (dense && r < rows.height) {
          set.starts(rows.rows[r], tile.blocks, tile.group_blocks, starts + (row - block) * header.groups());
        }
      }
      m += rows.height;
    }
    for (std::int64_t n = n_begin; n < n_end; n += kNBitsColumns) {
      tile.panel =
          static_cast<const std::uint8_t*>(args.packed) + kNBitsHeaderBytes + n / kNBitsColumns * header.panel_bytes();
      tile.columns = n_end - n < kNBitsColumns ? n_end - n : kNBitsColumns;
      tile.bias = args.bias == nullptr ? nullptr : args.bias + n;
      tile.relu = args.relu;
      for (std::int64_t t = 0; t < count; ++t) {
        const RowTile& rows = list[t];
        float* out[kNBitsRows];
        for (std::int64_t r = 0; r < kNBitsRows; ++r) {
          out[r] = args.c + (rows.first + (r < rows.height ? r : 0)) * args.c_stride_elems + n;
        }
        tile.rows = rows.rows;
        tile.starts = rows.starts;
        tile.a_scale = args.a_scale + rows.first;
        tile.out = out;
        (dense ? set.dense : set.two_four)(rows.height)(tile);
      }
    }
  }
}

}  // namespace

std::size_t nbits_starts_scratch(const MatMulNBitsArgs& args) {
  const std::int64_t rows = args.m < kBlockRows ? args.m : kBlockRows;
  return static_cast<std::size_t>(rows * header_of(args.packed).groups()) * sizeof(std::int32_t);
}

#define PARE_NBITS_TILES(isa)                                                                                          \
  void matmul_nbits_run_##isa(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end,                   \
                              std::int64_t n_begin, std::int64_t n_end, void* scratch) {                               \
    run({nbits_dense_##isa, nbits_two_four_##isa, nbits_starts_##isa}, args, m_begin, m_end, n_begin, n_end, scratch); \
  }
PARE_NBITS_TILES(avx2)
PARE_NBITS_TILES(avx512vnni)

}  // namespace pare::kernels

#endif
