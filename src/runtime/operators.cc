#include "pare/runtime/operators.h"

#include <utility>

#include "pare/runtime/operator_work.h"

namespace pare::runtime {

QConv::QConv(const kernels::QConvKernel& kernel, kernels::QConvArgs args, PackedLayer packed, std::size_t input_offset,
             std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      packed_(std::move(packed)),
      input_offset_(input_offset),
      output_offset_(output_offset) {
  args_.packed = packed_.weights.data();
  args_.epilogue.bias = packed_.bias.data();
  args_.epilogue.multiplier = packed_.multiplier.data();
}

void QConv::run(const RunContext& context) const {
  kernels::QConvArgs args = args_;
  args.x = at<const std::uint8_t>(context, input_offset_);
  args.y = at<std::byte>(context, output_offset_);
  const kernels::QConvShape& s = args.shape;
  const std::int64_t row_work = s.out_w * s.out_c * s.kernel_h * s.kernel_w * s.in_c / kMacsPerByte;
  const std::int64_t rows = context.batch * s.out_h;
  const std::int64_t blocks = block_count(context.pool, rows, row_work);
  context.pool.parallel_for_slots(static_cast<std::size_t>(blocks), [&](std::size_t slot, std::size_t index) {
    const auto block = static_cast<std::int64_t>(index);
    kernel_.run(args, rows * block / blocks, rows * (block + 1) / blocks, scratch_of(context, slot));
  });
}

std::size_t QConv::scratch_bytes() const { return kernel_.scratch_bytes(args_); }

QGemm::QGemm(const kernels::QGemmKernel& kernel, kernels::QGemmArgs args, std::int64_t rows, PackedLayer packed,
             std::size_t input_offset, std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      rows_(rows),
      packed_(std::move(packed)),
      input_offset_(input_offset),
      output_offset_(output_offset) {
  args_.packed = packed_.weights.data();
  args_.epilogue.bias = packed_.bias.data();
  args_.epilogue.multiplier = packed_.multiplier.data();
}

void QGemm::run(const RunContext& context) const {
  kernels::QGemmArgs args = args_;
  args.m = context.batch * rows_;
  args.a = at<const std::uint8_t>(context, input_offset_);
  args.c = at<std::byte>(context, output_offset_);
  spread_product(context, args.m, args.n, args.k, kernel_.n_tile,
                 [&](std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin, std::int64_t n_end,
                     void* scratch) { kernel_.run(args, m_begin, m_end, n_begin, n_end, scratch); });
}

std::size_t QGemm::scratch_bytes() const { return kernel_.scratch_bytes(args_); }

MaxPool::MaxPool(const kernels::MaxPoolKernel& kernel, kernels::MaxPoolArgs args, std::size_t input_offset,
                 std::size_t output_offset)
    : kernel_(kernel), args_(args), input_offset_(input_offset), output_offset_(output_offset) {}

void MaxPool::run(const RunContext& context) const {
  kernels::MaxPoolArgs args = args_;
  args.x = at<const std::uint8_t>(context, input_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  const std::int64_t row_work = args.out_w * args.channels * args.kernel_h * args.kernel_w;
  spread(context, context.batch * args.out_h, row_work,
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

Flatten::Flatten(const kernels::TransposeKernel& kernel, kernels::TransposeArgs args, std::size_t input_offset,
                 std::size_t output_offset)
    : kernel_(kernel), args_(args), input_offset_(input_offset), output_offset_(output_offset) {}

void Flatten::run(const RunContext& context) const {
  kernels::TransposeArgs args = args_;
  args.x = at<const std::uint8_t>(context, input_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  spread(context, context.batch, args.channels * args.pixels,
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

}  // namespace pare::runtime
