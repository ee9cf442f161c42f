#include "pare/graph/artifact.h"

#include <algorithm>
#include <set>
#include <utility>

#include "pare/base/checksum.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"
#include "pare/graph/artifact_internal.h"
#include "pare/graph/weights.h"

namespace pare::graph {
namespace internal {

namespace {

// Float32 between its ends, or ends that are no image and no classes: what version 3 brought beside operators.
bool is_mixed(const Graph& graph) {
  const auto is_inner_real = [&](const auto& entry) {
    return entry.second.dtype == DType::kF32 && entry.first != graph.input && entry.first != graph.output;
  };
  return std::any_of(graph.values.begin(), graph.values.end(), is_inner_real) ||
         graph.values.at(graph.input).shape.size() != 4 || graph.values.at(graph.output).shape.size() != 2 ||
         graph.consumers_of(graph.input).size() != 1;
}

}  // namespace

int lowest_version(const Graph& graph) {
  int version = is_mixed(graph) ? 3 : 1;
  for (const Node& node : graph.nodes) {
    version = std::max({version, format_version(graph, node), node.is_depthwise() ? 2 : 1});
  }
  for (const auto& entry : graph.initializers) {
    if (entry.second.encoding == Encoding::kVnm || entry.second.encoding == Encoding::kBlock)
      version = std::max(version, 2);
  }
  return version;
}

bool has_storable_shape(const Initializer& item) {
  const std::size_t rank = item.shape.size();
  if (item.is_int4() && (rank != 2 || !format::is_int4_group(item.group))) return false;
  return is_valid_initializer_shape(item.shape) && (item.encoding == Encoding::kDense || rank == 2 || rank == 4);
}

std::vector<StoredTensor> stored_tensors(const std::string& name, const Initializer& item) {
  using Part = StoredTensor::Part;
  std::vector<StoredTensor> tensors;
  if (item.is_int4()) {
    const format::Int4Layout layout = int4_layout(item.shape, item.encoding, item.group);
    tensors.push_back({name + ".values", Part::kData, DType::kU8, {layout.rows, layout.row_codes_bytes()}});
    if (item.encoding == Encoding::kInt4TwoFour) {
      tensors.push_back({name + ".indices", Part::kIndices, DType::kU8, {layout.rows, layout.row_indices_bytes()}});
    }
    tensors.push_back({name + ".scales", Part::kGroupScales, DType::kF16, {layout.rows, layout.groups_per_row()}});
  } else if (item.encoding == Encoding::kTwoFour) {
    const format::TwoFourLayout layout = two_four_layout(item.shape);
    tensors.push_back({name + ".values", Part::kData, DType::kS8, {layout.rows, layout.row_values_bytes()}});
    tensors.push_back({name + ".indices", Part::kIndices, DType::kU8, {layout.rows, layout.row_indices_bytes()}});
  } else if (item.encoding == Encoding::kVnm) {
    const format::VnmLayout layout = vnm_layout(item.shape, item.vnm);
    tensors.push_back({name + ".values", Part::kData, DType::kS8, {layout.rows, layout.row_kept()}});
    tensors.push_back({name + ".indices", Part::kIndices, DType::kU8, {layout.blocks(), layout.row_kept()}});
  } else if (item.encoding == Encoding::kBlock) {
    const format::BlockLayout layout = block_layout(item.shape, item.block);
    const std::int64_t elems = layout.pattern.elems();
    const auto stored = static_cast<std::int64_t>(item.data.bytes().size()) / elems;
    tensors.push_back({name + ".values", Part::kData, DType::kS8, {stored, elems}, true});
    tensors.push_back({name + ".indices", Part::kIndices, DType::kU8, {layout.block_rows(), layout.row_index_bytes()}});
  } else {
    tensors.push_back({name, Part::kData, item.dtype, item.shape});
  }
  if (item.quantization.has_value()) {
    tensors.push_back({name + ".scales", Part::kScales, DType::kF32, {item.shape[0]}});
  }
  return tensors;
}

namespace {

std::span<const std::byte> bytes_of(const Initializer& item, StoredTensor::Part part) {
  switch (part) {
    case StoredTensor::Part::kIndices:
      return item.indices.bytes();
    case StoredTensor::Part::kGroupScales:
      return item.scales.bytes();
    case StoredTensor::Part::kScales:
      return std::as_bytes(std::span<const float>(item.quantization->scales));
    case StoredTensor::Part::kData:
      break;
  }
  return item.data.bytes();
}

// The door through which an artifact leaves: nothing is written that verify_artifact would object to.
void require_sound(const Artifact& artifact, const std::filesystem::path& path) {
  const auto refuse = [&](const GraphError& error) {
    throw Error(ErrorCategory::kVerification, error.problem(), str_cat(path.string(), ", ", error.where()),
                str_cat("the artifact breaks its promise '", error.promise(), "' and was not written"));
  };
  std::int64_t facts = 0;
  Graph graph = artifact.graph;
  try {
    infer_structure(graph, facts);
  } catch (const GraphError& error) {
    refuse(error);
  }
  if (graph.values != artifact.graph.values) {
    refuse(GraphError(ErrorCategory::kCorruptData, kPromiseShape, {}, "shapes of values are missing",
                      str_cat("graph '", graph.name, "'")));
  }
  std::vector<GraphError> problems = find_number_problems(graph, facts);
  if (problems.empty()) {
    problems = find_artifact_problems(artifact, facts);
  }
  if (!problems.empty()) {
    refuse(problems.front());
  }
}

}  // namespace
}  // namespace internal

std::vector<LayerPromise> derive_promises(const Graph& graph) {
  std::vector<LayerPromise> promises;
  for (const std::string& name : graph.weight_names()) {
    const Initializer& weight = graph.initializer(name);
    promises.push_back({.weight = name, .pattern = weight.pattern(), .zeros = count_zeros(weight), .note = {}});
  }
  return promises;
}

void write_artifact(const std::filesystem::path& path, const Artifact& artifact) {
  internal::require_sound(artifact, path);
  internal::Description description{.artifact = artifact, .checksums = {}};
  std::vector<format::TensorView> tensors;
  for (const auto& [name, item] : artifact.graph.initializers) {
    for (internal::StoredTensor& stored : internal::stored_tensors(name, item)) {
      const std::span<const std::byte> bytes = internal::bytes_of(item, stored.part);
      description.checksums[stored.name] = xxh3_64(bytes);
      tensors.push_back({std::move(stored.name), stored.dtype, std::move(stored.shape), bytes});
    }
  }
  const std::map<std::string, std::string> metadata{
      {internal::kFormatKey, internal::kFormatName},
      {internal::kVersionKey, std::to_string(internal::lowest_version(artifact.graph))},
      {internal::kDescriptionKey, internal::write_description(description)}};
  format::write_safetensors(path, metadata, tensors);
}

Artifact read_artifact(const std::filesystem::path& path) {
  internal::Examination examination = internal::examine(path);
  if (!examination.problems.empty()) {
    const internal::GraphError& first = examination.problems.front();
    throw Error(first.category(), first.problem(),
                first.where().empty() ? path.string() : str_cat(path.string(), ", ", first.where()), first.remedy());
  }
  return std::move(examination.artifact);
}

}  // namespace pare::graph
