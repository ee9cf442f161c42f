#include "pare/pipeline/commands.h"

#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <system_error>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/format/safetensors.h"
#include "pare/graph/artifact.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/convert_step.h"
#include "pare/pipeline/plan.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/runner.h"
#include "pare/pipeline/training.h"

namespace pare::pipeline {
namespace {

train::Dataset load_test_images(const std::filesystem::path& artifact, const TestImages& images) {
  if (!images.set.empty()) {
    return train::known_dataset(images.set).test;
  }
  if (!images.images.empty()) {
    return train::load_idx_dataset(images.images, images.labels);
  }
  std::filesystem::path recipe = images.recipe;
  if (recipe.empty()) {
    recipe = artifact.parent_path() / "recipe.toml";
    if (!file_exists(recipe)) {
      throw Error(ErrorCategory::kUsage, "no test images are named", artifact.string(),
                  "give --data fashion-mnist, --images FILE --labels FILE, or --recipe FILE");
    }
  }
  return load_run_data(load_recipe(recipe)).test;
}

// A checkpoint with everything that belongs to it.
struct Restored {
  Recipe recipe;
  RunData data;
  std::optional<Training> training;
};

// Filled in place: Training keeps a reference to the recipe.
void restore(const std::filesystem::path& path, const std::vector<std::string>& overrides, Restored& restored) {
  const train::Checkpoint checkpoint = train::read_checkpoint(path);
  restored.recipe = recipe_of(checkpoint, path.string(), overrides);
  restored.data = load_run_data(restored.recipe);
  restored.training.emplace(restored.recipe, restored.data.image, restored.data.classes(),
                            std::max<std::int64_t>(1, restored.data.train.size() / restored.recipe.data.batch),
                            checkpoint);
}

}  // namespace

FileKind kind_of_file(const std::filesystem::path& path) {
  if (path.extension() == ".toml") {
    return FileKind::kRecipe;
  }
  const format::SafetensorsFile file(path, format::SafetensorsFile::Checksum::kSkip);
  const auto& metadata = file.metadata();
  const auto found = metadata.find("format");
  if (found != metadata.end() && found->second == "pare") {
    return FileKind::kArtifact;
  }
  if (metadata.contains("pare_checkpoint_version")) {
    return FileKind::kCheckpoint;
  }
  throw Error(ErrorCategory::kUnsupported, "this safetensors file is neither an artifact nor a checkpoint of pare",
              path.string());
}

RuntimeEvaluation evaluate_artifact(const std::filesystem::path& artifact, const TestImages& images,
                                    std::size_t threads, Monitor& monitor) {
  runtime::SessionOptions options;
  options.threads = threads;
  options.max_batch = kEvaluationBatch;
  runtime::Session session = runtime::Session::load(artifact, options);
  const train::Dataset dataset = load_test_images(artifact, images);
  const Shape image(dataset.images.sizes().begin() + 1, dataset.images.sizes().end());
  if (image != session.input_shape()) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the images are ", pare::to_string(image), "; the artifact takes ",
                        pare::to_string(session.input_shape())),
                artifact.string());
  }
  monitor.begin("evaluate", "img", dataset.size(), 0, 1.0);
  RuntimeEvaluation result = evaluate_session(session, dataset, [&](std::int64_t done) { monitor.advance(done); });
  monitor.end();
  return result;
}

CheckpointEvaluation evaluate_checkpoint(const std::filesystem::path& checkpoint,
                                         const std::vector<std::string>& overrides) {
  Restored restored;
  restore(checkpoint, overrides, restored);
  CheckpointEvaluation result;
  train::Model& model = restored.training->model();
  result.exact = model.qat_state() != train::QatState::kNone;
  result.evaluation = evaluate_model(model, restored.data.test, restored.recipe.data.normalize);
  result.recipe = restored.recipe.name;
  return result;
}

RunRecord convert_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& artifact,
                             const std::vector<std::string>& overrides, Monitor& monitor) {
  Restored restored;
  restore(checkpoint, overrides, restored);
  convert_to_artifact(*restored.training, restored.data, artifact);
  RunRecord record = restored.training->record;
  monitor.begin("verify", "img", restored.data.test.size(), 0, 1.0);
  const std::string problem = check_artifact(*restored.training, restored.data, artifact, record,
                                             [&](std::int64_t done) { monitor.advance(done); });
  monitor.end();
  if (!problem.empty()) {
    throw Error(ErrorCategory::kVerification, problem, artifact.string(), "the file is kept");
  }
  return record;
}

