// A panel's group is unpacked to int8, column by column, once for all rows.
#include <cstring>

#include "pare/format/half.h"
#include "pare/format/int4.h"
#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kLongestGroup = 256;

// Column `c` of the blocks of one group, as int8 codes in the order of k.
void unpack_dense(const std::uint8_t* blocks, std::int64_t c, std::int64_t k_elems, std::int8_t* codes) {
  for (std::int64_t i = 0; i < k_elems; ++i) {
    const unsigned byte = blocks[i / 8 * 128 + 64 * (c / 16) + 4 * (c % 16) + i % 4];
    codes[i] = static_cast<std::int8_t>(static_cast<int>(i % 8 < 4 ? byte & 0xFU : byte >> 4) - 8);
  }
}

void unpack_two_four(const std::uint8_t* blocks, std::int64_t c, std::int64_t k_elems, std::int8_t* codes) {
  std::memset(codes, 0, static_cast<std::size_t>(k_elems));
  for (std::int64_t g = 0; g < k_elems / 4; ++g) {
    const std::uint8_t* block = blocks + g / 8 * 384 + 64 * (c / 16) + 4 * (c % 16);
    const std::int64_t step = g % 8 / 2;
    for (std::int64_t i = 0; i < 2; ++i) {
      const std::int64_t byte = g % 2 * 2 + i;
      const unsigned value = block[128 + step / 2 * 128 + byte];
      const unsigned position = block[byte] >> (2 * step) & 3U;
      codes[4 * g + position] = format::int4_from_nibble(step % 2 == 0 ? value : value >> 4);
    }
  }
}

std::int32_t dot(const std::uint8_t* a, const std::int8_t* codes, std::int64_t k_elems) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < k_elems; ++i) sum += static_cast<std::int8_t>(a[i]) * codes[i];
  return sum;
}

}  // namespace

void matmul_nbits_run_scalar(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end,
                             std::int64_t n_begin, std::int64_t n_end, void* /*scratch*/) {
  const NBitsHeader& header = *static_cast<const NBitsHeader*>(args.packed);
  const std::int64_t k_padded = nbits_k_padded(args.k);
  for (std::int64_t n = n_begin; n < n_end; n += kNBitsColumns) {
    const std::int64_t columns = n_end - n < kNBitsColumns ? n_end - n : kNBitsColumns;
    const std::uint8_t* group =
        static_cast<const std::uint8_t*>(args.packed) + kNBitsHeaderBytes + n / kNBitsColumns * header.panel_bytes();
    for (std::int64_t m = m_begin; m < m_end; ++m) {
      for (std::int64_t c = 0; c < columns; ++c) args.c[m * args.c_stride_elems + n + c] = 0.0F;
    }
    for (std::int64_t first = 0; first < args.k; first += header.group) {
      const std::int64_t k_elems = first + header.group < k_padded ? header.group : k_padded - first;
      const std::uint8_t* blocks = group + 2 * kNBitsColumns;
      for (std::int64_t c = 0; c < columns; ++c) {
        std::int8_t codes[kLongestGroup];
        if (header.form == NBitsForm::kDense) {
          unpack_dense(blocks, c, k_elems, codes);
        } else {
          unpack_two_four(blocks, c, k_elems, codes);
        }
        std::uint16_t half;
        std::memcpy(&half, group + 2 * c, sizeof half);
        const float scale = format::float_from_half(half);
        for (std::int64_t m = m_begin; m < m_end; ++m) {
          const std::int32_t sum = dot(args.a + m * args.a_stride_bytes + first, codes, k_elems);
          args.c[m * args.c_stride_elems + n + c] += static_cast<float>(sum) * scale;
        }
      }
      group = blocks + k_elems / kNBitsBlock * header.block_bytes();
    }
    for (std::int64_t m = m_begin; m < m_end; ++m) {
      for (std::int64_t c = 0; c < columns; ++c) {
        float& out = args.c[m * args.c_stride_elems + n + c];
        const float real = out * args.a_scale[m];
        const float sum = args.bias == nullptr ? real : real + args.bias[n + c];
        out = args.relu && sum < 0.0F ? 0.0F : sum;
      }
    }
  }
}

}  // namespace pare::kernels
