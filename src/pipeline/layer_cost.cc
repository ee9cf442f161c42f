#include "pare/pipeline/layer_cost.h"

#include <optional>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/block.h"
#include "pare/format/vnm.h"
#include "pare/graph/weights.h"
#include "pare/kernels/qconv/qconv.h"
#include "pare/kernels/qgemm/qgemm.h"
#include "pare/pipeline/recipe.h"

namespace pare::pipeline {
namespace {

format::VnmPattern vnm_of(const std::string& packed) {
  const std::optional<format::VnmPattern> pattern = format::parse_vnm(packed);
  PARE_CHECK(pattern.has_value());
  return *pattern;
}

// Blocks that masks of this configuration keep or drop as a whole.
std::optional<format::BlockPattern> whole_blocks(const sparsity::MaskConfig& config) {
  const auto [rows, columns] = config.sparse_block_shape;
  const bool whole = config.elems_per_block() > 1 && config.zeros_per_block == config.elems_per_block();
  return whole ? format::parse_block(str_cat(rows, "x", columns)) : std::nullopt;
}

// As the runtime hands them to kernels, but for dilated kernels, whose taps are taken for neighbours.
kernels::CanonicalWeights canonical_weights(const LayerShape& layer) {
  return runtime::canonical_shape(layer.shape, layer.shape.size() == 4 ? layer.shape[3] : 1);
}

// Whether the kernel that the runtime would take makes use of the zeros at this shape. True for instruction sets whose
// kernels are not in this build: the table of costs speaks of those that have one.
bool uses_zeros(const LayerShape& layer, kernels::WeightFormat format, const format::VnmPattern& vnm, Isa isa) {
  kernels::CanonicalWeights weights = canonical_weights(layer);
  weights.vnm = vnm;
  const auto answer = [&](const auto& kernel) { return kernel.isa != isa || kernel.uses_zeros(weights); };
  return layer.op == "Conv" ? answer(kernels::find_qconv_kernel(format, isa))
                            : answer(kernels::find_qgemm_kernel(format, isa));
}

}  // namespace

std::vector<LayerShape> layer_shapes(const graph::Graph& graph) {
  std::vector<LayerShape> layers;
  for (const graph::Node& node : graph.nodes) {
    if (!node.has_weight()) {
      continue;
    }
    LayerShape layer{node.name, node.inputs.at(1), node.op_type, graph.initializer(node.inputs.at(1)).shape, {}};
    // Rows, or pixels: what the layer writes for an image, over its outputs.
    const Shape& output = graph.values.at(node.output).shape;
    const std::int64_t m = element_count(Shape(output.begin() + 1, output.end())) / layer.shape.at(0);
    layer.work = runtime::work_of(m, canonical_weights(layer));
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::string packed_pattern(const sparsity::MaskConfig& config, const std::string& sparsify, bool int4) {
  const std::optional<format::VnmPattern> masks = config.vnm();
  if (const auto blocks = whole_blocks(config); blocks && sparsify == kSparsifyAuto && !int4) {
    return format::to_string(*blocks);
  }
  if (sparsify == kSparsifyDense || !masks) {
    return {};
  }
  const bool has_form = !int4 && format::parse_vnm(format::to_string(*masks)).has_value();  // M is 16 at most
  if (sparsify == kSparsifyAuto && masks->v > 1 && has_form) {
    return format::to_string(*masks);
  }
  // 1:4, 2:8 and masks that are shared keep at most two of any aligned four as well.
  if (masks->n <= 2 && masks->m % 4 == 0) {
    return "2:4";
  }
  // With an index of its own for every weight that stays, other N:M are smaller than dense where few do.
  return sparsify == kSparsifyAuto && has_form && 2 * masks->n < masks->m ? format::to_string(*masks) : "";
}

std::int64_t stored_bytes(const LayerShape& layer, const std::string& packed) {
  const std::int64_t outputs = layer.shape.at(0);
  const auto beside = static_cast<std::int64_t>(outputs * (sizeof(float) + sizeof(std::int32_t)));
  if (packed == "dense") {
    return element_count(layer.shape) + beside;
  }
  if (packed == "2:4") {
    const format::TwoFourLayout layout = graph::two_four_layout(layer.shape);
    return layout.rows * (layout.row_values_bytes() + layout.row_indices_bytes()) + beside;
  }
  const format::VnmLayout layout = graph::vnm_layout(layer.shape, vnm_of(packed));
  return (layout.rows + layout.blocks()) * layout.row_kept() + beside;
}

double predicted_time(const LayerShape& layer, const std::string& packed, Isa isa, CpuVendor vendor) {
  using kernels::WeightFormat;
  const auto time = [&](WeightFormat format, const format::VnmPattern& vnm) {
    const bool as_stored = format == WeightFormat::kDense || uses_zeros(layer, format, vnm, isa);
    return runtime::choose_format(layer.work, as_stored ? format : WeightFormat::kDense, vnm, isa, vendor).time;
  };
  if (packed == "dense") {
    return time(WeightFormat::kDense, {});
  }
  return packed == "2:4" ? time(WeightFormat::kTwoFour, {}) : time(WeightFormat::kVnm, vnm_of(packed));
}

}  // namespace pare::pipeline
