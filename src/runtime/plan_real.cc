// Operators that read or write float32 and have no weight.
#include <utility>
#include <vector>

#include "pare/base/strings.h"
#include "pare/runtime/operators_real.h"
#include "pare/runtime/planner.h"

namespace pare::runtime {

std::unique_ptr<Operator> Planner::quantize(const graph::Node& node, PlannedLayer& layer) {
  if (plan_.takes_images && node.inputs[0] == graph_.input) return quantize_image(node, layer);
  const PlannedValue& input = values_.at(node.inputs[0]);
  const kernels::QuantizeKernel& kernel = kernels::find_quantize_affine_kernel(isa_);
  layer.kernel = kernel.name;
  return std::make_unique<Quantize>(kernel, params_of(node.output), input.elems, input.offset,
                                    values_.at(node.output).offset);
}

std::unique_ptr<Operator> Planner::quantize_image(const graph::Node& node, PlannedLayer& layer) {
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
  return std::make_unique<QuantizeImage>(table_kernel, affine_kernel, args, std::move(table), output.offset);
}

std::unique_ptr<Operator> Planner::dequantize(const graph::Node& node, PlannedLayer& layer) {
  const PlannedValue& input = values_.at(node.inputs[0]);
  const kernels::DequantizeKernel& kernel = kernels::find_dequantize_kernel(isa_);
  layer.kernel = kernel.name;
  return std::make_unique<Dequantize>(kernel, params_of(node.inputs[0]), input.elems, input.offset,
                                      values_.at(node.output).offset);
}

std::unique_ptr<Operator> Planner::add_real(const graph::Node& node, PlannedLayer& layer) {
  const PlannedValue& a = values_.at(node.inputs[0]);
  const kernels::AddRealKernel& kernel = kernels::find_add_real_kernel(isa_);
  layer.kernel = kernel.name;
  return std::make_unique<AddReal>(kernel, a.elems, a.offset, values_.at(node.inputs[1]).offset,
                                   values_.at(node.output).offset);
}

}  // namespace pare::runtime
