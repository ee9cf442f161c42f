// Y[b, oy, ox, o] = epilogue(bias[o] + sum_{ky, kx, i} (X[b, iy, ix, i] - x_zero_point) * W[o, ky, kx, i])
// with iy = oy * stride_h + ky * dilation_h - pad_top, ix likewise. X uint8 NHWC; taps in the padding count as real 0.
// Weights in the order O, kh, kw, I. No im2col is materialized. See qgemm.h for the rules that every kernel obeys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/qconv/qconv_args.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

struct QConvKernel {
  const char* name;  // qconv_u8_s8_<format>_<pixels>x<channels>_<isa>
  Isa isa;
  WeightFormat format;
  const char* note;  // why it does not use zeros, where it never does, or ""
  // False if the zeros of these weights save nothing here. pack() then takes them only in a scalar row, which expands
  // them; a planner decodes them and takes the dense row.
  bool (*uses_zeros)(const CanonicalWeights& weights);
  // CanonicalWeights with n = out_c, segments = kernel_h * kernel_w, segment_elems = in_c, line_segments = kernel_w
  // (1 if the kernel is dilated along w); dense `values` in O, kh, kw,
  // I. Bytes that pack() writes; the caller aligns them to 64.
  std::size_t (*packed_bytes)(const CanonicalWeights& weights);
  void (*pack)(const CanonicalWeights& weights, void* packed);
  // Bytes that run() scratches on; args.packed must be set. Depends on that and on the args' shape only. 0 for kernels
  // that need none.
  std::size_t (*scratch_bytes)(const QConvArgs& args);
  // Computes output rows [row_begin, row_end), where row r is image r / out_h, line r % out_h. `scratch`:
  // scratch_bytes(args), aligned to 64, of any content. Calls on disjoint ranges with scratch of their own may run at
  // the same time.
  void (*run)(const QConvArgs& args, std::int64_t row_begin, std::int64_t row_end, void* scratch);
};

// Weakest instruction set first.
[[nodiscard]] std::span<const QConvKernel> qconv_kernels();
// The kernel for this format on this ISA or the nearest weaker one; never null.
[[nodiscard]] const QConvKernel& find_qconv_kernel(WeightFormat format, Isa isa);

// The semantics: rows [0, rows) of Y, from weights as stored (`args.packed` is not read).
void reference_qconv(const QConvArgs& args, const CanonicalWeights& weights, WeightFormat format, std::int64_t rows);

}  // namespace pare::kernels
