// C[m, n] = A[m, k] times int4 weights B[n, k], groups along k (ONNX Runtime's contrib operator MatMulNBits; there with
// accuracy_level 4, which multiplies in int8). A is quantized row by row first (quantize_rows.h):
//
//   sum[g]  = sum over k of group g of (a[m, k] - a_zero_point) * code[n, k]          exact: |sum| < 2^19
//   total   = 0; for g = 0, 1, …: total = total + float(sum[g]) * scale[n, g]         float32, each step rounded
//   C[m, n] = total * a_scale[m] + bias[n]                                            float32, each step rounded,
//                                                                                     limited to >= 0 if `relu`
//
// In this order everywhere, so every kernel equals reference_matmul_nbits bit for bit, dense and 2:4 alike. One scale a
// row of A, not one a group: it costs nothing inside the loop, and TorchAO's int8 dynamic activations have it so.
//
// A kernel is one row of matmul_nbits_kernels(), as qgemm.h has it; the rules for kernels are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/matmul_nbits/matmul_nbits_args.h"

namespace pare::kernels {

struct MatMulNBitsKernel {
  const char* name;  // matmul_nbits_s8_s4_<format>_<mr>x<nr>_<isa>
  Isa isa;
  NBitsForm form;
  std::uint8_t a_zero_point;  // of the codes that it reads: 0 or 128
  // Bytes that pack() writes; the caller aligns them to 64.
  std::size_t (*packed_bytes)(const NBitsWeights& weights);
  void (*pack)(const NBitsWeights& weights, void* packed);
  // As in QGemmKernel; column ranges start at multiples of kNBitsColumns.
  std::size_t (*scratch_bytes)(const MatMulNBitsArgs& args);
  void (*run)(const MatMulNBitsArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
              std::int64_t n_end, void* scratch);
};

// Weakest instruction set first.
[[nodiscard]] std::span<const MatMulNBitsKernel> matmul_nbits_kernels();
// The kernel for this form on this ISA or the nearest weaker one.
[[nodiscard]] const MatMulNBitsKernel& find_matmul_nbits_kernel(NBitsForm form, Isa isa);

// The semantics: all of C, from weights as stored (`args.packed` is not read). `a_zero_point`: of the codes in args.a.
void reference_matmul_nbits(const MatMulNBitsArgs& args, const NBitsWeights& weights, NBitsForm form,
                            std::uint8_t a_zero_point);

}  // namespace pare::kernels
