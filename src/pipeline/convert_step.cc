#include "pare/pipeline/convert_step.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/layer_cost.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/version.h"
#include "pare/quant/convert.h"
#include "pare/sparsity/squash_mask.h"

namespace pare::pipeline {
namespace {

constexpr std::size_t kMaxFindings = 10;

std::int64_t count_zeros(const graph::Initializer& weight) {
  const auto codes = weight.data.as<std::int8_t>();
  return std::count(codes.begin(), codes.end(), std::int8_t{0});
}

// Values whose integers must be compared: what every integer layer writes.
std::vector<std::string> quantized_outputs(const graph::Graph& graph) {
  std::vector<std::string> names;
  for (const graph::Node& node : graph.nodes) {
    if (node.has_weight() || node.op_type == "QuantizeLinear") {
      names.push_back(node.output);
    }
  }
  return names;
}

}  // namespace

void convert_to_artifact(Training& training, const RunData& data, const std::filesystem::path& path) {
  const Recipe& recipe = training.recipe();
  train::Model& model = training.model();
  std::map<std::string, std::vector<std::string>> expected;  // by pattern
  std::map<std::string, std::string> notes;
  if (const sparsity::Sparsifier* sparsifier = training.sparsifier()) {
    for (const sparsity::SparseGroup& group : sparsifier->groups()) {
      if (const std::string pattern = packed_pattern(group.config, recipe.sparsify); !pattern.empty()) {
        expected[pattern].push_back(group.tensor_fqn);
      } else if (recipe.sparsify != kSparsifyDense) {
        notes[group.tensor_fqn] = str_cat("masked ", group.pattern, ", which is not packed",
                                          recipe.sparsify == kSparsifyAuto ? "" : " as " + recipe.sparsify);
      }
    }
    for (const sparsity::DenseLayer& layer : sparsifier->dense_layers()) {
      notes[layer.tensor_fqn] = layer.reason;
    }
  }
  sparsity::squash_mask(model, {}, recipe.stages.back().name);

  graph::Artifact artifact;
  artifact.graph = quant::quantize_(model);
  for (const std::string& weight : artifact.graph.weight_names()) {
    artifact.promises.push_back({weight, "dense", count_zeros(artifact.graph.initializer(weight)), notes[weight]});
  }
  for (const auto& [pattern, weights] : expected) {
    const auto wanted = [&weights](const std::string& weight) {
      return std::find(weights.begin(), weights.end(), weight) != weights.end();
    };
    for (const quant::LayerDecision& decision :
         quant::sparsify_(artifact.graph, quant::SemiSparseWeightConfig{pattern}, weights, wanted)) {
      for (graph::LayerPromise& promise : artifact.promises) {
        if (promise.weight == decision.weight) {
          promise.pattern = decision.pattern;
          promise.note = promise.note.empty() && wanted(decision.weight) ? decision.note : promise.note;
        }
      }
    }
  }
  artifact.preprocessing = {recipe.data.normalize.mean, recipe.data.normalize.std};
  artifact.class_names = data.class_names;
  artifact.provenance["pare"] = version();
  artifact.provenance["recipe"] = recipe.name;
  artifact.provenance["model"] = recipe.model;
  artifact.provenance["seed"] = std::to_string(recipe.seed);
  if (!training.record.stages.empty()) {
    artifact.provenance["accuracy"] = fixed(training.record.stages.back().accuracy, 2);
  }
  graph::write_artifact(path, artifact);
}

std::vector<LayerRecord> layer_records(const graph::Artifact& artifact,
                                       const std::vector<runtime::PlannedLayer>& planned) {
  std::vector<LayerRecord> layers;
  for (const graph::Node& node : artifact.graph.nodes) {
    if (!node.has_weight()) {
      continue;
    }
    const graph::Initializer& weight = artifact.graph.initializer(node.inputs.at(1));
    LayerRecord layer;
    layer.name = node.name;
    layer.op = node.op_type;
    layer.shape = weight.shape;
    layer.pattern = weight.pattern();
    layer.weight_bits = 8 * static_cast<std::int64_t>(size_bytes(weight.dtype));
    layer.bytes = static_cast<std::int64_t>(weight.stored_bytes());
    if (weight.quantization) {
      layer.bytes += static_cast<std::int64_t>(weight.quantization->scales.size() * sizeof(float));
    }
    if (node.inputs.size() > 2) {
      layer.bytes += static_cast<std::int64_t>(artifact.graph.initializer(node.inputs[2]).stored_bytes());
    }
    for (const graph::LayerPromise& promise : artifact.promises) {
      if (promise.weight == node.inputs.at(1)) {
        layer.pattern = promise.pattern;
        layer.zeros = promise.zeros;
        layer.note = promise.note;
      }
    }
    for (const runtime::PlannedLayer& plan : planned) {
      if (plan.name == node.name) {
        layer.kernel = plan.kernel;
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::string format_findings(const graph::VerifyReport& report) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < report.findings.size() && i < kMaxFindings; ++i) {
    const graph::VerifyFinding& finding = report.findings[i];
    parts.push_back(
        str_cat(finding.layer.empty() ? "file" : finding.layer, ": ", finding.promise, ": ", finding.problem));
  }
  if (report.findings.size() > kMaxFindings) {
    parts.push_back(str_cat("and ", report.findings.size() - kMaxFindings, " more"));
  }
  return join(parts, "\n");
}

std::string check_artifact(Training& training, const RunData& data, const std::filesystem::path& path,
                           RunRecord& record, const EvaluationProgress& progress) {
  record.artifact.path = path.string();
  record.artifact.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  record.artifact.dense_fp32_bytes = graph::dense_fp32_bytes(
      graph::builtin(training.recipe().model, 0, data.image.at(0), data.image.at(1), data.image.at(2), data.classes()));
  record.layers.clear();
  record.runtime = {};
  record.confusion.clear();

  const graph::VerifyReport verified = graph::verify_artifact(path);
  if (!verified.ok()) {
    return "the artifact breaks what it promises:\n" + format_findings(verified);
  }
  runtime::SessionOptions options;
  options.threads = static_cast<std::size_t>(at::get_num_threads());
  options.max_batch = kEvaluationBatch;
  runtime::Session session = runtime::Session::load(path, options);
  const graph::Artifact artifact = graph::read_artifact(path);
  record.layers = layer_records(artifact, session.layers());

  const RuntimeEvaluation evaluation =
      compare_with_model(session, training.model(), data.test, training.recipe().data.normalize,
                         quantized_outputs(artifact.graph), progress);
  record.runtime = {evaluation.accuracy, evaluation.samples, evaluation.mismatches};
  record.confusion = evaluation.confusion;
  if (evaluation.mismatches > 0) {
    return str_cat("the runtime's numbers differ from QAT's for ", evaluation.mismatches, " of ", evaluation.samples,
                   " images, first at ", evaluation.first_mismatch);
  }
  return "";
}

}  // namespace pare::pipeline
