#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "pare/base/checksum.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/safetensors.h"
#include "pare/graph/artifact_internal.h"
#include "pare/graph/weights.h"

namespace pare::graph {
namespace internal {
namespace {

GraphError corrupt(const char* promise, const std::string& layer, std::string problem) {
  return {ErrorCategory::kCorruptData, promise, layer, std::move(problem),
          layer.empty() ? std::string() : str_cat("layer '", layer, "'")};
}

// ---- the file ----

// Node by initializer, as far as a graph that was not validated yet can tell.
std::map<std::string, std::string> layers_of_initializers(const Graph& graph) {
  std::map<std::string, std::string> layers;
  for (const Node& node : graph.nodes) {
    for (std::size_t index = 1; index < node.inputs.size(); ++index) {
      layers.emplace(node.inputs[index], node.name);
    }
  }
  return layers;
}

void check_metadata(const format::SafetensorsFile& file, Examination& result) {
  const auto& metadata = file.metadata();
  result.facts += 2;
  const auto format_name = metadata.find(kFormatKey);
  if (format_name == metadata.end() || format_name->second != kFormatName) {
    result.problems.push_back(
        corrupt(kPromiseStructure, {}, "it is a safetensors file, but its metadata do not say \"format\": \"pare\""));
    return;
  }
  const auto version_text = metadata.find(kVersionKey);
  int version = 0;
  if (version_text != metadata.end()) {
    const std::string& text = version_text->second;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), version);
    version = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? version : 0;
  }
  if (version < 1) {
    result.problems.push_back(corrupt(kPromiseStructure, {}, "its metadata have no valid \"format_version\""));
  } else if (version > kArtifactFormatVersion) {
    result.problems.emplace_back(
        ErrorCategory::kUnsupported, kPromiseStructure, std::string(),
        str_cat("it has format version ", version, ", and this pare reads up to ", kArtifactFormatVersion),
        std::string(), "update pare");
  } else if (metadata.size() != 3 || !metadata.contains(kDescriptionKey)) {
    result.problems.push_back(
        corrupt(kPromiseStructure, {}, "its metadata must be \"format\", \"format_version\" and \"pare\", no others"));
  }
}

// Finds one stored tensor, checks it against the description, and hands its bytes over.
void attach(const format::SafetensorsFile& file, const StoredTensor& stored, const Description& description,
            const std::string& layer, Initializer& item, Examination& result) {
  result.facts += 3;
  if (!file.contains(stored.name)) {
    result.problems.push_back(corrupt(kPromiseStructure, layer, str_cat("the tensor '", stored.name, "' is missing")));
    return;
  }
  const format::TensorView& tensor = file.tensor(stored.name);
  if (tensor.dtype != stored.dtype) {
    result.problems.push_back(corrupt(kPromiseStructure, layer,
                                      str_cat("the tensor '", stored.name, "' is ", safetensors_name(tensor.dtype),
                                              " and must be ", safetensors_name(stored.dtype))));
    return;
  }
  Shape expected = stored.shape;
  if (stored.any_first_extent && !tensor.shape.empty()) expected.front() = tensor.shape.front();
  if (tensor.shape != expected) {
    result.problems.push_back(corrupt(kPromiseShape, layer,
                                      str_cat("the tensor '", stored.name, "' has shape ", to_string(tensor.shape),
                                              " and must have ", to_string(expected))));
    return;
  }
  const auto promised = description.checksums.find(stored.name);
  if (promised == description.checksums.end()) {
    result.problems.push_back(
        corrupt(kPromiseStructure, layer, str_cat("the description has no checksum of '", stored.name, "'")));
  } else if (promised->second != xxh3_64(tensor.bytes)) {
    result.problems.push_back(
        corrupt(kPromiseChecksum, layer, str_cat("the tensor '", stored.name, "' does not have its checksum")));
  }
  switch (stored.part) {
    case StoredTensor::Part::kData:
      item.data = Buffer(file.owner(), tensor.bytes);
      break;
    case StoredTensor::Part::kIndices:
      item.indices = Buffer(file.owner(), tensor.bytes);
      break;
    case StoredTensor::Part::kGroupScales:
      item.scales = Buffer(file.owner(), tensor.bytes);
      break;
    case StoredTensor::Part::kScales:
      item.quantization->scales.resize(tensor.bytes.size() / sizeof(float));
      std::memcpy(item.quantization->scales.data(), tensor.bytes.data(), tensor.bytes.size());
      break;
  }
}

void attach_tensors(const format::SafetensorsFile& file, Description& description, Examination& result) {
  Graph& graph = description.artifact.graph;
  const std::map<std::string, std::string> layers = layers_of_initializers(graph);
  std::set<std::string> claimed;
  for (auto& [name, item] : graph.initializers) {
    const auto found = layers.find(name);
    const std::string layer = found == layers.end() ? std::string() : found->second;
    if (!has_storable_shape(item)) {
      result.problems.push_back(corrupt(
          kPromiseShape, layer,
          str_cat("'", name, "' stored ", item.pattern(), " has the impossible shape ", to_string(item.shape))));
      continue;
    }
    for (const StoredTensor& stored : stored_tensors(name, item)) {
      if (!claimed.insert(stored.name).second) {
        result.problems.push_back(
            corrupt(kPromiseStructure, layer, str_cat("the tensor '", stored.name, "' belongs to two initializers")));
        continue;
      }
      attach(file, stored, description, layer, item, result);
    }
  }
  ++result.facts;
  for (const auto& entry : description.checksums) {
    if (!claimed.contains(entry.first)) {
      result.problems.push_back(corrupt(
          kPromiseStructure, {}, str_cat("a checksum names '", entry.first, "', which is no tensor of its graph")));
    }
  }
  for (const format::TensorView& tensor : file.tensors()) {
    if (!claimed.contains(tensor.name)) {
      result.problems.push_back(
          corrupt(kPromiseStructure, {}, str_cat("the description does not know the tensor '", tensor.name, "'")));
    }
  }
}

bool breaks(const Examination& result, const char* promise) {
  return std::any_of(result.problems.begin(), result.problems.end(),
                     [&](const GraphError& problem) { return problem.promise() == promise; });
}

// What the description and the tensors say, as far as each step allows the next one.
void examine_contents(const format::SafetensorsFile& file, Examination& result) {
  check_metadata(file, result);
  if (breaks(result, kPromiseStructure)) {
    return;
  }
  Description description = parse_description(file.metadata().at(kDescriptionKey));
  ++result.facts;
  attach_tensors(file, description, result);
  if (breaks(result, kPromiseStructure) || breaks(result, kPromiseShape)) {
    return;
  }
  Artifact& artifact = description.artifact;
  infer_structure(artifact.graph, result.facts);
  for (std::vector<GraphError>& problems :
       std::array{find_number_problems(artifact.graph, result.facts), find_artifact_problems(artifact, result.facts)}) {
    std::move(problems.begin(), problems.end(), std::back_inserter(result.problems));
  }
  result.artifact = std::move(artifact);
}

// ---- the artifact ----

class ArtifactChecks {
 public:
  ArtifactChecks(const Artifact& artifact, std::int64_t& facts) : artifact_(artifact), facts_(facts) {}

