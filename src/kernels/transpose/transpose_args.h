// Operands of a transposition: a plain struct, for files of one instruction set.
#pragma once

#include <cstdint>

namespace pare::kernels {

struct TransposeArgs {
  std::int64_t channels = 0;
  std::int64_t pixels = 0;
  const std::uint8_t* x = nullptr;  // [batch][pixels][channels]
  std::uint8_t* y = nullptr;        // [batch][channels][pixels]
};

#if defined(__x86_64__)
void run_transpose_avx2(const TransposeArgs& args, std::int64_t begin, std::int64_t end);
#endif

}  // namespace pare::kernels
