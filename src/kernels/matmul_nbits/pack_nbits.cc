#include <cstring>
#include <new>

#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

namespace pare::kernels {

namespace {

unsigned nibble_at(const std::uint8_t* nibbles, std::int64_t i) {
  return i % 2 == 0 ? nibbles[i / 2] & 0xFU : nibbles[i / 2] >> 4;
}

// One column of one group: `codes` and `indices` are its row's, `first` and `end` the group's k.
struct Column {
  const std::uint8_t* codes;
  const std::uint8_t* indices;
  std::int64_t first;
  std::int64_t end;
  std::int64_t place;  // of its first byte in a [2][64] vector pair: 64 j + 4 l
};

void pack_dense(const Column& column, std::uint8_t* blocks) {
  for (std::int64_t k = column.first; k < column.end; ++k) {
    const std::int64_t i = k - column.first;
    std::uint8_t& byte = blocks[i / 8 * 128 + column.place + i % 4];
    // Nibbles were filled with 8, the code 0.
    byte = static_cast<std::uint8_t>(byte ^ nibble_at(column.codes, k) << (i % 8 < 4 ? 0 : 4));
  }
}

void pack_two_four(const Column& column, std::uint8_t* blocks) {
  for (std::int64_t k = column.first; k < column.end; k += 4) {
    const std::int64_t g = (k - column.first) / 4;
    std::uint8_t* block = blocks + g / 8 * 384 + column.place;
    const std::int64_t step = g % 8 / 2;
    const std::int64_t byte = g % 2 * 2;
    const unsigned positions = nibble_at(column.indices, k / 4);
    const unsigned values = column.codes[k / 4];
    for (std::int64_t i = 0; i < 2; ++i) {
      std::uint8_t& index = block[byte + i];
      index = static_cast<std::uint8_t>(index | (positions >> (2 * i) & 3U) << (2 * step));
      std::uint8_t& value = block[128 + step / 2 * 128 + byte + i];
      value = static_cast<std::uint8_t>(value | (values >> (4 * i) & 0xFU) << (step % 2 * 4));
    }
  }
}

NBitsHeader header_of(const NBitsWeights& weights, NBitsForm form) {
  return {weights.n, weights.k, weights.group, form};
}

}  // namespace

template <NBitsForm kForm>
std::size_t packed_nbits_bytes(const NBitsWeights& weights) {
  return static_cast<std::size_t>(header_of(weights, kForm).bytes());
}

template <NBitsForm kForm>
void pack_nbits(const NBitsWeights& weights, void* packed) {
  static_assert(sizeof(NBitsHeader) <= kNBitsHeaderBytes);
  std::memset(packed, 0, kNBitsHeaderBytes);
  const NBitsHeader& header = *new (packed) NBitsHeader(header_of(weights, kForm));
  auto* out = static_cast<std::uint8_t*>(packed) + kNBitsHeaderBytes;
  const std::int64_t row_codes = kForm == NBitsForm::kDense ? (weights.k + 1) / 2 : (weights.k + 3) / 4;
  const std::int64_t row_indices = kForm == NBitsForm::kDense ? 0 : ((weights.k + 3) / 4 + 1) / 2;
  for (std::int64_t panel = 0; panel < weights.n; panel += kNBitsColumns) {
    for (std::int64_t group = 0; group < header.groups(); ++group) {
      const std::int64_t first = group * weights.group;
      const std::int64_t end = first + weights.group < weights.k ? first + weights.group : weights.k;
      const std::int64_t bytes = nbits_k_padded(end - first) / kNBitsBlock * header.block_bytes();
      std::uint8_t* blocks = out + 2 * kNBitsColumns;
      std::memset(out, 0, 2 * kNBitsColumns);
      std::memset(blocks, kForm == NBitsForm::kDense ? 0x88 : 0, static_cast<std::size_t>(bytes));
      for (std::int64_t c = 0; c < kNBitsColumns && panel + c < weights.n; ++c) {
        const std::int64_t row = panel + c;
        std::memcpy(out + 2 * c, weights.scales + row * header.groups() + group, 2);
        const Column column{weights.codes + row * row_codes,
                            kForm == NBitsForm::kDense ? nullptr : weights.indices + row * row_indices, first, end,
                            64 * (c / 16) + 4 * (c % 16)};
        if constexpr (kForm == NBitsForm::kDense) {
          pack_dense(column, blocks);
        } else {
          pack_two_four(column, blocks);
        }
      }
      out = blocks + bytes;
    }
  }
}

#define PARE_NBITS_PACKING(form)                                                         \
  template std::size_t packed_nbits_bytes<NBitsForm::form>(const NBitsWeights& weights); \
  template void pack_nbits<NBitsForm::form>(const NBitsWeights& weights, void* packed);
PARE_NBITS_PACKING(kDense)
PARE_NBITS_PACKING(kTwoFour)

}  // namespace pare::kernels
