// Products whose activations are quantized row by row as they come, but for what plan_weights.cc knows of int8 weights.
#include <utility>

#include "pare/kernels/matmul_nbits/matmul_nbits.h"
#include "pare/kernels/quantize_rows/quantize_rows.h"
#include "pare/runtime/planner.h"

namespace pare::runtime {

bool Planner::quantizes_rows(const graph::Node& node) {
  return node.op_type == "DynamicQuantizeMatMul" || node.op_type == "MatMulNBits";
}

// Of A, that one of the batch has.
std::int64_t Planner::rows_of(const graph::Node& node) const {
  const PlannedValue& input = values_.at(node.inputs[0]);
  return input.elems / input.shape.back();
}

QuantizedRows Planner::quantized_rows(const graph::Node& node, std::uint8_t zero_point) const {
  const PlannedValue& input = values_.at(node.inputs[0]);
  return {kernels::find_quantize_rows_kernel(isa_),
          input.shape.back(),
          rows_of(node),
          max_batch_,
          zero_point,
          input.offset,
          workspace_.at(node.name)};
}

std::vector<float> Planner::real_bias(const graph::Node& node) const {
  if (node.inputs.size() < 3) {
    return std::vector<float>(static_cast<std::size_t>(graph_.initializers.at(node.inputs[1]).shape[0]));
  }
  const auto bias = graph_.initializers.at(node.inputs[2]).data.as<float>();
  return {bias.begin(), bias.end()};
}

std::unique_ptr<Operator> Planner::matmul_nbits(const graph::Node& node, PlannedLayer& layer) {
  const graph::Initializer& weight = graph_.initializers.at(node.inputs[1]);
  const auto form =
      weight.encoding == graph::Encoding::kInt4 ? kernels::NBitsForm::kDense : kernels::NBitsForm::kTwoFour;
  const kernels::MatMulNBitsKernel& kernel = kernels::find_matmul_nbits_kernel(form, isa_);
  const kernels::NBitsWeights weights{weight.data.as<std::uint8_t>().data(),
                                      weight.indices.as<std::uint8_t>().data(),
                                      weight.scales.as<std::uint16_t>().data(),
                                      weight.shape[0],
                                      weight.shape[1],
                                      weight.group};
  AlignedBytes packed(kernel.packed_bytes(weights));
  kernel.pack(weights, packed.data());
  describe_weight(node, kernel.name, packed.size(), layer);
  if (form == kernels::NBitsForm::kTwoFour) {
    add_note(kernel.isa == Isa::kScalar ? "scalar code gains nothing from the zeros"
                                        : "2:4 reads fewer bytes: it gains where weights come from memory",
             layer);
  }
  kernels::MatMulNBitsArgs args;
  args.c_stride_elems = weights.n;
  args.m = max_batch_ * rows_of(node);
  args.n = weights.n;
  args.k = weights.k;
  args.relu = epilogue_of(node).relu;
  return std::make_unique<MatMulNBits>(kernel, args, quantized_rows(node, kernel.a_zero_point), std::move(packed),
                                       real_bias(node), values_.at(node.output).offset);
}

}  // namespace pare::runtime
