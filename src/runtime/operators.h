// What the steps of a plan do: each hands a kernel its operands and spreads the work over the thread pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pare/base/threads.h"
#include "pare/kernels/pool/max_pool.h"
#include "pare/kernels/qconv/qconv.h"
#include "pare/kernels/qgemm/qgemm.h"
#include "pare/kernels/transpose/transpose.h"
#include "pare/runtime/arena.h"

namespace pare::runtime {

// One slice of a run.
struct RunContext {
  ThreadPool& pool;
  std::byte* arena;
  std::int64_t batch;
  const std::uint8_t* raw;  // input: images, NCHW, raw
  const float* real;        // or float32: normalized images or what else the graph takes; the other is null
  std::byte* scratch;       // one piece a thread of the pool, each scratch_stride bytes
  std::size_t scratch_stride;
};

// In place of an offset into the arena: the graph's float32 input, which stays where the caller has it.
inline constexpr std::size_t kGraphInput = ~std::size_t{0};

// Reads and writes at offsets into the arena that the plan chose. run() allocates nothing and does not throw.
class Operator {
 public:
  virtual ~Operator() = default;
  virtual void run(const RunContext& context) const = 0;
  // Bytes of scratch that one thread needs at most.
  [[nodiscard]] virtual std::size_t scratch_bytes() const { return 0; }
};

// Packed weights with what an epilogue points to.
struct PackedLayer {
  AlignedBytes weights;
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
};

class QConv : public Operator {
 public:
  QConv(const kernels::QConvKernel& kernel, kernels::QConvArgs args, PackedLayer packed, std::size_t input_offset,
        std::size_t output_offset);
  void run(const RunContext& context) const override;
  [[nodiscard]] std::size_t scratch_bytes() const override;

 private:
  const kernels::QConvKernel& kernel_;
  kernels::QConvArgs args_;
  PackedLayer packed_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

class QGemm : public Operator {
 public:
  // `rows`: of A, that one of the batch has; `args.m`: of the largest batch that will run.
  QGemm(const kernels::QGemmKernel& kernel, kernels::QGemmArgs args, std::int64_t rows, PackedLayer packed,
        std::size_t input_offset, std::size_t output_offset);
  void run(const RunContext& context) const override;
  [[nodiscard]] std::size_t scratch_bytes() const override;

 private:
  const kernels::QGemmKernel& kernel_;
  kernels::QGemmArgs args_;
  std::int64_t rows_;
  PackedLayer packed_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

class MaxPool : public Operator {
 public:
  MaxPool(const kernels::MaxPoolKernel& kernel, kernels::MaxPoolArgs args, std::size_t input_offset,
          std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::MaxPoolKernel& kernel_;
  kernels::MaxPoolArgs args_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

// Flatten of a value whose NHWC order differs from NCHW.
class Flatten : public Operator {
 public:
  Flatten(const kernels::TransposeKernel& kernel, kernels::TransposeArgs args, std::size_t input_offset,
          std::size_t output_offset);
  void run(const RunContext& context) const override;

 private:
  const kernels::TransposeKernel& kernel_;
  kernels::TransposeArgs args_;
  std::size_t input_offset_;
  std::size_t output_offset_;
};

// Flatten where both orders agree: the output is the input's buffer.
class NoOperation : public Operator {
 public:
  void run(const RunContext& /*context*/) const override {}
};

}  // namespace pare::runtime
