// Products of float32 activations that are quantized row by row as they come (kernels/quantize_rows), and give float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pare/kernels/matmul_nbits/matmul_nbits.h"
#include "pare/kernels/quantize_rows/quantize_rows.h"
#include "pare/runtime/operators.h"

namespace pare::runtime {

// The activations of one product as codes, in memory of the arena that belongs to the node while it runs.
class QuantizedRows {
 public:
  // `rows`: that one of the batch has. `workspace_offset`: of workspace_bytes(max_batch * rows, k).
  QuantizedRows(const kernels::QuantizeRowsKernel& kernel, std::int64_t k, std::int64_t rows, std::int64_t max_batch,
                std::uint8_t zero_point, std::size_t input_offset, std::size_t workspace_offset);

  struct Codes {
    const std::uint8_t* codes;
    const float* scale;
    std::int64_t m;
  };
  // Quantizes the slice's rows, in parallel.
  [[nodiscard]] Codes run(const RunContext& context) const;
  [[nodiscard]] std::int64_t stride_bytes() const;
  [[nodiscard]] static std::size_t workspace_bytes(std::int64_t m, std::int64_t k);

 private:
  const kernels::QuantizeRowsKernel& kernel_;
  std::int64_t k_;
  std::int64_t rows_;
  std::int64_t max_rows_;
  std::uint8_t zero_point_;
  std::size_t input_offset_;
  std::size_t workspace_offset_;
};

class DynamicQuantizeMatMul : public Operator {
 public:
  // `args.m`: of the largest batch that will run, here and below.
  DynamicQuantizeMatMul(const kernels::QGemmKernel& kernel, kernels::QGemmArgs args, QuantizedRows a,
                        PackedLayer packed, std::vector<float> bias, std::size_t output_offset);
  void run(const RunContext& context) const override;
  [[nodiscard]] std::size_t scratch_bytes() const override;

 private:
  const kernels::QGemmKernel& kernel_;
  kernels::QGemmArgs args_;
  QuantizedRows a_;
  PackedLayer packed_;
  std::vector<float> bias_;
  std::size_t output_offset_;
};

class MatMulNBits : public Operator {
 public:
  MatMulNBits(const kernels::MatMulNBitsKernel& kernel, kernels::MatMulNBitsArgs args, QuantizedRows a,
              AlignedBytes packed, std::vector<float> bias, std::size_t output_offset);
  void run(const RunContext& context) const override;
  [[nodiscard]] std::size_t scratch_bytes() const override;

 private:
  const kernels::MatMulNBitsKernel& kernel_;
  kernels::MatMulNBitsArgs args_;
  QuantizedRows a_;
  AlignedBytes packed_;
  std::vector<float> bias_;
  std::size_t output_offset_;
};

}  // namespace pare::runtime
