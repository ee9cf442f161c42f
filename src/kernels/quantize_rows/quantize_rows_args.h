// Operands of a quantization of rows (quantize_rows.h): a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct QuantizeRowsArgs {
  const float* x = nullptr;
  std::int64_t x_stride_elems = 0;  // between rows
  std::int64_t k = 0;
  std::uint8_t* codes = nullptr;
  std::int64_t codes_stride_bytes = 0;  // between rows; at least k_padded
  std::int64_t k_padded = 0;            // bytes [k, k_padded) of a row become the code of 0
  std::uint8_t zero_point = 0;          // 0: codes are int8; 128: uint8
  float* scale = nullptr;               // one a row
};

#if defined(__x86_64__)
void run_quantize_rows_avx2(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end);
void run_quantize_rows_avx512vnni(const QuantizeRowsArgs& args, std::int64_t m_begin, std::int64_t m_end);
#endif

}  // namespace pare::kernels
