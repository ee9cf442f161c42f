#include "pare/runtime/operators_elementwise.h"

#include <utility>

#include "pare/runtime/operator_work.h"

namespace pare::runtime {

Add::Add(const kernels::AddKernel& kernel, kernels::AddArgs args, std::int64_t elems, std::size_t a_offset,
         std::size_t b_offset, std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      elems_(elems),
      a_offset_(a_offset),
      b_offset_(b_offset),
      output_offset_(output_offset) {}

void Add::run(const RunContext& context) const {
  kernels::AddArgs args = args_;
  args.a = at<const std::uint8_t>(context, a_offset_);
  args.b = at<const std::uint8_t>(context, b_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  spread_elems(context, context.batch * elems_, 4,
               [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

GlobalAveragePool::GlobalAveragePool(const kernels::GlobalAveragePoolKernel& kernel,
                                     kernels::GlobalAveragePoolArgs args, std::size_t input_offset,
                                     std::size_t output_offset)
    : kernel_(kernel), args_(args), input_offset_(input_offset), output_offset_(output_offset) {}

void GlobalAveragePool::run(const RunContext& context) const {
  kernels::GlobalAveragePoolArgs args = args_;
  args.x = at<const std::uint8_t>(context, input_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  spread(context, context.batch, args.pixels * args.channels,
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

Depthwise::Depthwise(const kernels::DepthwiseKernel& kernel, kernels::DepthwiseArgs args, AlignedBytes packed,
                     std::size_t input_offset, std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      packed_(std::move(packed)),
      input_offset_(input_offset),
      output_offset_(output_offset) {
  args_.packed = packed_.data();
}

void Depthwise::run(const RunContext& context) const {
  kernels::DepthwiseArgs args = args_;
  args.x = at<const std::uint8_t>(context, input_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  spread(context, context.batch * args.out_h, args.out_w * args.channels * args.kernel_h * args.kernel_w,
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

}  // namespace pare::runtime