  void check_ends() {
    const Graph& graph = artifact_.graph;
    const Value& input = graph.values.at(graph.input);
    const Value& output = graph.values.at(graph.output);
    facts_ += 3;
    if (!is_integer_graph(graph)) {
      problems_.emplace_back(ErrorCategory::kUnsupported, kPromiseStructure, std::string(),
                             "its graph computes in float32; an artifact holds integer graphs");
    }
    for (const Node* reader : graph.consumers_of(graph.input)) {
      if (is_image(input) && reader->op_type != "QuantizeLinear") {
        report(kPromiseStructure, reader->name,
               str_cat("it reads the image '", graph.input,
                       "', which only QuantizeLinear may: the runtime quantizes "
                       "raw pixels"));
      }
    }
    if (output.dtype != DType::kF32 || output.shape.size() > 3) {
      report(kPromiseShape, {},
             str_cat("the graph's output ", to_string(output.shape),
                     " must be float32: logits [batch, classes] or [batch, length, features]"));
    }
  }

  void check_preprocessing() {
    const auto& [mean, deviation] = artifact_.preprocessing;
    const Value& input = artifact_.graph.values.at(artifact_.graph.input);
    const auto channels = is_image(input) ? static_cast<std::size_t>(input.shape[1]) : 0;
    facts_ += 2;
    if (mean.size() != channels || deviation.size() != channels) {
      report(kPromiseStructure, {},
             str_cat("preprocessing has ", mean.size(), " means and ", deviation.size(), " deviations for ", channels,
                     " channels of an image"));
    }
    const auto is_finite = [](float value) { return std::isfinite(value); };
    const auto divides = [](float value) { return std::isfinite(value) && value >= format::kMinScale; };
    if (!std::all_of(mean.begin(), mean.end(), is_finite) ||
        !std::all_of(deviation.begin(), deviation.end(), divides)) {
      report(kPromiseRange, {}, str_cat("a mean is not finite or a deviation is below ", format::kMinScale));
    }
  }

  void check_class_names() {
    const Shape& output = artifact_.graph.values.at(artifact_.graph.output).shape;
    const auto classes = output.size() == 2 ? static_cast<std::size_t>(output[1]) : 0;
    ++facts_;
    if (!artifact_.class_names.empty() && artifact_.class_names.size() != classes) {
      report(kPromiseStructure, {},
             str_cat("there are ", artifact_.class_names.size(), " class names for ", classes, " classes"));
    }
  }

