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

kernels::RealOutput RealDestination::in(const RunContext& context) const {
  kernels::RealOutput y;
  if (codes) {
    y.codes = at<std::uint8_t>(context, offset);
    y.scale = params.scale;
    y.zero_point = params.zero_point;
  } else {
    y.real = at<float>(context, offset);
  }
  return y;
}

// Work of the functions below, in bytes moved that take as long (operator_work.h).
constexpr std::int64_t kGeluWork = 16;
constexpr std::int64_t kLayerNormWork = 8;

Gelu::Gelu(const kernels::GeluKernel& kernel, std::int64_t elems, std::size_t input_offset, RealDestination output)
    : kernel_(kernel), elems_(elems), input_offset_(input_offset), output_(output) {}

void Gelu::run(const RunContext& context) const {
  const kernels::GeluArgs args{input_at<float>(context, input_offset_), output_.in(context)};
  spread_elems(context, context.batch * elems_, kGeluWork,
               [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

LayerNorm::LayerNorm(const kernels::LayerNormKernel& kernel, std::vector<float> weight, std::vector<float> bias,
                     float epsilon, std::int64_t rows, std::size_t input_offset, RealDestination output)
    : kernel_(kernel),
      weight_(std::move(weight)),
      bias_(std::move(bias)),
      epsilon_(epsilon),
      rows_(rows),
      input_offset_(input_offset),
      output_(output) {}

void LayerNorm::run(const RunContext& context) const {
  const auto features = static_cast<std::int64_t>(weight_.size());
  const kernels::LayerNormArgs args{
      features, input_at<float>(context, input_offset_), weight_.data(), bias_.data(), epsilon_, output_.in(context)};
  spread(context, context.batch * rows_, kLayerNormWork * features,
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
}

Attention::Attention(const kernels::AttentionKernel& kernel, kernels::AttentionArgs args, std::size_t q_offset,
                     std::size_t k_offset, std::size_t v_offset, RealDestination output)
    : kernel_(kernel), args_(args), q_offset_(q_offset), k_offset_(k_offset), v_offset_(v_offset), output_(output) {}

void Attention::run(const RunContext& context) const {
  kernels::AttentionArgs args = args_;
  args.q = at<const std::uint8_t>(context, q_offset_);
  args.k = at<const std::uint8_t>(context, k_offset_);
  args.v = at<const std::uint8_t>(context, v_offset_);
  args.y = output_.in(context);
  const std::int64_t heads = context.batch * args.heads;
  const std::int64_t blocks =
      block_count(context.pool, heads, 2 * args.length * args.length * args.head_elems / kMacsPerByte);
  context.pool.parallel_for_slots(static_cast<std::size_t>(blocks), [&](std::size_t slot, std::size_t index) {
    const auto block = static_cast<std::int64_t>(index);
    kernel_.run(args, heads * block / blocks, heads * (block + 1) / blocks, scratch_of(context, slot));
  });
}

std::size_t Attention::scratch_bytes() const { return kernel_.scratch_bytes(args_); }

}  // namespace pare::runtime
