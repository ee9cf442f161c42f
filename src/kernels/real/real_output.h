// Where an operator on reals writes, and as what: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

// Either float32, or codes as format::quantize gives them; the other pointer is null.
struct RealOutput {
  float* real = nullptr;
  std::uint8_t* codes = nullptr;
  float scale = 1.0F;           // of codes
  std::int32_t zero_point = 0;  // of codes
};

}  // namespace pare::kernels
