#include "pare/runtime/operators_dynamic.h"

#include <utility>

#include "pare/runtime/operator_work.h"

namespace pare::runtime {

namespace {

// Rows lie further apart than they are long, so that no two compete for one place in the cache.
constexpr std::int64_t kRowSlackBytes = 64;

std::int64_t stride_of(std::int64_t k) { return (kernels::nbits_k_padded(k) + 63) / 64 * 64 + kRowSlackBytes; }

}  // namespace

QuantizedRows::QuantizedRows(const kernels::QuantizeRowsKernel& kernel, std::int64_t k, std::int64_t rows,
                             std::int64_t max_batch, std::uint8_t zero_point, std::size_t input_offset,
                             std::size_t workspace_offset)
    : kernel_(kernel),
      k_(k),
      rows_(rows),
      max_rows_(max_batch * rows),
      zero_point_(zero_point),
      input_offset_(input_offset),
      workspace_offset_(workspace_offset) {}

std::int64_t QuantizedRows::stride_bytes() const { return stride_of(k_); }

std::size_t QuantizedRows::workspace_bytes(std::int64_t m, std::int64_t k) {
  return static_cast<std::size_t>(m) * (static_cast<std::size_t>(stride_of(k)) + sizeof(float));
}

QuantizedRows::Codes QuantizedRows::run(const RunContext& context) const {
  kernels::QuantizeRowsArgs args;
  args.x = input_at<float>(context, input_offset_);
  args.x_stride_elems = k_;
  args.k = k_;
  args.codes = at<std::uint8_t>(context, workspace_offset_);
  args.codes_stride_bytes = stride_of(k_);
  args.k_padded = kernels::nbits_k_padded(k_);
  args.zero_point = zero_point_;
  // After the codes, whose rows are multiples of 64 bytes.
  args.scale = at<float>(context, workspace_offset_ + static_cast<std::size_t>(max_rows_ * stride_of(k_)));
  const std::int64_t m = context.batch * rows_;
  spread(context, m, k_ * static_cast<std::int64_t>(sizeof(float)),
         [&](std::int64_t begin, std::int64_t end) { kernel_.run(args, begin, end); });
  return {args.codes, args.scale, m};
}

DynamicQuantizeMatMul::DynamicQuantizeMatMul(const kernels::QGemmKernel& kernel, kernels::QGemmArgs args,
                                             QuantizedRows a, PackedLayer packed, std::vector<float> bias,
                                             std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      a_(a),
      packed_(std::move(packed)),
      bias_(std::move(bias)),
      output_offset_(output_offset) {
  args_.packed = packed_.weights.data();
  args_.a_stride_bytes = a_.stride_bytes();
  args_.epilogue.bias = packed_.bias.data();
  args_.epilogue.multiplier = packed_.multiplier.data();
  args_.epilogue.real_bias = bias_.data();
}

void DynamicQuantizeMatMul::run(const RunContext& context) const {
  const QuantizedRows::Codes a = a_.run(context);
  kernels::QGemmArgs args = args_;
  args.a = a.codes;
  args.m = a.m;
  args.c = at<std::byte>(context, output_offset_);
  args.epilogue.row_scale = a.scale;
  spread_product(context, args.m, args.n, args.k, kernel_.n_tile,
                 [&](std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin, std::int64_t n_end,
                     void* scratch) { kernel_.run(args, m_begin, m_end, n_begin, n_end, scratch); });
}

std::size_t DynamicQuantizeMatMul::scratch_bytes() const { return kernel_.scratch_bytes(args_); }

MatMulNBits::MatMulNBits(const kernels::MatMulNBitsKernel& kernel, kernels::MatMulNBitsArgs args, QuantizedRows a,
                         AlignedBytes packed, std::vector<float> bias, std::size_t output_offset)
    : kernel_(kernel),
      args_(args),
      a_(a),
      packed_(std::move(packed)),
      bias_(std::move(bias)),
      output_offset_(output_offset) {
  args_.packed = packed_.data();
  args_.a_stride_bytes = a_.stride_bytes();
  args_.bias = bias_.data();
}

void MatMulNBits::run(const RunContext& context) const {
  const QuantizedRows::Codes a = a_.run(context);
  kernels::MatMulNBitsArgs args = args_;
  args.a = a.codes;
  args.a_scale = a.scale;
  args.m = a.m;
  args.c = at<float>(context, output_offset_);
  spread_product(context, args.m, args.n, args.k, kernels::kNBitsColumns,
                 [&](std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin, std::int64_t n_end,
                     void* scratch) { kernel_.run(args, m_begin, m_end, n_begin, n_end, scratch); });
}

std::size_t MatMulNBits::scratch_bytes() const { return kernel_.scratch_bytes(args_); }

}  // namespace pare::runtime
