// pare-run inspect and verify: what is in the file, and whether that is true.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/cli/pare_run_commands.h"
#include "pare/cli/pare_run_numbers.h"
#include "pare/graph/artifact.h"
#include "pare/graph/weights.h"
#include "pare/runtime/session.h"

namespace pare::cli {

namespace {

using Json = nlohmann::ordered_json;
using runtime::PlannedLayer;
using runtime::Session;

// One layer: what is stored, and what the plan makes of it.
struct LayerRow {
  const graph::Node* node;
  PlannedLayer plan;
  Shape weight_shape;  // empty where there is no weight
  std::int64_t zeros = 0;
  std::int64_t weights = 0;
  std::string scheme = {};
  int bits = 8;
  std::int64_t stored_bytes = 0;  // weight, scales, bias
};

std::vector<LayerRow> layer_rows(const graph::Artifact& artifact, const Session& session) {
  std::vector<LayerRow> rows;
  for (std::size_t i = 0; i < session.layers().size(); ++i) {
    LayerRow row{.node = &artifact.graph.nodes[i], .plan = session.layers()[i], .weight_shape = {}};
    if (row.node->has_weight()) {
      const graph::Initializer& weight = artifact.graph.initializer(row.node->inputs[1]);
      row.weight_shape = weight.shape;
      row.weights = element_count(weight.shape);
      row.zeros = graph::count_zeros(weight);
      row.scheme = graph::scheme_of(artifact.graph, *row.node);
      row.bits = weight.is_int4() ? 4 : 8;
      row.stored_bytes = static_cast<std::int64_t>(weight.stored_bytes());
      if (weight.quantization.has_value()) {
        row.stored_bytes += static_cast<std::int64_t>(weight.quantization->scales.size() * sizeof(float));
      }
      if (row.node->inputs.size() > 2) {
        row.stored_bytes += static_cast<std::int64_t>(artifact.graph.initializer(row.node->inputs[2]).stored_bytes());
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Json inspect_json(const RunOptions& run, const graph::Artifact& artifact, const Session& session,
                  const std::vector<LayerRow>& rows, std::int64_t file_bytes, std::int64_t fp32_bytes) {
  Json layers = Json::array();
  for (const LayerRow& row : rows) {
    Json layer = {{"name", row.plan.name},
                  {"op", row.plan.op_type},
                  {"output_shape", row.plan.output_shape},
                  {"kernel", row.plan.kernel},
                  {"note", row.plan.note}};
    if (row.weights > 0) {
      layer.update({{"shape", row.weight_shape},
                    {"scheme", row.scheme},
                    {"pattern", row.plan.pattern},
                    {"zeros", row.zeros},
                    {"weight_bits", row.bits},
                    {"bytes", row.stored_bytes},
                    {"packed_bytes", row.plan.weight_bytes},
                    {"macs", row.plan.macs}});
    }
    layers.push_back(std::move(layer));
  }
  Json notes = Json::array();
  for (const runtime::SessionNote& note : session.notes()) notes.push_back(note.text);
  return {{"model", run.model.string()},
          {"notes", std::move(notes)},
          {"graph", artifact.graph.name},
          {"input_shape", session.input_shape()},
          {"output_shape", session.output_shape()},
          {"classes", session.classes()},
          {"class_names", session.class_names()},
          {"normalize", {{"mean", artifact.preprocessing.mean}, {"std", artifact.preprocessing.std}}},
          {"bytes", file_bytes},
          {"dense_fp32_bytes", fp32_bytes},
          {"provenance", artifact.provenance},
          {"layers", std::move(layers)}};
}

std::string numbers(const std::vector<float>& values) {
  std::string text;
  for (const float value : values) text += str_cat(text.empty() ? "" : ", ", value);
  return text;
}

}  // namespace

int run_inspect(const RunOptions& run, const InspectOptions& options) {
  const graph::Artifact artifact = graph::read_artifact(run.model);
  const Session session = load_session(run, options.batch);
  const std::vector<LayerRow> rows = layer_rows(artifact, session);
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(run.model));
  const std::int64_t fp32_bytes = graph::dense_fp32_bytes(artifact.graph);
  if (run.json) {
    std::printf("%s\n", inspect_json(run, artifact, session, rows, file_bytes, fp32_bytes).dump(2).c_str());
    return kExitDone;
  }
  TextTable facts({{"model"}, {run.model.string()}});
  facts.add_row({"graph", artifact.graph.name});
  const std::string input = to_string(session.input_shape());
  facts.add_row({"input", session.takes_images() ? str_cat(input, ", mean ", numbers(artifact.preprocessing.mean),
                                                           ", std ", numbers(artifact.preprocessing.std))
                                                 : input + ", float32"});
  if (session.output_shape().size() == 1) {
    facts.add_row({"classes", str_cat(session.classes(), artifact.class_names.empty() ? "" : ": ",
                                      join(artifact.class_names, ", "))});
  } else {
    facts.add_row({"output", to_string(session.output_shape()) + ", float32"});
  }
  facts.add_row({"size", str_cat(grouped(file_bytes), " bytes, ",
                                 fixed(static_cast<double>(file_bytes) / static_cast<double>(fp32_bytes), 3),
                                 " of the ", grouped(fp32_bytes), " that dense float32 weights take")});
  for (const auto& [key, value] : artifact.provenance) facts.add_row({key, value});
  std::printf("%s\n", facts.text().c_str());

  TextTable layers({{"layer"},
                    {"operator"},
                    {"weight"},
                    {"output"},
                    {"pattern"},
                    {"zeros", TextTable::Align::kRight},
                    {"scheme"},
                    {"bytes", TextTable::Align::kRight},
                    {"kernel"}});
  std::string notes;
  for (const runtime::SessionNote& note : session.notes()) notes += str_cat("  ", note.text, "\n");
  for (const LayerRow& row : rows) {
    const bool has_weight = row.weights > 0;
    const double zeros = has_weight ? static_cast<double>(row.zeros) / static_cast<double>(row.weights) : 0.0;
    layers.add_row({row.plan.name, row.plan.op_type, has_weight ? to_string(row.weight_shape) : "",
                    to_string(row.plan.output_shape), row.plan.pattern,
                    has_weight ? fixed(100.0 * zeros, 1) + " %" : "", row.scheme,
                    has_weight ? grouped(row.stored_bytes) : "", row.plan.kernel});
    if (!row.plan.note.empty()) notes += str_cat("  ", row.plan.name, ": ", row.plan.note, "\n");
  }
  std::fputs(layers.text().c_str(), stdout);
  if (!notes.empty()) std::printf("\nnotes\n%s", notes.c_str());
  return kExitDone;
}

int run_verify(const RunOptions& run) {
  const graph::VerifyReport report = graph::verify_artifact(run.model);
  const int code = report.ok() ? kExitDone : kExitVerification;
  if (run.json) {
    Json json = {{"model", run.model.string()}, {"facts_checked", report.facts_checked}, {"ok", report.ok()}};
    json["findings"] = Json::array();
    for (const graph::VerifyFinding& finding : report.findings) {
      json["findings"].push_back(
          {{"layer", finding.layer}, {"promise", finding.promise}, {"problem", finding.problem}});
    }
    std::printf("%s\n", json.dump(2).c_str());
    return code;
  }
  for (const graph::VerifyFinding& finding : report.findings) {
    std::printf("%s: breaks '%s': %s\n", finding.layer.empty() ? "the file" : ("layer " + finding.layer).c_str(),
                finding.promise.c_str(), finding.problem.c_str());
  }
  if (report.ok()) {
    std::printf("%s keeps all its promises (%s facts checked)\n", run.model.c_str(),
                grouped(report.facts_checked).c_str());
  } else {
    std::fprintf(stderr, "pare-run: error: %s: %zu of its promises %s broken; write it anew from its checkpoint\n",
                 run.model.c_str(), report.findings.size(), report.findings.size() == 1 ? "is" : "are");
  }
  return code;
}

}  // namespace pare::cli
