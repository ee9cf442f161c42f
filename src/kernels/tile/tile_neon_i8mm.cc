// usdot takes u8 and s8 as they are.
#include <arm_neon.h>

#include <cstdint>

namespace pare::kernels {
namespace {

struct Dot {
  static constexpr std::uint8_t kFlip = 0;
  static constexpr std::int32_t kShift = 0;
  static int32x4_t add(int32x4_t acc, int8x16_t w, uint8x16_t x) { return vusdotq_s32(acc, x, w); }
};

}  // namespace
}  // namespace pare::kernels

#include "pare/kernels/tile/tile_neon.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

TileKernel tile_dense_neon_i8mm(std::int64_t rows, std::int64_t vectors) { return dense_kernel(rows, vectors); }

TileKernel tile_two_four_neon_i8mm(std::int64_t rows, std::int64_t vectors, TileControl control) {
  return two_four_kernel(rows, vectors, control);
}

void prepare_epilogue_neon_i8mm(const PanelEpilogueSource& source, PanelEpilogue& epilogue) {
  prepare_epilogue(source, epilogue);
}

}  // namespace pare::kernels
