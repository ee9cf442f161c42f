// What write_artifact, read_artifact and verify_artifact share. Internal to graph/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pare/graph/artifact.h"
#include "pare/graph/validation.h"

namespace pare::graph::internal {

inline constexpr const char* kFormatName = "pare";
inline constexpr const char* kFormatKey = "format";
inline constexpr const char* kVersionKey = "format_version";
inline constexpr const char* kDescriptionKey = "pare";

// The format version in which this graph's operators and encodings came in.
[[nodiscard]] int lowest_version(const Graph& graph);

// The JSON text of an artifact, and the checksums it states.
struct Description {
  Artifact artifact;                               // initializers without buffers and scales
  std::map<std::string, std::uint64_t> checksums;  // XXH3 by tensor name
};

// Throws kInvalidArgument for a text that is no UTF-8.
[[nodiscard]] std::string write_description(const Description& description);
// Throws GraphError (promise "structure"): no JSON, unknown, missing or repeated keys, wrong types, absurd sizes.
[[nodiscard]] Description parse_description(std::string_view text);

// How an initializer lies in the file.
struct StoredTensor {
  enum class Part { kData, kIndices, kScales, kGroupScales };
  std::string name;
  Part part = Part::kData;
  DType dtype = DType::kU8;
  Shape shape;
  bool any_first_extent = false;  // how many blocks are stored, their indices say
};
// Precondition: has_storable_shape(item).
[[nodiscard]] std::vector<StoredTensor> stored_tensors(const std::string& name, const Initializer& item);
[[nodiscard]] bool has_storable_shape(const Initializer& item);

// What an artifact promises beyond a valid graph: preprocessing, class names, patterns, zeros.
// Precondition: the graph passed infer_structure.
[[nodiscard]] std::vector<GraphError> find_artifact_problems(const Artifact& artifact, std::int64_t& facts);

// Everything that a file says, and everything that is wrong with it; the file as a whole comes first.
struct Examination {
  Artifact artifact;  // complete only if there are no problems
  std::int64_t facts = 0;
  std::vector<GraphError> problems;
};
// Throws kNotFound and kIo only.
[[nodiscard]] Examination examine(const std::filesystem::path& path);

}  // namespace pare::graph::internal
