#include "pare/pipeline/convert_step.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/block.h"
#include "pare/format/vnm.h"
#include "pare/graph/builtin.h"
#include "pare/graph/weights.h"
#include "pare/pipeline/layer_cost.h"
#include "pare/pipeline/report/numbers.h"
#include "pare/pipeline/version.h"
#include "pare/quant/convert.h"
#include "pare/sparsity/squash_mask.h"

namespace pare::pipeline {
namespace {

constexpr std::size_t kMaxFindings = 10;

std::vector<quant::LayerDecision> pack(graph::Graph& graph, const std::string& pattern,
                                       const std::vector<std::string>& weights) {
  const auto wanted = [&weights](const std::string& weight) {
    return std::find(weights.begin(), weights.end(), weight) != weights.end();
  };
  if (const auto block = format::parse_block(pattern)) {
    return quant::sparsify_(graph, quant::BlockSparseWeightConfig(block->rows, block->columns), weights, wanted);
  }
  return quant::sparsify_(graph, quant::SemiSparseWeightConfig{pattern}, weights, wanted);
}

// As sparsity::pattern_name has it: the format calls every shared mask V:N:M, and blocks by their extents.
std::string shown_pattern(const std::string& promised) {
  if (const auto vnm = format::parse_vnm(promised); vnm && vnm->v == 1) {
    return str_cat(vnm->n, ":", vnm->m);
  }
  return format::parse_block(promised) ? str_cat("block ", promised) : promised;
}

// Values whose integers must be compared: what every integer layer writes.
std::vector<std::string> quantized_outputs(const graph::Graph& graph) {
  std::vector<std::string> names;
  for (const graph::Node& node : graph.nodes) {
    if (node.has_weight() || node.op_type == "QuantizeLinear" || node.op_type == "DequantizeLinear") {
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
  std::map<std::string, std::string> proven;                 // what weights that are stored dense obey all the same
  std::map<std::string, std::string> notes;
  if (const sparsity::Sparsifier* sparsifier = training.sparsifier()) {
    for (const sparsity::SparseGroup& group : sparsifier->groups()) {
      const auto& quantizer = model.weight(group.tensor_fqn).fake_quantizer();
      const bool int4 = quantizer != nullptr && quantizer->group() != 0;
      if (const std::string pattern = packed_pattern(group.config, recipe.sparsify, int4); !pattern.empty()) {
        expected[pattern].push_back(group.tensor_fqn);
        if (pattern == "2:4" && group.pattern != pattern) {
          notes[group.tensor_fqn] = str_cat("masked ", group.pattern, ", which is 2:4 as well");
        }
      } else if (recipe.sparsify != kSparsifyDense) {
        notes[group.tensor_fqn] = str_cat("masked ", group.pattern, ", which is not packed",
                                          recipe.sparsify == kSparsifyAuto ? "" : " as " + recipe.sparsify);
        if (const auto masks = group.config.vnm(); masks && format::parse_vnm(format::to_string(*masks))) {
          proven[group.tensor_fqn] = format::to_string(*masks);
        }
      }
    }
    for (const sparsity::DenseLayer& layer : sparsifier->dense_layers()) {
      notes[layer.tensor_fqn] = layer.reason;
    }
  }
  const quant::QATConfig& quantize = recipe.stages.back().quantize;
  for (const auto& [weight, planned] : quant::plan_schemes(model.graph(), quantize.scheme, quantize.layers)) {
    if (!planned.note.empty()) {
      notes[weight] += str_cat(notes[weight].empty() ? "" : "; ", planned.note);
    }
  }
  sparsity::squash_mask(model, {}, recipe.stages.back().name);

  graph::Artifact artifact;
  artifact.graph = quant::quantize_(model);
  for (const std::string& weight : artifact.graph.weight_names()) {
    artifact.promises.push_back(
        {weight, "dense", graph::count_zeros(artifact.graph.initializer(weight)), notes[weight]});
  }
  for (const auto& [pattern, weights] : expected) {
    for (const quant::LayerDecision& decision : pack(artifact.graph, pattern, weights)) {
      const bool wanted = std::find(weights.begin(), weights.end(), decision.weight) != weights.end();
      for (graph::LayerPromise& promise : artifact.promises) {
        if (promise.weight == decision.weight) {
          promise.pattern = decision.pattern;
          promise.note = promise.note.empty() && wanted ? decision.note : promise.note;
        }
      }
    }
  }
  for (graph::LayerPromise& promise : artifact.promises) {
    if (const auto pattern = proven.find(promise.weight); pattern != proven.end()) {
      promise.pattern = pattern->second;
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
    layer.scheme = graph::scheme_of(artifact.graph, node);
    layer.weight_bits = weight.is_int4() ? 4 : 8;
    layer.bytes = static_cast<std::int64_t>(weight.stored_bytes());
    if (weight.quantization) {
      layer.bytes += static_cast<std::int64_t>(weight.quantization->scales.size() * sizeof(float));
    }
    if (node.inputs.size() > 2) {
      layer.bytes += static_cast<std::int64_t>(artifact.graph.initializer(node.inputs[2]).stored_bytes());
    }
    for (const graph::LayerPromise& promise : artifact.promises) {
      if (promise.weight == node.inputs.at(1)) {
        layer.pattern = shown_pattern(promise.pattern);
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
