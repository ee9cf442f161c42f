// What a run has measured so far: filled by the runner, carried in checkpoints, rendered by the reports.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pare/format/dtype.h"

namespace pare::pipeline {

struct StageRecord {
  std::string name;             // "sparse", or "dense-2" where a kind occurs twice
  std::string kind;             // "dense", "sparse", "qat"
  double epochs = 0.0;          // may be a fraction
  double seconds = 0.0;         // training only, sums over resumes
  double accuracy = 0.0;        // percent, test set, at the end of the stage
  double loss = 0.0;            // mean training loss of the last epoch
  double sparsity = 0.0;        // fraction of zeros in all weights that a layer uses, at the end
  double lr = 0.0;              // base learning rate
  double ms_per_step = 0.0;     // mean
  std::int64_t first_step = 0;  // global step at which it began
  std::int64_t steps = 0;
};

// One point of the series that the report draws and TensorBoard shows.
struct SeriesPoint {
  std::int64_t step = 0;  // global, over all stages
  double value = 0.0;
};

struct LayerRecord {
  std::string name;     // node name
  std::string op;       // "QLinearConv"
  std::string scheme;   // "uint8 x int8", "dynamic int8 x int4 group 32"; "" in reports of before there were several
  Shape shape;          // of the weight
  std::string pattern;  // "2:4", "dense"
  std::int64_t zeros = 0;
  std::int64_t weight_bits = 8;
  std::int64_t bytes = 0;  // weight, scales and bias as stored
  std::string kernel;
  std::string note;  // why it is dense, for example
};

struct ArtifactRecord {
  std::string path;
  std::int64_t bytes = 0;
  std::int64_t dense_fp32_bytes = 0;
};

struct RuntimeRecord {
  double accuracy = 0.0;
  std::int64_t samples = 0;
  std::int64_t mismatches = 0;  // images whose logits or integers differ from QAT's exact evaluation
};

struct RunRecord {
  std::string recipe;  // its name
  std::vector<StageRecord> stages;
  std::vector<LayerRecord> layers;
  ArtifactRecord artifact;
  RuntimeRecord runtime;
  std::map<std::string, std::string> environment;  // pare, libtorch, compiler, cpu, threads, isa, seed, device
  // "loss", "lr", "accuracy" (test set, each epoch), "sparsity": by global step.
  std::map<std::string, std::vector<SeriesPoint>> series;
  std::vector<std::string> class_names;
  std::vector<std::vector<std::int64_t>> confusion;  // [true][predicted], from the runtime
  double accepted_drop = -1.0;                       // limit in points, -1: none
  bool accepted = true;
  std::vector<std::string> warnings;
};

}  // namespace pare::pipeline
