// Operators that read or write float32 and have no weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pare/format/affine.h"
#include "pare/kernels/add/add_real.h"
#include "pare/kernels/dequantize/dequantize.h"
#include "pare/kernels/quantize/quantize.h"
#include "pare/runtime/operators.h"

namespace pare::runtime {

// Of the graph's input, where that is an image: raw or normalized, from NCHW to NHWC.
class QuantizeImage : public Operator {
 public:
  // `args` without batch pointers; `table` is [channels][256].
  QuantizeImage(const kernels::QuantizeKernel& table_kernel, const kernels::QuantizeKernel& affine_kernel,
                kernels::QuantizeArgs args, std::vector<std::uint8_t> table, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::QuantizeKernel& table_kernel_;
  const kernels::QuantizeKernel& affine_kernel_;
  kernels::QuantizeArgs args_;
  std::vector<std::uint8_t> table_;
  std::size_t output_offset_;
};

// Element by element, whatever the order. `elems`: of one image, here and below.
class Quantize : public Operator {
 public:
  Quantize(const kernels::QuantizeKernel& kernel, format::AffineParams params, std::int64_t elems,
           std::size_t input_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::QuantizeKernel& kernel_;
  kernels::QuantizeArgs args_;
  std::int64_t elems_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

class Dequantize : public Operator {
 public:
  Dequantize(const kernels::DequantizeKernel& kernel, format::AffineParams params, std::int64_t elems,
             std::size_t input_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::DequantizeKernel& kernel_;
  format::AffineParams params_;
  std::int64_t elems_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

class AddReal : public Operator {
 public:
  AddReal(const kernels::AddRealKernel& kernel, std::int64_t elems, std::size_t a_offset, std::size_t b_offset,
          std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::AddRealKernel& kernel_;
  std::int64_t elems_;
  std::size_t a_offset_;
  std::size_t b_offset_;
  std::size_t output_offset_;
};

}  // namespace pare::runtime
