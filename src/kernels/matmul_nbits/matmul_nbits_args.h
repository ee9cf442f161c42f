// Operands of a product with int4 weights (matmul_nbits.h), and what the kernels of its table are made from. Includes
// nothing that files compiled for one instruction set may not include.
//
// Packed weights: NBitsHeader in the first 64 bytes, then panels of 32 columns, column 16 j + l in lane l of vector j.
// A panel is, group by group of k:
//   scales  float16 [2][16]
//   then for every 32 k of the group
//   dense   [4][2][64]             byte 4 l + b of step s: k = 8 s + b in the low nibble, k = 8 s + 4 + b in the high
//                                  one; stored is code + 8, in [0, 15]
//   2:4     [2][64] indices, [2][2][64] values; step s is the low (s even) or high nibble of pair s / 2, two's
//                                  complement; which k a value and its index bits belong to: tile/tile.h
// so a weight takes 0.5 or 0.375 byte and 2 / group byte of scale, and one stream of memory holds all.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pare::kernels {

enum class NBitsForm : std::uint8_t { kDense, kTwoFour };

// Weights as an artifact stores them: format/int4.h.
struct NBitsWeights {
  const std::uint8_t* codes = nullptr;
  const std::uint8_t* indices = nullptr;  // null for dense
  const std::uint16_t* scales = nullptr;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t group = 32;
};

inline constexpr std::int64_t kNBitsColumns = 32;  // of a panel
inline constexpr std::int64_t kNBitsBlock = 32;    // k that are stored together
inline constexpr std::int64_t kNBitsRows = 6;      // of a tile
inline constexpr std::int64_t kNBitsHeaderBytes = 64;

[[nodiscard]] inline constexpr std::int64_t nbits_k_padded(std::int64_t k) {
  return (k + kNBitsBlock - 1) / kNBitsBlock * kNBitsBlock;
}

struct NBitsHeader {
  std::int64_t n, k, group;
  NBitsForm form;

  [[nodiscard]] constexpr std::int64_t groups() const { return (k + group - 1) / group; }
  [[nodiscard]] constexpr std::int64_t blocks() const { return nbits_k_padded(k) / kNBitsBlock; }
  [[nodiscard]] constexpr std::int64_t block_bytes() const { return form == NBitsForm::kDense ? 512 : 384; }
  [[nodiscard]] constexpr std::int64_t panel_bytes() const {
    return groups() * 2 * kNBitsColumns + blocks() * block_bytes();
  }
  [[nodiscard]] constexpr std::int64_t bytes() const {
    return kNBitsHeaderBytes + (n + kNBitsColumns - 1) / kNBitsColumns * panel_bytes();
  }
};

struct MatMulNBitsArgs {
  // Codes of quantize_rows with the kernel's a_zero_point, padded to nbits_k_padded(k).
  const std::uint8_t* a = nullptr;
  std::int64_t a_stride_bytes = 0;  // between rows of A
  const float* a_scale = nullptr;   // m
  const void* packed = nullptr;     // what pack() wrote
  const float* bias = nullptr;      // n, or null
  bool relu = false;                // outputs below 0 become 0
  float* c = nullptr;
  std::int64_t c_stride_elems = 0;  // between rows of C
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

// One tile: up to kNBitsRows rows by one panel.
struct NBitsTile {
  const std::uint8_t* const* rows = nullptr;    // kNBitsRows; those past the tile's repeat a valid one
  const std::int32_t* const* starts = nullptr;  // kNBitsRows: what a row's accumulators start at, group by group; dense
  const std::uint8_t* panel = nullptr;
  std::int64_t blocks = 0;        // of 32 k
  std::int64_t group_blocks = 0;  // of a group
  const float* a_scale = nullptr;
  const float* bias = nullptr;  // of the panel's first column, or null
  bool relu = false;
  float* const* out = nullptr;  // kNBitsRows pointers to the panel's first column of a row of C
  std::int64_t columns = 0;
};

using NBitsTileKernel = void (*)(const NBitsTile& tile);

// The tile kernels of one instruction set.
struct NBitsTileSet {
  NBitsTileKernel (*dense)(std::int64_t rows);
  NBitsTileKernel (*two_four)(std::int64_t rows);
  // out[g] = -8 * sum of the int8 codes of group g: what the 8 that dense codes are stored with adds.
  void (*starts)(const std::uint8_t* row, std::int64_t blocks, std::int64_t group_blocks, std::int32_t* out);
};

template <NBitsForm kForm>
[[nodiscard]] std::size_t packed_nbits_bytes(const NBitsWeights& weights);
template <NBitsForm kForm>
void pack_nbits(const NBitsWeights& weights, void* packed);

// Implementations, named as the table names them.
inline std::size_t nbits_no_scratch(const MatMulNBitsArgs& /*args*/) { return 0; }
void matmul_nbits_run_scalar(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end,
                             std::int64_t n_begin, std::int64_t n_end, void* scratch);
#if defined(__x86_64__)
// Of dense weights, which args.packed must point to.
[[nodiscard]] std::size_t nbits_starts_scratch(const MatMulNBitsArgs& args);
[[nodiscard]] NBitsTileKernel nbits_dense_avx2(std::int64_t rows);
[[nodiscard]] NBitsTileKernel nbits_two_four_avx2(std::int64_t rows);
void nbits_starts_avx2(const std::uint8_t* row, std::int64_t blocks, std::int64_t group_blocks, std::int32_t* out);
void matmul_nbits_run_avx2(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                           std::int64_t n_end, void* scratch);
[[nodiscard]] NBitsTileKernel nbits_dense_avx512vnni(std::int64_t rows);
[[nodiscard]] NBitsTileKernel nbits_two_four_avx512vnni(std::int64_t rows);
void nbits_starts_avx512vnni(const std::uint8_t* row, std::int64_t blocks, std::int64_t group_blocks,
                             std::int32_t* out);
void matmul_nbits_run_avx512vnni(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end,
                                 std::int64_t n_begin, std::int64_t n_end, void* scratch);
#endif

}  // namespace pare::kernels
