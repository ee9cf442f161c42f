// From a trained model to an artifact that was verified and evaluated in the runtime.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pare/graph/artifact.h"
#include "pare/pipeline/evaluate.h"
#include "pare/pipeline/training.h"

namespace pare::pipeline {

// squash_mask, quantize_, sparsify_ and write_artifact, in that order. Weights that were masked to 2:4 are packed so if
// the recipe says; every other layer is promised as dense with the reason. Afterwards the model has no masks any more.
// Throws kState, naming the stage, while QAT has not finished; kVerification if a masked weight breaks its pattern;
// kIo.
void convert_to_artifact(Training& training, const RunData& data, const std::filesystem::path& path);

// verify_artifact, then the whole test set through a runtime::Session beside quant::exact_forward. Fills
// `record.artifact`, `.layers`, `.runtime`, `.confusion` and returns what is wrong with the artifact, "" if nothing.
// Throws kNotFound, kIo, kUnsupported.
[[nodiscard]] std::string check_artifact(Training& training, const RunData& data, const std::filesystem::path& path,
                                         RunRecord& record, const EvaluationProgress& progress = {});

// A line for each layer of an artifact, as reports show them. `planned`: the session's layers, for kernels.
[[nodiscard]] std::vector<LayerRecord> layer_records(const graph::Artifact& artifact,
                                                     const std::vector<runtime::PlannedLayer>& planned);

// What is wrong, in a few lines.
[[nodiscard]] std::string format_findings(const graph::VerifyReport& report);

}  // namespace pare::pipeline
