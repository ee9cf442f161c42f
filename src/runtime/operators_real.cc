#include "pare/runtime/operators_real.h"

#include <utility>

#include "pare/runtime/operator_work.h"

namespace pare::runtime {

QuantizeImage::QuantizeImage(const kernels::QuantizeKernel& table_kernel, const kernels::QuantizeKernel& affine_kernel,
                             kernels::QuantizeArgs args, std::vector<std::uint8_t> table, std::size_t output_offset)
    : table_kernel_(table_kernel),
      affine_kernel_(affine_kernel),
      args_(args),
      table_(std::move(table)),
      output_offset_(output_offset) {
  args_.table = table_.data();
}

void QuantizeImage::run(const RunContext& context) const {
  kernels::QuantizeArgs args = args_;
  args.raw = context.raw;
  args.real = context.real;
  args.y = at<std::uint8_t>(context, output_offset_);
  const kernels::QuantizeKernel& kernel = context.raw != nullptr ? table_kernel_ : affine_kernel_;
  spread(context, context.batch * args.pixels, args.channels,
         [&](std::int64_t begin, std::int64_t end) { kernel.run(args, begin, end); });
}

Quantize::Quantize(const kernels::QuantizeKernel& kernel, format::AffineParams params, std::int64_t elems,
                   std::size_t input_offset, std::size_t output_offset)
    : kernel_(kernel), elems_(elems), input_offset_(input_offset), output_offset_(output_offset) {
  args_.channels = 1;
  args_.scale = params.scale;
  args_.zero_point = params.zero_point;
}

void Quantize::run(const RunContext& context) const {
  kernels::QuantizeArgs args = args_;
  args.pixels = context.batch * elems_;  // all as one plane
  args.real = input_at<float>(context, input_offset_);
  args.y = at<std::uint8_t>(context, output_offset_);
  spread_elems(context, args.pixels, 1, [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

Dequantize::Dequantize(const kernels::DequantizeKernel& kernel, format::AffineParams params, std::int64_t elems,
                       std::size_t input_offset, std::size_t output_offset)
    : kernel_(kernel), params_(params), elems_(elems), input_offset_(input_offset), output_offset_(output_offset) {}

void Dequantize::run(const RunContext& context) const {
  const kernels::DequantizeArgs args{at<const std::uint8_t>(context, input_offset_), at<float>(context, output_offset_),
                                     params_.scale, params_.zero_point};
  spread_elems(context, context.batch * elems_, 1,
               [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

AddReal::AddReal(const kernels::AddRealKernel& kernel, std::int64_t elems, std::size_t a_offset, std::size_t b_offset,
                 std::size_t output_offset)
    : kernel_(kernel), elems_(elems), a_offset_(a_offset), b_offset_(b_offset), output_offset_(output_offset) {}

void AddReal::run(const RunContext& context) const {
  const auto* a = input_at<float>(context, a_offset_);
  const auto* b = input_at<float>(context, b_offset_);
  auto* y = at<float>(context, output_offset_);
  spread_elems(context, context.batch * elems_, 4, [&](std::int64_t begin, std::int64_t end) {
    kernel_.run(a + begin, b + begin, y + begin, end - begin);
  });
}

}  // namespace pare::runtime