  void check_promises() {
    const std::vector<std::string> weights = artifact_.graph.weight_names();
    ++facts_;
    bool same = weights.size() == artifact_.promises.size();
    for (std::size_t i = 0; same && i < weights.size(); ++i) {
      same = weights[i] == artifact_.promises[i].weight;
    }
    if (!same) {
      report(kPromiseStructure, {}, "the promises (\"layers\") are not one for each weight of the graph, in its order");
      return;
    }
    std::size_t next = 0;
    for (const Node& node : artifact_.graph.nodes) {
      if (node.has_weight()) {
        check_promise(node.name, artifact_.promises[next++]);
      }
    }
  }

  [[nodiscard]] std::vector<GraphError> take() { return std::move(problems_); }

 private:
  void report(const char* promise, const std::string& layer, std::string problem) {
    problems_.push_back(corrupt(promise, layer, std::move(problem)));
  }

  void check_promise(const std::string& layer, const LayerPromise& promise) {
    const Initializer& weight = artifact_.graph.initializers.at(promise.weight);
    facts_ += 2;
    const std::optional<format::VnmPattern> vnm = format::parse_vnm(promise.pattern);
    if (promise.pattern != "dense" && promise.pattern != "2:4" && !vnm.has_value() &&
        !format::parse_block(promise.pattern).has_value()) {
      problems_.emplace_back(ErrorCategory::kUnsupported, kPromisePattern, layer,
                             str_cat("the pattern '", promise.pattern, "' of '", promise.weight, "' is not known"),
                             str_cat("layer '", layer, "'"));
    } else if (!weight.stores_zeros() && weight.pattern() != promise.pattern) {
      report(kPromisePattern, layer,
             str_cat("'", promise.weight, "' is stored ", weight.pattern(), " but promised ", promise.pattern));
    } else if (weight.stores_zeros() && promise.pattern == "2:4") {
      check_two_four_codes(layer, promise.weight, weight);
    } else if (weight.stores_zeros() && vnm.has_value()) {
      check_vnm_codes(layer, promise.weight, weight, *vnm);
    }
    const std::int64_t zeros = count_zeros(weight);
    if (zeros != promise.zeros) {
      report(kPromiseZeros, layer,
             str_cat("'", promise.weight, "' has ", zeros, " zeros and promises ", promise.zeros));
    }
  }

  void check_two_four_codes(const std::string& layer, const std::string& name, const Initializer& weight) {
    const format::PatternViolation violation =
        format::find_two_four_violation(codes_in_group_order(weight), two_four_layout(weight.shape));
    if (violation.violations > 0) {
      report(kPromisePattern, layer,
             str_cat("'", name, "' promises 2:4, but ", violation.violations,
                     " groups have more than two weights that are not 0; the first is group ", violation.group,
                     " of row ", violation.row));
    }
  }

  void check_vnm_codes(const std::string& layer, const std::string& name, const Initializer& weight,
                       const format::VnmPattern& pattern) {
    const format::VnmViolation violation =
        format::find_vnm_violation(codes_in_group_order(weight), vnm_layout(weight.shape, pattern));
    if (violation.violations > 0) {
      report(kPromisePattern, layer,
             str_cat("'", name, "' promises ", format::to_string(pattern), ", but ", violation.violations,
                     " groups of a block of rows need more than ", pattern.n, " positions; the first is group ",
                     violation.group, " of block ", violation.block));
    }
  }

  const Artifact& artifact_;
  std::int64_t& facts_;
  std::vector<GraphError> problems_;
};

}  // namespace

std::vector<GraphError> find_artifact_problems(const Artifact& artifact, std::int64_t& facts) {
  ArtifactChecks checks(artifact, facts);
  checks.check_ends();
  std::vector<GraphError> problems = checks.take();
  if (!problems.empty()) {
    return problems;  // the others rely on them
  }
  ArtifactChecks others(artifact, facts);
  others.check_preprocessing();
  others.check_class_names();
  others.check_promises();
  return others.take();
}

Examination examine(const std::filesystem::path& path) {
  Examination result;
  try {
    const format::SafetensorsFile file(path, format::SafetensorsFile::Checksum::kSkip);
    result.facts += 2;
    if (!file.checksum_matches()) {
      result.problems.push_back(
          corrupt(kPromiseChecksum, {}, "the file does not have its checksum: bytes have changed"));
    }
    examine_contents(file, result);
  } catch (const GraphError& error) {
    result.problems.push_back(error);
  } catch (const Error& error) {
    if (error.category() == ErrorCategory::kNotFound || error.category() == ErrorCategory::kIo) {
      throw;
    }
    result.problems.emplace_back(error.category(), kPromiseStructure, std::string(), error.problem());
  }
  return result;
}

}  // namespace internal

VerifyReport verify_artifact(const std::filesystem::path& path) {
  const internal::Examination examination = internal::examine(path);
  VerifyReport report;
  report.facts_checked = examination.facts;
  for (const internal::GraphError& error : examination.problems) {
    report.findings.push_back({error.layer(), error.promise(), error.problem()});
  }
  return report;
}

}  // namespace pare::graph
