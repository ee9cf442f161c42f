// Operators that add and average codes, and convolve each channel by itself.
#pragma once

#include <cstddef>

#include "pare/kernels/add/add.h"
#include "pare/kernels/depthwise/depthwise.h"
#include "pare/kernels/pool/global_average_pool.h"
#include "pare/runtime/operators.h"

namespace pare::runtime {

class Add : public Operator {
 public:
  // `elems`: of one image.
  Add(const kernels::AddKernel& kernel, kernels::AddArgs args, std::int64_t elems, std::size_t a_offset,
      std::size_t b_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::AddKernel& kernel_;
  kernels::AddArgs args_;
  std::int64_t elems_;
  std::size_t a_offset_;
  std::size_t b_offset_;
  std::size_t output_offset_;
};

class GlobalAveragePool : public Operator {
 public:
  GlobalAveragePool(const kernels::GlobalAveragePoolKernel& kernel, kernels::GlobalAveragePoolArgs args,
                    std::size_t input_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::GlobalAveragePoolKernel& kernel_;
  kernels::GlobalAveragePoolArgs args_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

class Depthwise : public Operator {
 public:
  // `args` without pointers.
  Depthwise(const kernels::DepthwiseKernel& kernel, kernels::DepthwiseArgs args, AlignedBytes packed,
            std::size_t input_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::DepthwiseKernel& kernel_;
  kernels::DepthwiseArgs args_;
  AlignedBytes packed_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

}  // namespace pare::runtime
