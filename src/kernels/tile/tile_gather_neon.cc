// The gathering of V:N:M activations: vqtbl picks 16 of up to 64 bytes at once.
#include <arm_neon.h>

#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

template <int kSource, int kKeep>
void gather(const TileArgs& args) {
  const std::uint8_t* indices = args.next_indices;
  std::uint8_t* out = args.next_gathered;
  for (std::int64_t tap = 0; tap < args.taps; ++tap) {
    const std::uint8_t* const* rows = args.next_rows + tap * kTileRows;
    for (std::int64_t offset = 0; offset < args.c; offset += kSource, indices += kKeep, out += kKeep) {
      const std::int64_t left = args.c - offset;
      for (std::int64_t r = 0; r < args.next_row_count; ++r) {
        const std::uint8_t* from = rows[r] + offset;
        std::uint8_t some[kSource];
        if (left < kSource) {
          __builtin_memset(some, 0, sizeof some);
          __builtin_memcpy(some, from, static_cast<std::size_t>(left));
          from = some;
        }
        std::uint8_t* to = out + r * args.gathered_stride;
        if constexpr (kSource == 32 && kKeep < 16) {
          std::uint8_t eight[8];
          __builtin_memcpy(eight, indices, kKeep);
          vst1_u8(eight, vqtbl2_u8(vld1q_u8_x2(from), vld1_u8(eight)));
          __builtin_memcpy(to, eight, kKeep);
        } else if constexpr (kSource == 32) {
          vst1q_u8(to, vqtbl2q_u8(vld1q_u8_x2(from), vld1q_u8(indices)));
        } else if constexpr (kKeep == 16) {
          vst1q_u8(to, vqtbl4q_u8(vld1q_u8_x4(from), vld1q_u8(indices)));
        } else {
          vst1_u8(to, vqtbl4_u8(vld1q_u8_x4(from), vld1_u8(indices)));
        }
      }
    }
  }
}

}  // namespace

void gather_vnm_neon(const TileArgs& args, VnmShape shape) {
  constexpr TileKernel kGathers[] = {gather<32, 16>, gather<64, 16>, gather<64, 8>, gather<32, 8>, gather<32, 4>};
  kGathers[vnm_index(shape)](args);
}

}  // namespace pare::kernels
