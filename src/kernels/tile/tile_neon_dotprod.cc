// sdot takes two s8: activations less 128.
#include <arm_neon.h>

#include <cstdint>

namespace pare::kernels {
namespace {

struct Dot {
  static constexpr std::uint8_t kFlip = 0x80;
  static constexpr std::int32_t kShift = 128;
  static int32x4_t add(int32x4_t acc, int8x16_t w, uint8x16_t x) { return vdotq_s32(acc, w, vreinterpretq_s8_u8(x)); }
};

}  // namespace
}  // namespace pare::kernels

#include "pare/kernels/tile/tile_neon.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

TileKernel tile_dense_neon_dotprod(std::int64_t rows, std::int64_t vectors) { return dense_kernel(rows, vectors); }

TileKernel tile_two_four_neon_dotprod(std::int64_t rows, std::int64_t vectors, TileControl control) {
  return two_four_kernel(rows, vectors, control);
}

void prepare_epilogue_neon_dotprod(const PanelEpilogueSource& source, PanelEpilogue& epilogue) {
  prepare_epilogue(source, epilogue);
}

}  // namespace pare::kernels
