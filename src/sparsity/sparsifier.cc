#include "pare/sparsity/sparsifier.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {
namespace {

using Json = nlohmann::json;

constexpr int kStateVersion = 3;

MaskConfig resolve(const SparseLayerConfig& layer, const MaskConfig& defaults) {
  MaskConfig config = defaults;
  config.sparsity_level = layer.sparsity_level.value_or(defaults.sparsity_level);
  config.sparse_block_shape = layer.sparse_block_shape.value_or(defaults.sparse_block_shape);
  config.zeros_per_block = layer.zeros_per_block.value_or(defaults.zeros_per_block);
  config.norm = layer.norm.value_or(defaults.norm);
  config.rule = layer.rule.value_or(defaults.rule);
  return config;
}

// Why a weight of this shape cannot take the pattern, or "".
std::string explain_misfit(const torch::Tensor& weight, const MaskConfig& config) {
  const std::int64_t columns = config.sparse_block_shape[1];
  const std::int64_t along = weight.size(1);
  if (along >= columns || config.zeros_per_block == config.elems_per_block()) {
    return {};
  }
  return str_cat("groups of ", columns, " run along the input ", weight.dim() == 4 ? "channels" : "features",
                 " and it has ", along);
}

// The fields of a group that decide its masks.
Json describe(const SparseGroup& group) {
  return {{"tensor_fqn", group.tensor_fqn},
          {"target_level", group.config.sparsity_level},
          {"sparse_block_shape", group.config.sparse_block_shape},
          {"zeros_per_block", group.config.zeros_per_block},
          {"norm", group.config.norm},
          {"rule", static_cast<int>(group.config.rule)}};
}

[[noreturn]] void fail_state(const std::string& problem) {
  throw Error(ErrorCategory::kCorruptData, problem, "sparsifier state",
              "resume with the recipe and the model that the checkpoint was written with");
}

}  // namespace

Sparsifier::Sparsifier(std::string name, MaskConfig defaults) : name_(std::move(name)), defaults_(defaults) {
  defaults_.validate(name_);
}

void Sparsifier::prepare(train::Model& model, const std::vector<SparseLayerConfig>& layers, bool layers_only) {
  std::map<std::string, const SparseLayerConfig*> decided;
  for (const SparseLayerConfig& layer : layers) {
    if (!layer.dense) {
      resolve(layer, defaults_).validate(layer.tensor_fqn);
    }
    for (const auto& weight : model.weights_matching(layer.tensor_fqn)) {
      decided[weight->fqn()] = &layer;
    }
  }
  std::vector<SparseGroup> groups;
  std::vector<DenseLayer> dense_layers;
  for (const auto& weight : model.weights()) {
    const auto entry = decided.find(weight->fqn());
    if (entry == decided.end() && layers_only) {
      continue;
    }
    const SparseLayerConfig* layer = entry == decided.end() ? nullptr : entry->second;
    if (layer != nullptr && layer->dense) {
      dense_layers.push_back({weight->fqn(), layer->why.empty() ? "left dense by the configuration" : layer->why});
      continue;
    }
    const MaskConfig config = layer == nullptr ? defaults_ : resolve(*layer, defaults_);
    check(config, weight->fqn());
    if (std::string misfit = explain_misfit(weight->dense(), config); !misfit.empty()) {
      dense_layers.push_back({weight->fqn(), std::move(misfit)});
      continue;
    }
    groups.push_back({weight->fqn(), config, config.sparsity_level, pattern_name(config)});
  }

  model_ = &model;
  groups_ = std::move(groups);
  dense_layers_ = std::move(dense_layers);
  held_ = false;
  for (const DenseLayer& layer : dense_layers_) {
    model.clear_mask(layer.tensor_fqn);
  }
  apply_gradient_mode();
}

train::Model& Sparsifier::model() const {
  if (model_ == nullptr) {
    throw Error(ErrorCategory::kState, "the sparsifier has no model", name_, "call prepare() first");
  }
  return *model_;
}

void Sparsifier::set_mask(const SparseGroup& group) {
  MaskConfig config = group.config;
  config.sparsity_level = group.sparsity_level;
  config.validate(group.tensor_fqn);
  model().set_mask(group.tensor_fqn, compute_mask(model().weight(group.tensor_fqn), config));
}

void Sparsifier::calibrate(const train::CalibrationSet& set) {
  static_cast<void>(model());
  set.validate();
}

