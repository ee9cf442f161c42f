// Products with block-sparse weights: what the matrix products and convolutions of one instruction set have in common.
//
//   acc[r][j] = start[j] + sum over steps s, b < 4 of a[r][s][b] * w[j][s][b]        u8 x s8, exact
//   out[r][j] = epilogue(acc[r][j])                                                epilogue.h
//
// A step is four consecutive k of a tap. Weights that share no mask leave nothing to vectorize along the outputs, so
// lanes are rows of C (of a convolution: output pixels): up to 64 rows are transposed into [step][row][4], and then an
// output walks along the steps that it keeps, with one broadcast of weights for up to four vectors of rows. Where
// blocks are a multiple of four outputs high, four walk together and share the activations that they load. (Elsen et
// al., "Fast Sparse ConvNets", arXiv 1911.09723, do this in float.) So any block serves that is a multiple of four
// columns wide; others keep the steps that they touch.
//
// Packed: a BlockLists in the first 64 bytes, then, each aligned to 64,
//   sums    int32 [n]                       sum of the weights of an output
//   begins  uint32 [groups + 1]             of each group of outputs: where its entries begin
//   steps   uint16 [entries]                ascending within a group
//   values  int8 [entries][group][4]
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/epilogue.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

inline constexpr std::int64_t kBlockLanes = 16;        // rows of a vector
inline constexpr std::int64_t kBlockTileRows = 64;     // four vectors
inline constexpr std::int64_t kBlockTileColumns = 16;  // outputs that are written together

struct BlockLists {
  std::int64_t n = 0;
  std::int64_t taps = 1;
  std::int64_t c = 0;      // activations of a tap
  std::int64_t group = 1;  // outputs that walk together: 1 or 4
  std::int64_t entries = 0;

  [[nodiscard]] constexpr std::int64_t tap_steps() const { return (c + 3) / 4; }
  [[nodiscard]] constexpr std::int64_t groups() const { return (n + group - 1) / group; }
  [[nodiscard]] static constexpr std::int64_t aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }
  [[nodiscard]] static constexpr std::int64_t sums_offset() { return 64; }
  [[nodiscard]] constexpr std::int64_t begins_offset() const { return sums_offset() + aligned(4 * n); }
  [[nodiscard]] constexpr std::int64_t steps_offset() const { return begins_offset() + aligned(4 * (groups() + 1)); }
  [[nodiscard]] constexpr std::int64_t values_offset() const { return steps_offset() + aligned(2 * entries); }
  [[nodiscard]] constexpr std::int64_t bytes() const { return values_offset() + aligned(4 * group * entries); }
  // Of a tile's activations, transposed.
  [[nodiscard]] constexpr std::int64_t activation_bytes() const { return taps * tap_steps() * 4 * kBlockTileRows; }
};

[[nodiscard]] inline bool lists_use_zeros(const CanonicalWeights& /*weights*/) { return true; }
[[nodiscard]] std::size_t packed_block_lists_bytes(const CanonicalWeights& weights);
void pack_block_lists(const CanonicalWeights& weights, void* packed);

[[nodiscard]] inline const BlockLists& lists_of(const void* packed) { return *static_cast<const BlockLists*>(packed); }

struct BlockTileArgs {
  const std::uint8_t* activations = nullptr;  // [taps * tap_steps][vectors][16][4]
  std::int64_t rows = 0;                      // 1 to 16 * vectors
  std::int64_t vectors = 1;                   // 1 to 4
  const void* packed = nullptr;
  const Epilogue* epilogue = nullptr;
  const float* row_scale = nullptr;  // [rows], as the epilogue's of these rows; or null
  std::int32_t zero_point = 0;       // of the activations
  std::int64_t n_begin = 0;          // a multiple of kBlockTileColumns
  std::int64_t n_end = 0;
  void* const* out = nullptr;  // [rows]: column 0 of each row of C
};

struct BlockTileSet {
  // `c` activations of kBlockLanes rows to [step][16][4], steps `stride_bytes` apart. Nothing past a row's end is read.
  void (*transpose)(const std::uint8_t* const* rows, std::int64_t c, std::uint8_t* to, std::int64_t stride_bytes);
  void (*columns)(const BlockTileArgs& args);
};

void transpose_steps_avx512vnni(const std::uint8_t* const* rows, std::int64_t c, std::uint8_t* to,
                                std::int64_t stride_bytes);
void block_columns_avx512vnni(const BlockTileArgs& args);

}  // namespace pare::kernels
