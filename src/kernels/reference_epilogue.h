// The end of every reference: one accumulator to one output, by format/affine.h.
#pragma once

#include <cstdint>

#include "pare/format/affine.h"
#include "pare/kernels/epilogue.h"

namespace pare::kernels {

// Writes element `index` of `out` from the accumulator of row `row`, channel `channel`, bias included.
inline void reference_epilogue(const Epilogue& epilogue, std::int64_t acc, std::int64_t row, std::int64_t channel,
                               void* out, std::int64_t index) {
  const auto exact = static_cast<std::int32_t>(acc);
  const float multiplier = epilogue.multiplier[channel];
  if (epilogue.output == Epilogue::Output::kU8) {
    const std::int32_t code =
        format::requantize(exact, multiplier, epilogue.zero_point, {epilogue.qmin, epilogue.qmax});
    static_cast<std::uint8_t*>(out)[index] = static_cast<std::uint8_t>(code);
  } else {
    float real = static_cast<float>(exact) * multiplier;
    if (epilogue.row_scale != nullptr) real = real * epilogue.row_scale[row] + epilogue.real_bias[channel];
    static_cast<float*>(out)[index] = epilogue.relu && real < 0.0F ? 0.0F : real;
  }
}

}  // namespace pare::kernels
