// Convolutions and matrix products: the kernel for a weight's form, the packed weight, the epilogue.
#include <span>
#include <utility>

#include "pare/base/strings.h"
#include "pare/graph/weights.h"
#include "pare/runtime/operators.h"
#include "pare/runtime/operators_dynamic.h"
#include "pare/runtime/operators_elementwise.h"
#include "pare/runtime/planner.h"

namespace pare::runtime {

namespace {

// Weights in the form in which they are stored.
kernels::CanonicalWeights as_stored(const graph::Initializer& weight, std::int64_t line_segments) {
  kernels::CanonicalWeights canonical = canonical_shape(weight.shape, line_segments);
  canonical.vnm = weight.vnm;
  canonical.block = weight.block;
  canonical.values = weight.data.as<std::int8_t>().data();
  canonical.indices = weight.indices.as<std::uint8_t>().data();
  return canonical;
}

kernels::WeightFormat format_of(const graph::Initializer& weight) {
  switch (weight.encoding) {
    case graph::Encoding::kTwoFour:
      return kernels::WeightFormat::kTwoFour;
    case graph::Encoding::kVnm:
      return kernels::WeightFormat::kVnm;
    case graph::Encoding::kBlock:
      return kernels::WeightFormat::kBlock;
    case graph::Encoding::kDense:
    case graph::Encoding::kInt4:
    case graph::Encoding::kInt4TwoFour:
      break;
  }
  return kernels::WeightFormat::kDense;
}

}  // namespace

kernels::Epilogue Planner::epilogue_of(const graph::Node& node) const {
  const bool relu = node.string_attribute("fused_activation", "") == "Relu";
  kernels::Epilogue epilogue;
  if (values_.at(node.output).dtype == DType::kF32) {
    epilogue.output = kernels::Epilogue::Output::kF32;
    epilogue.relu = relu;
  } else {
    epilogue.zero_point = params_of(node.output).zero_point;
    epilogue.qmin = relu ? epilogue.zero_point : 0;
  }
  return epilogue;
}

template <typename Kernel>
PackedLayer Planner::pack_weights(const graph::Node& node, const Kernel& kernel, std::int64_t line_segments,
                                  PlannedLayer& layer) const {
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  kernels::CanonicalWeights weights = as_stored(weight, line_segments);
  std::vector<std::int8_t> decoded;  // dense codes in group order, where the stored bytes are not that
  if (kernel.format == kernels::WeightFormat::kDense &&
      (weight.encoding != graph::Encoding::kDense || weights.segments > 1)) {
    decoded = graph::codes_in_group_order(weight);
    weights.values = decoded.data();
  }
  PackedLayer packed;
  packed.weights = AlignedBytes(kernel.packed_bytes(weights));
  kernel.pack(weights, packed.weights.data());
  describe_weight(node, kernel.name, packed.weights.size(), layer);
  return packed;
}

template <typename Kernel>
PackedLayer Planner::pack(const graph::Node& node, const Kernel& kernel, std::int64_t line_segments,
                          PlannedLayer& layer) const {
  PackedLayer packed = pack_weights(node, kernel, line_segments, layer);
  const std::span<const std::int32_t> bias = graph_.initializers.at(node.inputs[2]).data.template as<std::int32_t>();
  packed.bias.assign(bias.begin(), bias.end());
  const float input_scale = params_of(node.inputs[0]).scale;
  const bool to_float = values_.at(node.output).dtype == DType::kF32;
  for (const float weight_scale : graph_.initializers.at(node.inputs[1]).quantization->scales) {
    const float scale = format::accumulator_scale(input_scale, weight_scale);
    packed.multiplier.push_back(to_float ? scale : format::requantize_multiplier(scale, params_of(node.output).scale));
  }
  return packed;
}

void Planner::describe_weight(const graph::Node& node, const char* kernel, std::size_t packed_bytes,
                              PlannedLayer& layer) const {
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  layer.kernel = kernel;
  layer.pattern = weight.pattern();
  layer.weight_bytes = static_cast<std::int64_t>(packed_bytes);
  // Pixels of a convolution, rows of a product: every output is one of weight.shape[0] channels.
  layer.macs = element_count(weight.shape) * (element_count(layer.output_shape) / weight.shape[0]);
  for (const graph::LayerPromise& promise : artifact_.promises) {
    if (promise.weight != node.inputs[1]) continue;
    layer.pattern = promise.pattern;
    add_note(promise.note, layer);
  }
}

template <typename Kernel>
const Kernel& Planner::choose(const graph::Initializer& weight, std::int64_t m,
                              const Kernel& (*find)(kernels::WeightFormat format, Isa isa), std::int64_t line_segments,
                              PlannedLayer& layer) const {
  using kernels::WeightFormat;
  const Kernel& stored = find(format_of(weight), isa_);
  if (stored.format == WeightFormat::kDense) return stored;
  const kernels::CanonicalWeights weights = as_stored(weight, line_segments);
  if (!stored.uses_zeros(weights)) {
    const std::string reason = *stored.note != '\0' ? stored.note : "no kernel for this pattern at this shape";
    add_note(str_cat("stored ", weight.pattern(), ", run dense: ", reason), layer);
    return find(WeightFormat::kDense, isa_);
  }
  if (const auto chosen = overrides_.find(layer.name); chosen != overrides_.end()) {
    add_note(chosen->second.note, layer);
    return chosen->second.as_stored ? stored : find(WeightFormat::kDense, isa_);
  }
  const LayerWork work = work_of(m, weights);
  const double kept = static_cast<double>(weight.data.bytes().size()) / static_cast<double>(work.n * work.k);
  const FormatChoice choice = choose_format(work, stored.format, weight.vnm, isa_, cpu_vendor(), {weight.block, kept});
  add_note(choice.note, layer);
  return choice.format == stored.format ? stored : find(WeightFormat::kDense, isa_);
}

std::unique_ptr<Operator> Planner::conv(const graph::Node& node, PlannedLayer& layer) {
  return node.is_depthwise() ? depthwise(node, layer) : dense_conv(node, layer);
}

std::unique_ptr<Operator> Planner::dense_conv(const graph::Node& node, PlannedLayer& layer) {
  const PlannedValue& input = values_.at(node.inputs[0]);
  const PlannedValue& output = values_.at(node.output);
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  const graph::Window window = graph::window_of(graph_, node);
  const std::int64_t line_segments = window.dilation_w == 1 ? window.kernel_w : 1;
  const std::int64_t pixels = output.shape[1] * output.shape[2];
  const kernels::QConvKernel& kernel = choose(weight, pixels, kernels::find_qconv_kernel, line_segments, layer);
  kernels::QConvArgs args;
  set_extents(input, output, window, args.shape);
  args.shape.in_c = input.shape[0];
  args.shape.out_c = output.shape[0];
  args.x_zero_point = params_of(node.inputs[0]).zero_point;
  args.epilogue = epilogue_of(node);
  return std::make_unique<QConv>(kernel, args, pack(node, kernel, line_segments, layer), input.offset, output.offset);
}

std::unique_ptr<Operator> Planner::depthwise(const graph::Node& node, PlannedLayer& layer) {
  const PlannedValue& input = values_.at(node.inputs[0]);
  const PlannedValue& output = values_.at(node.output);
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  const graph::Window window = graph::window_of(graph_, node);
  const kernels::DepthwiseKernel& kernel = kernels::find_depthwise_kernel(isa_);
  const kernels::Epilogue epilogue = epilogue_of(node);
  const format::AffineParams input_params = params_of(node.inputs[0]);
  const format::AffineParams output_params = params_of(node.output);
  std::vector<float> multipliers;
  for (const float weight_scale : weight.quantization->scales) {
    multipliers.push_back(format::requantize_multiplier(format::accumulator_scale(input_params.scale, weight_scale),
                                                        output_params.scale));
  }
  // One channel a segment: group order is [channels][taps], whatever the encoding.
  const std::vector<std::int8_t> codes = graph::codes_in_group_order(weight);
  const kernels::DepthwiseWeights weights{.channels = input.shape[0],
                                          .kernel_h = window.kernel_h,
                                          .kernel_w = window.kernel_w,
                                          .values = codes.data(),
                                          .bias = graph_.initializers.at(node.inputs[2]).data.as<std::int32_t>().data(),
                                          .multiplier = multipliers.data(),
                                          .x_zero_point = input_params.zero_point};
  AlignedBytes packed(kernel.packed_bytes(weights));
  kernel.pack(weights, packed.data());
  kernels::DepthwiseArgs args;
  set_extents(input, output, window, args);
  args.channels = input.shape[0];
  args.x_zero_point = input_params.zero_point;
  args.y_zero_point = epilogue.zero_point;
  args.qmin = epilogue.qmin;
  describe_weight(node, kernel.name, packed.size(), layer);
  add_note(kernel.note, layer);
  return std::make_unique<Depthwise>(kernel, args, std::move(packed), input.offset, output.offset);
}

std::unique_ptr<Operator> Planner::gemm(const graph::Node& node, PlannedLayer& layer) {
  const PlannedValue& input = values_.at(node.inputs[0]);
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  const std::int64_t n = weight.shape[0];
  const std::int64_t k = weight.shape[1];
  const std::int64_t rows = input.elems / k;  // of one image, or whatever one of the batch is
  const kernels::QGemmKernel& kernel = choose(weight, rows, kernels::find_qgemm_kernel, 1, layer);
  kernels::QGemmArgs args;
  args.a_stride_bytes = k;
  args.a_zero_point = params_of(node.inputs[0]).zero_point;
  args.c_stride_elems = n;
  args.m = max_batch_ * rows;
  args.n = n;
  args.k = k;
  args.epilogue = epilogue_of(node);
  return std::make_unique<QGemm>(kernel, args, rows, pack(node, kernel, 1, layer), input.offset,
                                 values_.at(node.output).offset);
}

std::unique_ptr<Operator> Planner::dynamic_gemm(const graph::Node& node, PlannedLayer& layer) {
  constexpr std::uint8_t kZeroPoint = 128;  // of codes that a kernel for uint8 reads, with 127 steps to either side
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  const std::int64_t rows = rows_of(node);
  const std::int64_t n = weight.shape[0];
  const std::int64_t k = weight.shape[1];
  const kernels::QGemmKernel& kernel = choose(weight, rows, kernels::find_qgemm_kernel, 1, layer);
  PackedLayer packed = pack_weights(node, kernel, 1, layer);
  packed.bias.assign(static_cast<std::size_t>(n), 0);
  packed.multiplier = weight.quantization->scales;
  kernels::QGemmArgs args;
  args.a_zero_point = kZeroPoint;
  args.c_stride_elems = n;
  args.m = max_batch_ * rows;
  args.n = n;
  args.k = k;
  args.epilogue = epilogue_of(node);
  return std::make_unique<DynamicQuantizeMatMul>(kernel, args, quantized_rows(node, kZeroPoint), std::move(packed),
                                                 real_bias(node), values_.at(node.output).offset);
}

}  // namespace pare::runtime
