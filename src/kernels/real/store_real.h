// How the scalar kernels write a RealOutput.
#pragma once

#include <cstdint>

#include "pare/format/affine.h"
#include "pare/kernels/real/real_output.h"

namespace pare::kernels {

inline void store_real(const RealOutput& y, std::int64_t index, float value) {
  if (y.codes == nullptr) {
    y.real[index] = value;
  } else {
    y.codes[index] = static_cast<std::uint8_t>(format::quantize(value, {y.scale, y.zero_point}, format::kUint8Range));
  }
}

}  // namespace pare::kernels