void Sparsifier::step() {
  // Each time, because folding batch norm gives the model new pipelines.
  apply_gradient_mode();
  if (held_) {
    return;
  }
  begin_step();
  for (const SparseGroup& group : groups_) {
    set_mask(group);
  }
}

void Sparsifier::update_mask(const std::string& tensor_fqn) {
  const auto group = std::find_if(groups_.begin(), groups_.end(),
                                  [&](const SparseGroup& candidate) { return candidate.tensor_fqn == tensor_fqn; });
  if (group == groups_.end()) {
    std::vector<std::string> known;
    for (const SparseGroup& candidate : groups_) {
      known.push_back(candidate.tensor_fqn);
    }
    throw Error(ErrorCategory::kNotFound, str_cat("the sparsifier has no weight '", tensor_fqn, "'"), "update_mask",
                did_you_mean(tensor_fqn, known));
  }
  if (!held_) {
    begin_step();
    set_mask(*group);
  }
}

void Sparsifier::apply_gradient_mode() {
  const train::Model& target = model();
  const auto gradient = held_ ? train::MaskGradient::kMasked : train::MaskGradient::kStraightThrough;
  for (const SparseGroup& group : groups_) {
    train::WeightPipeline& weight = target.weight(group.tensor_fqn);
    // Only what differs: each change makes the model register the layer anew.
    if (weight.mask_gradient() != gradient) {
      weight.set_mask_gradient(gradient);
    }
    if (weight.sr_ste_decay() != sr_ste_decay_) {
      weight.set_sr_ste_decay(sr_ste_decay_);
    }
  }
}

void Sparsifier::hold_masks(bool held) {
  static_cast<void>(model());
  held_ = held;
  apply_gradient_mode();
}

void Sparsifier::lift_masks() {
  train::Model& target = model();
  held_ = false;
  for (const SparseGroup& group : groups_) {
    target.clear_mask(group.tensor_fqn);
  }
  groups_.clear();
  dense_layers_.clear();
}

void Sparsifier::set_sr_ste_decay(double decay) {
  if (!(decay >= 0.0) || !std::isfinite(decay)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("SR-STE decay ", decay, " is impossible"), "sr_ste_decay",
                "use 0 for the plain straight-through gradient; the paper uses 2e-4");
  }
  sr_ste_decay_ = decay;
  if (model_ != nullptr) {
    apply_gradient_mode();
  }
}

std::string Sparsifier::state() const {
  Json groups = Json::array();
  for (const SparseGroup& group : groups_) {
    Json entry = describe(group);
    entry["sparsity_level"] = group.sparsity_level;
    groups.push_back(std::move(entry));
  }
  return Json{{"version", kStateVersion}, {"groups", groups}, {"held", held_}, {"sr_ste_decay", sr_ste_decay_}}.dump();
}

void Sparsifier::load_state(const std::string& state) {
  static_cast<void>(model());
  std::vector<double> levels;
  bool held = false;
  double decay = 0.0;
  try {
    const Json json = Json::parse(state);
    if (json.at("version").get<int>() != kStateVersion) {
      fail_state(str_cat("version ", json.at("version").dump(), " is not known"));
    }
    const Json& entries = json.at("groups");
    if (!entries.is_array() || entries.size() != groups_.size()) {
      fail_state(
          str_cat("it is that of ", entries.size(), " weights, but ", groups_.size(), " are under the sparsifier"));
    }
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      Json entry = entries[i];
      const double level = entry.at("sparsity_level").get<double>();
      entry.erase("sparsity_level");
      if (entry != describe(groups_[i])) {
        fail_state(
            str_cat("group ", i, " is ", entry.dump(), ", but the sparsifier has ", describe(groups_[i]).dump()));
      }
      if (!(level >= 0.0 && level <= 1.0)) {
        fail_state(str_cat("level ", level, " of '", groups_[i].tensor_fqn, "' is outside [0, 1]"));
      }
      levels.push_back(level);
    }
    held = json.at("held").get<bool>();
    decay = json.at("sr_ste_decay").get<double>();
  } catch (const Json::exception& error) {
    fail_state(str_cat("it cannot be read: ", error.what()));
  }
  if (!(decay >= 0.0) || !std::isfinite(decay)) {
    fail_state(str_cat("SR-STE decay ", decay, " is impossible"));
  }
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    groups_[i].sparsity_level = levels[i];
  }
  held_ = held;
  sr_ste_decay_ = decay;
  apply_gradient_mode();
}

}  // namespace pare::sparsity
