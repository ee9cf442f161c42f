// pare's products of real activations as contestants: quantized row by row as they come, times int4 or int8 weights,
// real outputs.
#pragma once

#include <cstdint>
#include <memory>

#include "bench/contestants.h"
#include "pare/kernels/matmul_nbits/matmul_nbits.h"

namespace pare::bench {

class RealGemmField {
 public:
  RealGemmField(const GemmShape& shape, std::uint64_t seed);

  // MatMulNBits; of the pattern "dense" or "2:4".
  [[nodiscard]] Prepared int4(const Pattern& pattern, std::int64_t group, Isa isa) const;
  // DynamicQuantizeMatMul. Precondition: one layer.
  [[nodiscard]] Prepared dynamic_int8(const Pattern& pattern, Isa isa) const;

 private:
  GemmShape shape_;
  std::uint64_t seed_;
  std::shared_ptr<HugeBuffer<float>> x_;
};

}  // namespace pare::bench
