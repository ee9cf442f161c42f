// Operators on codes that have no weight.
#include "pare/base/error.h"
#include "pare/runtime/operators.h"
#include "pare/runtime/operators_elementwise.h"
#include "pare/runtime/planner.h"

namespace pare::runtime {

std::unique_ptr<Operator> Planner::max_pool(const graph::Node& node, PlannedLayer& layer) {
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

std::unique_ptr<Operator> Planner::flatten(const graph::Node& node, PlannedLayer& layer) {
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

std::unique_ptr<Operator> Planner::add_codes(const graph::Node& node, PlannedLayer& layer) {
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
  const bool relu = node.string_attribute("fused_activation", "") == "Relu";
  args.qmin = relu ? args.y_zero_point : 0;
  layer.kernel = kernel.name;
  return std::make_unique<Add>(kernel, args, output.elems, a.offset, b.offset, output.offset);
}

std::unique_ptr<Operator> Planner::global_average_pool(const graph::Node& node, PlannedLayer& layer) {
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

}  // namespace pare::runtime
