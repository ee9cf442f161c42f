// softmax(Q K^T / sqrt(d)) V of every head, on uint8 codes, both products in exact integers. For one head and query i:
//
//   z_j = float(sum over c of (q_ic - q_zero_point) * (k_jc - 128)) * score_scale         float32, format/affine.h
//   e_j = rint(255 * exp_nonpositive(z_j - max z))                                         0 to 255, the largest is 255
//   y_c = (float(sum over j of e_j * (v_jc - 128)) * (1 / float(sum e_j)) + float(128 - v_zero_point)) * v_scale
//
// y as float32 or quantized. No product needs the zero point of K or V: another one moves all scores of a row alike,
// which the softmax takes out (so K's is not asked for), and a weighted mean of v as much as each v. The weights e_j
// are rounded before they are divided by their sum, so the largest always has all 8 bits, however many keys share a
// row.
//
// Preconditions: score_scale * 2^31 finite, length and head_elems at most graph::kMaxReductionElems, 33155, so that no
// sum leaves int32 and float32 holds the sum of e_j. Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/attention/attention_args.h"

namespace pare::kernels {

struct AttentionKernel {
  const char* name;  // attention_u8_<isa>
  Isa isa;
  // Bytes that run() scratches on.
  std::size_t (*scratch_bytes)(const AttentionArgs& args);
  // Computes heads [begin, end), where head i is head i % heads of image i / heads. `scratch`: aligned to 64.
  void (*run)(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch);
};

[[nodiscard]] std::span<const AttentionKernel> attention_kernels();
[[nodiscard]] const AttentionKernel& find_attention_kernel(Isa isa);

// The semantics, and the scalar kernel: `scratch` holds `length` floats.
void reference_attention(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch);

}  // namespace pare::kernels
