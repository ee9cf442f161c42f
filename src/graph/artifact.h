// .pare: an integer graph and all that is needed to classify a raw image, in one safetensors file.
//
// "__metadata__" holds "format" = "pare", "format_version" = "1", and "pare" = a JSON text that describes graph,
// quantization and sparsity (docs/format.md). Tensors: "<initializer>" for dense ones, "<initializer>.values" and
// "<initializer>.indices" for 2:4 and V:N:M ones, "<name>.scales" for scales per channel. Every tensor's XXH3 is in the
// JSON, so a damaged file can be blamed on a layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pare/graph/graph.h"

namespace pare::graph {

// What turns a raw image into the graph's input, and a class index into a word.
struct Preprocessing {
  std::vector<float> mean;  // one per channel; format::normalize_pixel
  std::vector<float> std;
};

// What the artifact promises of one layer that has a weight. verify re-derives each fact from the stored bytes.
struct LayerPromise {
  std::string weight;      // initializer name, "conv1.weight"
  std::string pattern;     // "dense", "2:4" or "64:1:4"; a weight that promises a pattern may be stored dense
  std::int64_t zeros = 0;  // codes that are 0
  std::string note;        // why a layer is dense, for example
};

struct Artifact {
  Graph graph;                  // integer graph
  Preprocessing preprocessing;  // both empty where the input is no image
  std::vector<std::string> class_names;
  std::vector<LayerPromise> promises;
  std::map<std::string, std::string> provenance;  // recipe name, pare version, accuracy at conversion; free text
};

// The newest version that is read. A file is written in the lowest version that has all of its operators and encodings.
inline constexpr int kArtifactFormatVersion = 3;

// What a graph's weights keep: pattern as stored, zeros counted, in graph order, no notes.
// Precondition: the graph was validated (infer_shapes).
[[nodiscard]] std::vector<LayerPromise> derive_promises(const Graph& graph);

// Atomic; the same artifact always gives the same bytes. The graph's shapes must have been inferred, promises be one
// for each weight in graph order (derive_promises). Throws kIo; kVerification if the artifact breaks a promise (nothing
// is written then); kInvalidArgument for texts that are no UTF-8 or names that cannot be told apart in the file.
void write_artifact(const std::filesystem::path& path, const Artifact& artifact);

// Validates everything (container, checksum, description, shapes, encodings) before it returns; the buffers point into
// the mapped file, which stays alive with them. Throws kNotFound, kIo, kCorruptData, kUnsupported (newer version).
[[nodiscard]] Artifact read_artifact(const std::filesystem::path& path);

struct VerifyFinding {
  std::string layer;    // node name, "" for the file as a whole
  std::string promise;  // "checksum", "pattern", "zeros", "scale", "range", "shape", "structure": docs/format.md
  std::string problem;
};

struct VerifyReport {
  std::int64_t facts_checked = 0;
  std::vector<VerifyFinding> findings;  // empty: all promises are kept
  [[nodiscard]] bool ok() const { return findings.empty(); }
};

// Re-derives pattern, zero, scale, shape and checksum facts from the file alone. Never throws for a damaged file (that
// is a finding); throws kNotFound and kIo only.
[[nodiscard]] VerifyReport verify_artifact(const std::filesystem::path& path);

}  // namespace pare::graph
