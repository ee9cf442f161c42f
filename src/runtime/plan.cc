#include "pare/runtime/plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/graph/weights.h"
#include "pare/runtime/format_choice.h"
#include "pare/runtime/operators_elementwise.h"

namespace pare::runtime {

namespace {

// Beyond it an arena is a mistake, not a plan.
constexpr std::size_t kMaxArenaBytes = std::size_t{1} << 38;

class Planner {
 public:
  Planner(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch, const FormatOverrides& overrides)
      : artifact_(artifact), graph_(artifact.graph), isa_(isa), max_batch_(max_batch), overrides_(overrides) {}

  Plan make() {
    plan_.isa = isa_;
    describe_ends();
    place_values();
    for (const graph::Node& node : graph_.nodes) {
      Step step;
      step.layer.name = node.name;
      step.layer.op_type = node.op_type;
      step.output = values_.at(node.output);
      step.layer.output_shape = step.output.shape;
      step.op = make_operator(node, step.layer);
      step.layer.activation_bytes = activation_bytes(node);
      const std::size_t scratch = (step.op->scratch_bytes() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
      plan_.scratch_bytes = std::max(plan_.scratch_bytes, scratch);
      plan_.steps.push_back(std::move(step));
    }
    return std::move(plan_);
  }

 private:
  [[nodiscard]] std::string where() const { return str_cat("graph '", graph_.name, "'"); }

  void describe_ends() {
    const Shape& input = graph_.values.at(graph_.input).shape;
    const graph::Value& output = graph_.values.at(graph_.output);
    PARE_CHECK(input.size() == 4 && output.shape.size() == 2 && output.dtype == DType::kF32);
    PARE_CHECK(graph_.nodes.back().output == graph_.output);
    plan_.input_shape = {input[1], input[2], input[3]};
    plan_.input_elems = element_count(plan_.input_shape);
    plan_.classes = output.shape[1];
  }

  // A Flatten that moves nothing: one channel, or one pixel, or flat already.
  [[nodiscard]] static bool is_alias(const graph::Node& node, const PlannedValue& input) {
    return node.op_type == "Flatten" &&
           (!input.channels_last || input.shape[0] == 1 || input.shape[1] * input.shape[2] == 1);
  }

  // What the node reads and writes of one image. The graph's input counts as raw pixels.
  [[nodiscard]] std::int64_t activation_bytes(const graph::Node& node) const {
    const auto bytes = [](const PlannedValue& value) {
      return value.elems * static_cast<std::int64_t>(size_bytes(value.dtype));
    };
    std::int64_t sum = bytes(values_.at(node.output));
    for (const std::string& input : node.inputs) {
      const auto read = values_.find(input);  // initializers are no values
      if (read != values_.end() && is_alias(node, read->second)) return 0;
      if (read != values_.end()) sum += bytes(read->second);
      if (input == graph_.input) sum += plan_.input_elems;
    }
    return sum;
  }

  void place_values() {
    std::vector<BufferRequest> requests;
    std::map<std::string, std::size_t> buffer_of;  // value, request
    for (std::size_t index = 0; index < graph_.nodes.size(); ++index) {
      const graph::Node& node = graph_.nodes[index];
      const graph::Value& value = graph_.values.at(node.output);
      PlannedValue planned;
      planned.name = node.output;
      planned.dtype = value.dtype;
      planned.shape.assign(value.shape.begin() + 1, value.shape.end());
      planned.channels_last = planned.shape.size() == 3;
      planned.elems = element_count(planned.shape);
      // Nodes come in order, so the last reader of a buffer is the last to say so.
      for (const std::string& input : node.inputs) {
        const auto read = buffer_of.find(input);  // initializers and the graph's input have no buffer
        if (read == buffer_of.end()) continue;
        requests[read->second].last_step = index;
        if (is_alias(node, values_.at(input))) buffer_of[node.output] = read->second;
      }
      if (!buffer_of.contains(node.output)) {
        buffer_of[node.output] = requests.size();
        const auto bytes = static_cast<std::size_t>(planned.elems * max_batch_) * size_bytes(planned.dtype);
        requests.push_back({bytes, index, index});
      }
      values_[node.output] = std::move(planned);
    }
    // The logits are copied out, and taps read, after the step that wrote them: both before the next step runs.
    const ArenaLayout layout = place_buffers(requests);
    if (layout.bytes > kMaxArenaBytes) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("activations of ", max_batch_, " images take ", layout.bytes, " bytes"), where(),
                  "lower max_batch");
    }
    for (auto& [name, value] : values_) value.offset = layout.offsets[buffer_of.at(name)];
    plan_.arena_bytes = layout.bytes;
  }

