// C[m, n] = epilogue(bias[n] + sum_k (A[m, k] - a_zero_point) * B[n, k])     A uint8, B int8, accumulators int32,
// exact.
//
// A kernel is one row of qgemm_kernels(): dispatch, tests and benchmarks walk that table, which is made from
// qgemm_kernels.inc. Every kernel equals reference_qgemm bit for bit. Pointers and strides only: no allocation,
// threads, exceptions or environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/qgemm/qgemm_args.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

struct QGemmKernel {
  const char* name;  // qgemm_u8_s8_<format>_<mr>x<nr>_<isa>
  Isa isa;
  WeightFormat format;
  std::int64_t n_tile;  // run() takes column ranges that start at multiples of this
  const char* note;     // why it does not use zeros, where it never does, or ""
  // False if the zeros of these weights save nothing here. pack() then takes them only in a scalar row, which expands
  // them; a planner decodes them and takes the dense row.
  bool (*uses_zeros)(const CanonicalWeights& weights);
  // Bytes that pack() writes; the caller aligns them to 64.
  std::size_t (*packed_bytes)(const CanonicalWeights& weights);
  void (*pack)(const CanonicalWeights& weights, void* packed);
  // Bytes that run() scratches on; args.packed must be set. Depends on that and on the args' m, n and k only. 0 for
  // kernels that need none.
  std::size_t (*scratch_bytes)(const QGemmArgs& args);
  // Computes columns [n_begin, n_end) of rows [m_begin, m_end). `scratch`: scratch_bytes(args), aligned to 64, of any
  // content. Calls on disjoint parts of C with scratch of their own may run at the same time.
  void (*run)(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin, std::int64_t n_end,
              void* scratch);
};

// Weakest instruction set first.
[[nodiscard]] std::span<const QGemmKernel> qgemm_kernels();
// The kernel for this format on this ISA or the nearest weaker one; never null.
[[nodiscard]] const QGemmKernel& find_qgemm_kernel(WeightFormat format, Isa isa);

// The semantics: all of C, from weights as stored (`args.packed` is not read).
void reference_qgemm(const QGemmArgs& args, const CanonicalWeights& weights, WeightFormat format);

}  // namespace pare::kernels
