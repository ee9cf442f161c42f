// Dynamic quantization of activations, each row by its own largest magnitude (symmetric per token, as TorchAO's
// Int8DynamicActivationInt8WeightConfig has it by default):
//
//   scale[m]    = max(max over k of |x[m, k]| / 127, format::kMinScale)     NaN is not counted
//   codes[m, k] = format::quantize(x[m, k], {scale[m], 0}, [-127, 127]) + zero_point      NaN gives code 0
//
// so x is about scale * (code - zero_point), and 0 is exact. zero_point is 0 where a kernel reads int8 and 128 where it
// reads uint8; it is the same quantization. An infinity makes the scale of its row infinite and all codes 0: the row's
// results are NaN. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/quantize_rows/quantize_rows_args.h"

namespace pare::kernels {

struct QuantizeRowsKernel {
  const char* name;  // quantize_rows_f32_s8_<isa>
  Isa isa;
  // Rows [m_begin, m_end).
  void (*run)(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end);
};

// Weakest instruction set first.
[[nodiscard]] std::span<const QuantizeRowsKernel> quantize_rows_kernels();
[[nodiscard]] const QuantizeRowsKernel& find_quantize_rows_kernel(Isa isa);

// The semantics: rows [0, m).
void reference_quantize_rows(const QuantizeRowsArgs& args, std::int64_t m);

}  // namespace pare::kernels