  [[nodiscard]] std::unique_ptr<Operator> make_operator(const graph::Node& node, PlannedLayer& layer) {
    if (node.op_type == "QuantizeLinear") return quantize_input(node, layer);
    if (node.op_type == "QLinearConv") return node.is_depthwise() ? depthwise(node, layer) : conv(node, layer);
    if (node.op_type == "QGemm") return gemm(node, layer);
    if (node.op_type == "MaxPool") return max_pool(node, layer);
    if (node.op_type == "Flatten") return flatten(node, layer);
    if (node.op_type == "QLinearAdd") return add(node, layer);
    if (node.op_type == "QLinearGlobalAveragePool") return global_average_pool(node, layer);
    throw Error(ErrorCategory::kUnsupported, str_cat("no kernel runs ", node.op_type),
                str_cat(where(), ", node '", node.name, "'"));
  }

  [[nodiscard]] format::AffineParams params_of(const std::string& value) const {
    const graph::Quantization& quantization = *graph_.values.at(value).quantization;
    return {quantization.scales[0], quantization.zero_point};
  }

  [[nodiscard]] std::unique_ptr<Operator> quantize_input(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& output = values_.at(node.output);
    const format::AffineParams params = params_of(node.output);
    kernels::QuantizeArgs args;
    args.channels = plan_.input_shape[0];
    args.pixels = plan_.input_shape[1] * plan_.input_shape[2];
    args.scale = params.scale;
    args.zero_point = params.zero_point;
    std::vector<std::uint8_t> table(static_cast<std::size_t>(args.channels) * 256);
    for (std::size_t entry = 0; entry < table.size(); ++entry) {
      const float real =
          format::normalize_pixel(static_cast<std::uint8_t>(entry % 256), artifact_.preprocessing.mean[entry / 256],
                                  artifact_.preprocessing.std[entry / 256]);
      table[entry] = static_cast<std::uint8_t>(format::quantize(real, params, format::kUint8Range));
    }
    const kernels::QuantizeKernel& table_kernel = kernels::find_quantize_table_kernel(isa_);
    const kernels::QuantizeKernel& affine_kernel = kernels::find_quantize_affine_kernel(isa_);
    layer.kernel = table_kernel.name;
    layer.note = str_cat("normalizes and quantizes by table; ", affine_kernel.name, " where the caller has normalized");
    return std::make_unique<QuantizeInput>(table_kernel, affine_kernel, args, std::move(table), output.offset);
  }

