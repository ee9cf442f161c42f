// `pare suggest`: a pattern for every layer, under a budget, and the recipe that trains it.
//
// It adds up what `pare sensitivity` measured of each layer alone, and the bytes and times that the formats and the
// runtime's table of costs predict, and chooses by dynamic programming (knapsack.h). What is assumed stands in
// assumptions(), and at the top of every recipe that is suggested.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/pipeline/layer_cost.h"
#include "pare/pipeline/monitor.h"
#include "pare/pipeline/recipe.h"
#include "pare/pipeline/sensitivity.h"

namespace pare::pipeline {

// What predicted times are based on. A layer's time is its dense time times the ratio that the runtime's table of costs
// gives for its pattern (layer_cost.h).
struct TimeBasis {
  Isa isa = Isa::kScalar;
  CpuVendor vendor = CpuVendor::kOther;
  std::map<std::string, double> dense_us;  // by layer ("conv2"), dense int8, one image, one thread
  double other_us = 0.0;                   // of the operators without a weight
  std::string description;                 // what it is, for people
};

// Times the dense int8 network of the recipe on this machine, layer by layer: random weights, one image, one thread,
// the least of some rounds. `scratch`: a file that is written for it and removed. Takes a second or two.
[[nodiscard]] TimeBasis measured_time_basis(const Recipe& recipe, const std::filesystem::path& scratch);

// Nothing is measured: a core of the target at 3 GHz that does 64 multiply-adds or reads 8 bytes a cycle. Only ratios
// of such times mean anything. `target`: of `pare check`. Throws kInvalidArgument for an unknown target, with the
// nearest, and kUnsupported for one that pare's runtime does not run on.
[[nodiscard]] TimeBasis nominal_time_basis(const Recipe& recipe, const std::string& target);

enum class BudgetKind { kAccuracyDrop, kBytes, kTimeUs };
enum class Minimize { kTime, kBytes };

struct Budget {
  BudgetKind kind = BudgetKind::kBytes;
  double limit = 0.0;                   // points; bytes of all layers (stored_bytes); microseconds an image
  Minimize minimize = Minimize::kTime;  // kAccuracyDrop; the others minimize the loss
};

// "430000 bytes", "25.0 us an image", "an accuracy drop of 0.50 points".
[[nodiscard]] std::string to_string(const Budget& budget);

// What is predicted of a combination: sums over the layers.
struct Prediction {
  double loss_increase = 0.0;
  double accuracy_drop = 0.0;  // points
  std::int64_t bytes = 0;
  double us = 0.0;  // an image
};

struct SuggestedLayer {
  std::string name;     // "conv2"
  std::string weight;   // "conv2.weight"
  std::string pattern;  // "dense", "64:2:4"
  Prediction alone;
  std::string why;  // for the recipe
};

// One combination of the front of those that none beats.
struct TradeOff {
  Prediction predicted;
  std::map<std::string, int> layers_by_pattern;
  bool chosen = false;
};

// A combination in the network at once, in one shot, on the images that measured the layers.
struct Verification {
  double loss_increase = 0.0;
  double accuracy_drop = 0.0;  // points
};

struct Suggestion {
  Budget budget;
  std::vector<SuggestedLayer> layers;
  Prediction predicted;
  Prediction dense;             // all layers dense int8
  std::vector<TradeOff> front;  // some of it, by ascending cost; the chosen one is among them
  std::string time_basis;
  std::int64_t cost_step = 1;  // of ParetoFront
  std::optional<Verification> verified;
};

// Losses of single layers below those of the trained network count as 0: they are noise, and must not pay for others.
// Throws kInvalidArgument where the sensitivity is of another network, or lacks int8 candidates; where nothing keeps
// the budget, with the smallest that can be kept; for a budget that is not a finite number of 0 or more. Throws
// kUnsupported for recipes that take channels away (the layers would have other extents) or rank weights of all layers
// together.
[[nodiscard]] Suggestion suggest(const Recipe& recipe, const Sensitivity& sensitivity, const Budget& budget,
                                 const TimeBasis& time);

// What every suggestion assumes, a sentence each.
[[nodiscard]] std::vector<std::string> assumptions();

// The recipe with the suggested patterns as `layers` of each stage that has a sparsifier. Without one, a one_shot stage
// with the sensitivity's sparsifier goes in behind the dense stages; without a stage that quantizes, a calibrate stage
// at the end. On top, as comments, the budget, what is predicted and what is assumed. load_recipe reads it.
[[nodiscard]] std::string suggested_recipe(const Recipe& recipe, const Sensitivity& sensitivity,
                                           const Suggestion& suggestion);

// The layers, the sums and the front, for a terminal (Markdown).
[[nodiscard]] std::string suggestion_table(const Suggestion& suggestion);

// The suggestion in the network, for Suggestion::verified. Throws kInvalidArgument where the probe's network has
// another loss than the one that was measured.
[[nodiscard]] Verification verify_suggestion(SensitivityProbe& probe, const Sensitivity& sensitivity,
                                             const Suggestion& suggestion);

// Writes suggested_recipe, atomically, if load_recipe would read it. Throws kIo, and what parse_recipe does.
void write_suggestion(const std::filesystem::path& path, const Recipe& recipe, const Sensitivity& sensitivity,
                      const Suggestion& suggestion);

}  // namespace pare::pipeline
