// The work behind make_plan: one member function an operator. Internal to runtime/.
//
// An operator of its own takes a class in operators*.h, a function here, in the file of its kind, and a row of the
// table in plan.cc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pare/format/affine.h"
#include "pare/graph/artifact.h"
#include "pare/runtime/format_choice.h"
#include "pare/runtime/operators_dynamic.h"
#include "pare/runtime/operators_real.h"
#include "pare/runtime/plan.h"

namespace pare::runtime {

class Planner {
 public:
  Planner(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch, const FormatOverrides& overrides)
      : artifact_(artifact), graph_(artifact.graph), isa_(isa), max_batch_(max_batch), overrides_(overrides) {}

  [[nodiscard]] Plan make();

 private:
  using OperatorPlan = std::unique_ptr<Operator> (Planner::*)(const graph::Node& node, PlannedLayer& layer);
  struct Row;

  // plan.cc: ends, places, and what operators ask about.
  void describe_ends();
  void place_values();
  [[nodiscard]] std::string where() const;
  [[nodiscard]] std::unique_ptr<Operator> make_operator(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] static bool is_alias(const graph::Node& node, const PlannedValue& input);
  [[nodiscard]] format::AffineParams params_of(const std::string& value) const;
  // What the node reads and writes of one image. The graph's input counts as raw pixels where it is an image.
  [[nodiscard]] std::int64_t activation_bytes(const graph::Node& node) const;
  static void add_note(const std::string& note, PlannedLayer& layer);

  // plan_weights.cc: operators that have weights.
  [[nodiscard]] kernels::Epilogue epilogue_of(const graph::Node& node) const;
  // Packed, without what an epilogue points to.
  template <typename Kernel>
  [[nodiscard]] PackedLayer pack_weights(const graph::Node& node, const Kernel& kernel, std::int64_t line_segments,
                                         PlannedLayer& layer) const;
  template <typename Kernel>
  [[nodiscard]] PackedLayer pack(const graph::Node& node, const Kernel& kernel, std::int64_t line_segments,
                                 PlannedLayer& layer) const;
  void describe_weight(const graph::Node& node, const char* kernel, std::size_t packed_bytes,
                       PlannedLayer& layer) const;
  // The kernel and the form in which a layer runs; why it is not the stored one goes into the layer's note.
  template <typename Kernel>
  [[nodiscard]] const Kernel& choose(const graph::Initializer& weight, std::int64_t m,
                                     const Kernel& (*find)(kernels::WeightFormat format, Isa isa),
                                     std::int64_t line_segments, PlannedLayer& layer) const;
  [[nodiscard]] std::unique_ptr<Operator> conv(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> dense_conv(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> depthwise(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> gemm(const graph::Node& node, PlannedLayer& layer);

  // plan_dynamic.cc: products whose activations are quantized as they come.
  [[nodiscard]] static bool quantizes_rows(const graph::Node& node);
  [[nodiscard]] std::int64_t rows_of(const graph::Node& node) const;
  [[nodiscard]] QuantizedRows quantized_rows(const graph::Node& node, std::uint8_t zero_point) const;
  [[nodiscard]] std::vector<float> real_bias(const graph::Node& node) const;
  [[nodiscard]] std::unique_ptr<Operator> dynamic_gemm(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> matmul_nbits(const graph::Node& node, PlannedLayer& layer);

  // plan_codes.cc: operators on codes.
  [[nodiscard]] std::unique_ptr<Operator> max_pool(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> flatten(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> add_codes(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> global_average_pool(const graph::Node& node, PlannedLayer& layer);

  // plan_real.cc: operators that read or write float32 and have no weight.
  [[nodiscard]] std::unique_ptr<Operator> quantize(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> quantize_image(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> dequantize(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> add_real(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> gelu(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> layer_norm(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] std::unique_ptr<Operator> attention(const graph::Node& node, PlannedLayer& layer);
  [[nodiscard]] RealDestination destination_of(const graph::Node& node) const;

  const graph::Artifact& artifact_;
  const graph::Graph& graph_;
  Isa isa_;
  std::int64_t max_batch_;
  const FormatOverrides& overrides_;
  std::map<std::string, PlannedValue> values_;
  std::map<std::string, std::size_t> workspace_;  // node, offset of the memory that it works on
  Plan plan_;
};

// What every operator with a window states in the same words.
template <typename Extents>
void set_extents(const PlannedValue& input, const PlannedValue& output, const graph::Window& window, Extents& extents) {
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

}  // namespace pare::runtime
