#include "pare/runtime/plan.h"

#include <algorithm>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/runtime/operator_work.h"
#include "pare/runtime/planner.h"

namespace pare::runtime {

namespace {

// Beyond it an arena is a mistake, not a plan.
constexpr std::size_t kMaxArenaBytes = std::size_t{1} << 38;

PlannedValue describe(const std::string& name, const graph::Value& value) {
  PlannedValue planned;
  planned.name = name;
  planned.dtype = value.dtype;
  planned.shape.assign(value.shape.begin() + 1, value.shape.end());
  planned.channels_last = graph::is_image(value);
  planned.elems = element_count(planned.shape);
  return planned;
}

}  // namespace

Plan Planner::make() {
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

std::string Planner::where() const { return str_cat("graph '", graph_.name, "'"); }

void Planner::describe_ends() {
  const graph::Value& input = graph_.values.at(graph_.input);
  const graph::Value& output = graph_.values.at(graph_.output);
  PARE_CHECK(output.shape.size() <= 3 && output.dtype == DType::kF32);
  PARE_CHECK(graph_.nodes.back().output == graph_.output);
  plan_.takes_images = graph::is_image(input);
  plan_.input_shape.assign(input.shape.begin() + 1, input.shape.end());
  plan_.input_elems = element_count(plan_.input_shape);
  plan_.output_shape.assign(output.shape.begin() + 1, output.shape.end());
  plan_.output_elems = element_count(plan_.output_shape);
}

// A Flatten that moves nothing: one channel, or one pixel, or flat already.
bool Planner::is_alias(const graph::Node& node, const PlannedValue& input) {
  return node.op_type == "Flatten" &&
         (!input.channels_last || input.shape[0] == 1 || input.shape[1] * input.shape[2] == 1);
}

void Planner::place_values() {
  std::vector<BufferRequest> requests;
  std::map<std::string, std::size_t> buffer_of;   // value, request
  std::map<std::string, std::size_t> workspaces;  // node, request
  values_[graph_.input] = describe(graph_.input, graph_.values.at(graph_.input));
  values_[graph_.input].offset = kGraphInput;
  for (std::size_t index = 0; index < graph_.nodes.size(); ++index) {
    const graph::Node& node = graph_.nodes[index];
    PlannedValue planned = describe(node.output, graph_.values.at(node.output));
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
    if (quantizes_rows(node)) {
      workspaces[node.name] = requests.size();
      requests.push_back(
          {QuantizedRows::workspace_bytes(max_batch_ * rows_of(node), values_.at(node.inputs[0]).shape.back()), index,
           index});
    }
  }
  // The logits are copied out, and taps read, after the step that wrote them: both before the next step runs.
  const ArenaLayout layout = place_buffers(requests);
  if (layout.bytes > kMaxArenaBytes) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("activations of ", max_batch_, " images take ", layout.bytes, " bytes"), where(),
                "lower max_batch");
  }
  for (const auto& [name, request] : buffer_of) values_.at(name).offset = layout.offsets[request];
  for (const auto& [name, request] : workspaces) workspace_[name] = layout.offsets[request];
  plan_.arena_bytes = layout.bytes;
}

std::int64_t Planner::activation_bytes(const graph::Node& node) const {
  const auto bytes = [this](const std::string& name, const PlannedValue& value) {
    const bool is_pixels = name == graph_.input && plan_.takes_images;
    return value.elems * static_cast<std::int64_t>(is_pixels ? 1 : size_bytes(value.dtype));
  };
  std::int64_t sum = bytes(node.output, values_.at(node.output));
  for (const std::string& input : node.inputs) {
    const auto read = values_.find(input);  // initializers are no values
    if (read == values_.end()) continue;
    if (is_alias(node, read->second)) return 0;
    sum += bytes(input, read->second);
  }
  return sum;
}

struct Planner::Row {
  const char* op_type;
  OperatorPlan plan;
};

std::unique_ptr<Operator> Planner::make_operator(const graph::Node& node, PlannedLayer& layer) {
  static constexpr Row kOperators[] = {
      {"QuantizeLinear", &Planner::quantize},
      {"DequantizeLinear", &Planner::dequantize},
      {"QLinearConv", &Planner::conv},
      {"QGemm", &Planner::gemm},
      {"DynamicQuantizeMatMul", &Planner::dynamic_gemm},
      {"MatMulNBits", &Planner::matmul_nbits},
      {"MaxPool", &Planner::max_pool},
      {"Flatten", &Planner::flatten},
      {"QLinearAdd", &Planner::add_codes},
      {"QLinearGlobalAveragePool", &Planner::global_average_pool},
      {"Add", &Planner::add_real},
      {"Gelu", &Planner::gelu},
      {"LayerNormalization", &Planner::layer_norm},
      {"QLinearAttention", &Planner::attention},
  };
  for (const Row& row : kOperators) {
    if (node.op_type == row.op_type) return (this->*row.plan)(node, layer);
  }
  throw Error(ErrorCategory::kUnsupported, str_cat("no kernel runs ", node.op_type),
              str_cat(where(), ", node '", node.name, "'"));
}

format::AffineParams Planner::params_of(const std::string& value) const {
  const graph::Quantization& quantization = *graph_.values.at(value).quantization;
  return {quantization.scales[0], quantization.zero_point};
}

void Planner::add_note(const std::string& note, PlannedLayer& layer) {
  if (note.empty()) return;
  layer.note += layer.note.empty() ? note : "; " + note;
}

Plan make_plan(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch, const FormatOverrides& overrides) {
  return Planner(artifact, isa, max_batch, overrides).make();
}

}  // namespace pare::runtime