  [[nodiscard]] kernels::Epilogue epilogue_of(const graph::Node& node) const {
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

  // Weights in the form in which they are stored.
  [[nodiscard]] static kernels::CanonicalWeights as_stored(const graph::Initializer& weight,
                                                           std::int64_t line_segments) {
    const format::TwoFourLayout layout = graph::two_four_layout(weight.shape);
    kernels::CanonicalWeights canonical;
    canonical.n = layout.rows;
    canonical.segments = layout.segments;
    canonical.segment_elems = layout.segment_elems;
    canonical.line_segments = line_segments;
    canonical.vnm = weight.vnm;
    canonical.values = weight.data.as<std::int8_t>().data();
    canonical.indices = weight.indices.as<std::uint8_t>().data();
    return canonical;
  }

  // The kernel and the form in which a layer runs; why it is not the stored one goes into the layer's note.
  template <typename Kernel>
  [[nodiscard]] const Kernel& choose(const graph::Initializer& weight, const LayerWork& work,
                                     const Kernel& (*find)(kernels::WeightFormat format, Isa isa),
                                     std::int64_t line_segments, PlannedLayer& layer) const {
    using kernels::WeightFormat;
    const Kernel& stored = find(format_of(weight), isa_);
    if (stored.format == WeightFormat::kDense) return stored;
    if (!stored.uses_zeros(as_stored(weight, line_segments))) {
      const std::string reason = *stored.note != '\0' ? stored.note : "no kernel for this pattern at this shape";
      add_note(str_cat("stored ", weight.pattern(), ", run dense: ", reason), layer);
      return find(WeightFormat::kDense, isa_);
    }
    const auto chosen = overrides_.find(layer.name);
    if (chosen != overrides_.end()) {
      add_note(chosen->second.note, layer);
      return chosen->second.as_stored ? stored : find(WeightFormat::kDense, isa_);
    }
    const FormatChoice choice = choose_format(work, stored.format, weight.vnm, isa_, cpu_vendor());
    add_note(choice.note, layer);
    return choice.format == stored.format ? stored : find(WeightFormat::kDense, isa_);
  }

  template <typename Kernel>
  [[nodiscard]] PackedLayer pack(const graph::Node& node, const Kernel& kernel, std::int64_t line_segments,
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
    const std::span<const std::int32_t> bias = graph_.initializers.at(node.inputs[2]).data.template as<std::int32_t>();
    packed.bias.assign(bias.begin(), bias.end());
    const float input_scale = params_of(node.inputs[0]).scale;
    const bool to_float = values_.at(node.output).dtype == DType::kF32;
    for (const float weight_scale : weight.quantization->scales) {
      const float scale = format::accumulator_scale(input_scale, weight_scale);
      packed.multiplier.push_back(to_float ? scale
                                           : format::requantize_multiplier(scale, params_of(node.output).scale));
    }
    describe_weight(node, kernel.name, packed.weights.size(), layer);
    return packed;
  }

  static void add_note(const std::string& note, PlannedLayer& layer) {
    if (note.empty()) return;
    layer.note += layer.note.empty() ? note : "; " + note;
  }

  void describe_weight(const graph::Node& node, const char* kernel, std::size_t packed_bytes,
                       PlannedLayer& layer) const {
    const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
    layer.kernel = kernel;
    layer.pattern = weight.pattern();
    layer.weight_bytes = static_cast<std::int64_t>(packed_bytes);
    const Shape& out = layer.output_shape;
    const std::int64_t pixels = out.size() == 3 ? out[1] * out[2] : 1;
    layer.macs = element_count(weight.shape) * pixels;
    for (const graph::LayerPromise& promise : artifact_.promises) {
      if (promise.weight != node.inputs[1]) continue;
      layer.pattern = promise.pattern;
      add_note(promise.note, layer);
    }
  }

  [[nodiscard]] static kernels::WeightFormat format_of(const graph::Initializer& weight) {
    switch (weight.encoding) {
      case graph::Encoding::kTwoFour:
        return kernels::WeightFormat::kTwoFour;
      case graph::Encoding::kVnm:
        return kernels::WeightFormat::kVnm;
      case graph::Encoding::kDense:
        break;
    }
    return kernels::WeightFormat::kDense;
  }

  // What every operator with a window states in the same words.
  template <typename Extents>
  static void set_extents(const PlannedValue& input, const PlannedValue& output, const graph::Window& window,
                          Extents& extents) {
    extents.in_h = input.shape[1];
    extents.in_w = input.shape[2];
    extents.out_h = output.shape[1];
    extents.out_w = output.shape[2];
    extents.kernel_h = window.kernel_h;
    extents.kernel_w = window.kernel_w;
    extents.stride_h = window.stride_h;
    extents.stride_w = window.stride_w;
    extents.dilation_h = window.dilation_h;
    extents.dilation_w = window.dilation_w;
    extents.pad_top = window.pad_top;
    extents.pad_left = window.pad_left;
  }

  [[nodiscard]] std::unique_ptr<Operator> conv(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& input = values_.at(node.inputs[0]);
    const PlannedValue& output = values_.at(node.output);
    const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
    const graph::Window window = graph::window_of(graph_, node);
    const LayerWork work{output.shape[1] * output.shape[2], weight.shape[0],
                         element_count(weight.shape) / weight.shape[0]};
    const std::int64_t line_segments = window.dilation_w == 1 ? window.kernel_w : 1;
    const kernels::QConvKernel& kernel = choose(weight, work, kernels::find_qconv_kernel, line_segments, layer);
    kernels::QConvArgs args;
    set_extents(input, output, window, args.shape);
    args.shape.in_c = input.shape[0];
    args.shape.out_c = output.shape[0];
    args.x_zero_point = params_of(node.inputs[0]).zero_point;
    args.epilogue = epilogue_of(node);
    return std::make_unique<QConv>(kernel, args, pack(node, kernel, line_segments, layer), input.offset, output.offset);
  }

  [[nodiscard]] std::unique_ptr<Operator> depthwise(const graph::Node& node, PlannedLayer& layer) {
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
    const kernels::DepthwiseWeights weights{
        .channels = input.shape[0],
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

  [[nodiscard]] std::unique_ptr<Operator> gemm(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& input = values_.at(node.inputs[0]);
    const PlannedValue& output = values_.at(node.output);
    const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
    const kernels::QGemmKernel& kernel =
        choose(weight, {1, output.elems, input.elems}, kernels::find_qgemm_kernel, 1, layer);
    kernels::QGemmArgs args;
    args.a_stride_bytes = input.elems;
    args.a_zero_point = params_of(node.inputs[0]).zero_point;
    args.c_stride_elems = output.elems;
    args.m = max_batch_;
    args.n = output.elems;
    args.k = input.elems;
    args.epilogue = epilogue_of(node);
    return std::make_unique<QGemm>(kernel, args, pack(node, kernel, 1, layer), input.offset, output.offset);
  }

  [[nodiscard]] std::unique_ptr<Operator> max_pool(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& input = values_.at(node.inputs[0]);
    const PlannedValue& output = values_.at(node.output);
    const graph::Window window = graph::window_of(graph_, node);
    const kernels::MaxPoolKernel& kernel = kernels::find_max_pool_kernel(isa_);
    kernels::MaxPoolArgs args;
    set_extents(input, output, window, args);
    args.channels = input.shape[0];
    layer.kernel = kernel.name;
    return std::make_unique<MaxPool>(kernel, args, input.offset, output.offset);
  }

  [[nodiscard]] std::unique_ptr<Operator> flatten(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& input = values_.at(node.inputs[0]);
    if (is_alias(node, input)) {
      layer.note = "nothing to move";
      return std::make_unique<NoOperation>();
    }
    const kernels::TransposeKernel& kernel = kernels::find_transpose_kernel(isa_);
    kernels::TransposeArgs args;
    args.channels = input.shape[0];
    args.pixels = input.shape[1] * input.shape[2];
    layer.kernel = kernel.name;
    layer.note = "from NHWC to the order of the columns of the next weight";
    return std::make_unique<Flatten>(kernel, args, input.offset, values_.at(node.output).offset);
  }

  [[nodiscard]] std::unique_ptr<Operator> add(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& a = values_.at(node.inputs[0]);
    const PlannedValue& b = values_.at(node.inputs[1]);
    const PlannedValue& output = values_.at(node.output);
    PARE_CHECK(a.channels_last == b.channels_last && a.shape == b.shape);
    const kernels::AddKernel& kernel = kernels::find_add_kernel(isa_);
    kernels::AddArgs args;
    const auto set = [](format::AffineParams params, float& scale, std::int32_t& zero_point) {
      scale = params.scale;
      zero_point = params.zero_point;
    };
    set(params_of(node.inputs[0]), args.a_scale, args.a_zero_point);
    set(params_of(node.inputs[1]), args.b_scale, args.b_zero_point);
    set(params_of(node.output), args.y_scale, args.y_zero_point);
    args.qmin = epilogue_of(node).qmin;
    layer.kernel = kernel.name;
    return std::make_unique<Add>(kernel, args, output.elems, a.offset, b.offset, output.offset);
  }

  [[nodiscard]] std::unique_ptr<Operator> global_average_pool(const graph::Node& node, PlannedLayer& layer) {
    const PlannedValue& input = values_.at(node.inputs[0]);
    const kernels::GlobalAveragePoolKernel& kernel = kernels::find_global_average_pool_kernel(isa_);
    kernels::GlobalAveragePoolArgs args;
    args.pixels = input.shape[1] * input.shape[2];
    args.channels = input.shape[0];
    args.x_scale = params_of(node.inputs[0]).scale;
    args.x_zero_point = params_of(node.inputs[0]).zero_point;
    args.y_scale = params_of(node.output).scale;
    args.y_zero_point = params_of(node.output).zero_point;
    layer.kernel = kernel.name;
    return std::make_unique<GlobalAveragePool>(kernel, args, input.offset, values_.at(node.output).offset);
  }

  const graph::Artifact& artifact_;
  const graph::Graph& graph_;
  Isa isa_;
  std::int64_t max_batch_;
  const FormatOverrides& overrides_;
  std::map<std::string, PlannedValue> values_;
  Plan plan_;
};

}  // namespace

Plan make_plan(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch, const FormatOverrides& overrides) {
  return Planner(artifact, isa, max_batch, overrides).make();
}

}  // namespace pare::runtime
