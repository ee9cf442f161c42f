// `pare sensitivity`: what each layer alone costs a trained network, pruned to a pattern and rounded to few bits.
//
// Every candidate (layer, pattern, bits) is put into the trained network by itself, without training, and the loss is
// measured on images that did not calibrate it. What that says, and what it does not: docs/suggest.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pare/pipeline/monitor.h"
#include "pare/pipeline/recipe.h"
#include "pare/sparsity/sparsifier.h"
#include "pare/train/evaluate.h"

namespace pare::pipeline {

inline constexpr const char* kFloat32Bits = "float32";
inline constexpr const char* kInt8Bits = "int8";

struct SensitivityOptions {
  std::filesystem::path checkpoint;       // of a dense stage; "": [model] checkpoint of the recipe
  std::int64_t images = 2000;             // the last so many training images measure the loss,
  std::int64_t calibration_images = 512;  // the first so many calibrate
  std::vector<std::string> patterns = {"2:4", "64:2:4", "64:1:4"};
  std::vector<std::string> bits = {kFloat32Bits, kInt8Bits, "int4/32"};  // of bits_names()
  std::string sparsifier = "weight_norm";                                // of sparsity::sparsifier_names()
};

// "float32", "int8" (per output channel, as QAT has it), "int4/32", "int4/64", "int4/128" (in groups of so many along
// k, format/int4.h).
[[nodiscard]] std::vector<std::string> bits_names();

struct SensitivityCandidate {
  std::string pattern;       // "dense", "2:4"
  std::string bits;          // "int8"
  double loss = 0.0;         // mean cross-entropy
  std::int64_t correct = 0;  // images
};

struct ImpossibleCandidate {
  std::string pattern;
  std::string bits;
  std::string reason;
};

struct LayerSensitivity {
  std::string weight;  // "conv2.weight"
  std::string op;      // "Conv"
  Shape shape;
  std::vector<SensitivityCandidate> candidates;  // pattern by pattern, "dense" first
  std::vector<ImpossibleCandidate> impossible;

  // Null if it was not measured.
  [[nodiscard]] const SensitivityCandidate* find(const std::string& pattern, const std::string& bits) const;
};

struct Sensitivity {
  std::string recipe;  // name
  std::string model;
  std::string checkpoint;
  std::string sparsifier;
  std::int64_t images = 0;
  std::int64_t calibration_images = 0;
  double loss = 0.0;  // of the network as it was trained
  std::int64_t correct = 0;
  std::vector<std::string> patterns;  // "dense" and those asked for
  std::vector<std::string> bits;
  std::vector<LayerSensitivity> layers;  // in graph order

  // Points of accuracy: positive where a candidate has fewer images right than the trained network.
  [[nodiscard]] double accuracy_drop(std::int64_t correct_images) const;
};

// A trained network, and what becomes of it with candidates in place of its weights. Weights alone are rounded;
// activations stay float32.
class SensitivityProbe {
 public:
  // Throws kUsage without a checkpoint; kInvalidArgument for unknown patterns and bits, and where there are fewer
  // training images than both sets need; for the checkpoint and the data what Training and load_run_data throw.
  SensitivityProbe(const Recipe& recipe, const SensitivityOptions& options);
  ~SensitivityProbe();
  SensitivityProbe(const SensitivityProbe&) = delete;
  SensitivityProbe& operator=(const SensitivityProbe&) = delete;

  [[nodiscard]] train::Evaluation evaluate();

  // All candidates, layer by layer.
  [[nodiscard]] Sensitivity measure(Monitor& monitor);

  // The loss with all of these at once: a pattern for each weight, pruned as one one_shot stage would, then rounded.
  struct Choice {
    std::string weight;
    std::string pattern;
  };
  [[nodiscard]] train::Evaluation together(const std::vector<Choice>& choices, const std::string& bits);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// docs/suggest.md lists the keys.
[[nodiscard]] std::string sensitivity_json(const Sensitivity& sensitivity);
// The reverse. Throws kCorruptData, naming the place in the JSON; `where` names the file.
[[nodiscard]] Sensitivity sensitivity_from_json(const std::string& json, const std::string& where);
// Markdown: a row for each layer and pattern, a column for each number of bits, and below it what is impossible.
[[nodiscard]] std::string sensitivity_table(const Sensitivity& sensitivity);
// One file that opens offline.
[[nodiscard]] std::string sensitivity_html(const Sensitivity& sensitivity);

// sensitivity.json, .md and .html in the folder, each atomically. Throws kIo.
void write_sensitivity(const std::filesystem::path& folder, const Sensitivity& sensitivity);

}  // namespace pare::pipeline
