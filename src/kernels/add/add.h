// Y[i] = format::add_codes(A[i], B[i])     uint8 codes, each tensor with a scale and zero point of its own
//
// Preconditions: zero points and qmin within [0, 255], scales as verify accepts them, no sum NaN
// (format/elementwise.h). Rules for kernels: qgemm/qgemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "pare/base/cpu.h"
#include "pare/kernels/add/add_args.h"

namespace pare::kernels {

struct AddKernel {
  const char* name;  // add_u8_<isa>
  Isa isa;
  // Writes elements [begin, end).
  void (*run)(const AddArgs& args, std::int64_t begin, std::int64_t end);
};

[[nodiscard]] std::span<const AddKernel> add_kernels();
[[nodiscard]] const AddKernel& find_add_kernel(Isa isa);

// The semantics: elements [0, elems).
void reference_add(const AddArgs& args, std::int64_t elems);

}  // namespace pare::kernels