std::string describe_artifact(const std::filesystem::path& path) {
  const graph::Artifact artifact = graph::read_artifact(path);
  const runtime::Session session = runtime::Session::load(path);
  std::ostringstream out;
  out << path.string() << ": " << format_bytes(static_cast<std::int64_t>(std::filesystem::file_size(path)))
      << ", input " << pare::to_string(session.input_shape()) << ", " << session.classes() << " classes, buffers "
      << format_bytes(static_cast<std::int64_t>(session.arena_bytes())) << "\n";
  for (const auto& [key, value] : artifact.provenance) {
    out << "  " << std::left << std::setw(10) << key << " " << value << "\n";
  }
  using Align = TextTable::Align;
  TextTable layers({{"layer"},
                    {"op"},
                    {"weight"},
                    {"scheme"},
                    {"pattern"},
                    {"zeros", Align::kRight},
                    {"bytes", Align::kRight},
                    {"kernel"},
                    {"because"}});
  for (const LayerRecord& layer : layer_records(artifact, session.layers())) {
    layers.add_row({layer.name, layer.op, pare::to_string(layer.shape), layer.scheme, layer.pattern,
                    std::to_string(layer.zeros), std::to_string(layer.bytes), layer.kernel, layer.note});
  }
  out << "\n" << layers.text();
  return out.str();
}

std::string describe_checkpoint(const std::filesystem::path& path) {
  const train::Checkpoint checkpoint = train::read_checkpoint(path);
  const auto record_text = checkpoint.metadata.find("record");
  std::ostringstream out;
  const Recipe recipe = recipe_of(checkpoint, path.string());
  out << path.string() << ": checkpoint of '" << recipe.name << "', model " << recipe.model << "\n";
  if (record_text != checkpoint.metadata.end()) {
    const RunRecord record = record_from_json(record_text->second);
    for (const StageRecord& stage : record.stages) {
      out << "  stage " << std::left << std::setw(10) << stage.name << " done, accuracy " << std::fixed
          << std::setprecision(2) << stage.accuracy << " %\n";
    }
    if (record.stages.size() < recipe.stages.size()) {
      out << "  stage " << std::left << std::setw(10) << recipe.stages[record.stages.size()].name
          << " under way or next\n";
    }
  }
  TextTable tensors({{"tensor"}, {"type"}, {"shape"}});
  for (const auto& [name, tensor] : checkpoint.tensors) {
    tensors.add_row({name, c10::toString(tensor.scalar_type()), pare::to_string(tensor.sizes().vec())});
  }
  out << "\n" << tensors.text();
  return out.str();
}

std::vector<LayerPlan> layer_plans_of_file(const std::filesystem::path& path) {
  const FileKind kind = kind_of_file(path);
  if (kind == FileKind::kRecipe) {
    return forecast_layers(load_recipe(path)).layers;
  }
  if (kind == FileKind::kCheckpoint) {
    return forecast_layers(recipe_of(train::read_checkpoint(path), path.string())).layers;
  }
  const graph::Artifact artifact = graph::read_artifact(path);
  std::vector<LayerPlan> plans;
  for (const LayerRecord& layer : layer_records(artifact, {})) {
    plans.push_back({layer.name, layer.op == "QLinearConv" ? "Conv" : "Gemm", layer.pattern,
                     static_cast<int>(layer.weight_bits), 8, layer.shape.at(1), layer.shape.at(0)});
  }
  return plans;
}

std::vector<LayerPlan> layer_plans_of_builtin(const std::string& model) {
  const graph::Graph graph = graph::builtin(model);
  std::vector<LayerPlan> plans;
  for (const graph::Node& node : graph.nodes) {
    if (node.has_weight()) {
      const Shape& shape = graph.initializer(node.inputs.at(1)).shape;
      plans.push_back({node.name, node.op_type, "dense", 8, 8, shape.at(1), shape.at(0)});
    }
  }
  return plans;
}

RunRecord rewrite_reports(const std::filesystem::path& folder) {
  RunRecord record;
  if (file_exists(folder / "report.json")) {
    record = record_from_json(read_text_file(folder / "report.json"));
  } else {
    std::optional<train::Checkpoint> checkpoint;
    if (file_exists(folder / "checkpoints")) {
      checkpoint = train::CheckpointFolder(folder / "checkpoints").load_newest();
    }
    if (!checkpoint || !checkpoint->metadata.contains("record")) {
      throw Error(ErrorCategory::kNotFound, "there is neither a report.json nor a checkpoint", folder.string(),
                  "name the folder of a run, as in runs/quick");
    }
    record = record_from_json(checkpoint->metadata.at("record"));
  }
  write_reports(folder, record);
  write_tensorboard_events(folder, record);
  return record;
}

}  // namespace pare::pipeline
