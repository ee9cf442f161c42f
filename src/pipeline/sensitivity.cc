#include "pare/pipeline/sensitivity.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <span>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/half.h"
#include "pare/format/int4.h"
#include "pare/pipeline/run_data.h"
#include "pare/pipeline/training.h"
#include "pare/quant/fake_quantize.h"
#include "pare/sparsity/sparsifiers.h"

namespace pare::pipeline {
namespace {

struct Bits {
  const char* name;
  int bits;
  std::int64_t group;  // int4 only
};

constexpr std::array kBits = {Bits{kFloat32Bits, 32, 0}, Bits{kInt8Bits, 8, 0}, Bits{"int4/32", 4, 32},
                              Bits{"int4/64", 4, 64}, Bits{"int4/128", 4, 128}};

const Bits& find_bits(const std::string& name) {
  const auto* const found =
      std::find_if(kBits.begin(), kBits.end(), [&](const Bits& bits) { return bits.name == name; });
  if (found == kBits.end()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("'", name, "' is no number of bits"), "bits",
                did_you_mean(name, bits_names()));
  }
  return *found;
}

// Why a weight cannot be stored so, or "".
std::string explain_unstorable(const torch::Tensor& weight, const Bits& bits) {
  return bits.bits == 4 && weight.dim() != 2 ? "int4 weights are those of matrix products (format/int4.h)"
                                             : std::string();
}

// What the codes of `weight` stand for.
torch::Tensor rounded(const torch::Tensor& weight, const Bits& bits, const std::string& fqn) {
  if (bits.bits == 32) {
    return weight;
  }
  if (bits.bits == 8) {
    return quant::WeightFakeQuantizer(fqn, weight.size(0)).forward(weight);
  }
  const torch::Tensor plain = weight.to(torch::kCPU).contiguous();
  const format::Int4Layout layout{format::Int4Form::kDense, plain.size(0), plain.size(1), bits.group};
  const std::span<const float> values(plain.data_ptr<float>(), static_cast<std::size_t>(plain.numel()));
  const format::Int4Codes codes = format::quantize_int4(values, layout);
  torch::Tensor result = torch::empty_like(plain);
  float* out = result.data_ptr<float>();
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    for (std::int64_t k = 0; k < layout.k; ++k) {
      const auto scale = codes.scales[static_cast<std::size_t>(row * layout.groups_per_row() + k / layout.group)];
      const std::int64_t at = row * layout.k + k;
      out[at] = static_cast<float>(codes.codes[static_cast<std::size_t>(at)]) * format::float_from_half(scale);
    }
  }
  return result.to(weight.device());
}

// [model] checkpoint is where Training takes trained weights from, with all its checks.
Recipe with_checkpoint(Recipe recipe, const std::filesystem::path& checkpoint) {
  if (!checkpoint.empty()) {
    recipe.checkpoint = checkpoint;
  }
  if (recipe.checkpoint.empty()) {
    throw Error(ErrorCategory::kUsage, "there is no trained network to measure", recipe.path.string(),
                "name the checkpoint of a dense stage: --checkpoint runs/NAME/stages/dense.ckpt");
  }
  return recipe;
}

// Leaves the first of equals.
void unique(std::vector<std::string>& names) {
  std::vector<std::string> kept;
  for (std::string& name : names) {
    if (std::find(kept.begin(), kept.end(), name) == kept.end()) {
      kept.push_back(std::move(name));
    }
  }
  names = std::move(kept);
}

std::int64_t correct_of(const train::Evaluation& evaluation) {
  return std::llround(evaluation.accuracy * static_cast<double>(evaluation.samples) / 100.0);
}

}  // namespace

std::vector<std::string> bits_names() {
  std::vector<std::string> names;
  for (const Bits& bits : kBits) {
    names.emplace_back(bits.name);
  }
  return names;
}

const SensitivityCandidate* LayerSensitivity::find(const std::string& pattern, const std::string& bits) const {
  const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const SensitivityCandidate& candidate) {
    return candidate.pattern == pattern && candidate.bits == bits;
  });
  return found == candidates.end() ? nullptr : &*found;
}

double Sensitivity::accuracy_drop(std::int64_t correct_images) const {
  return 100.0 * static_cast<double>(correct - correct_images) / static_cast<double>(images);
}

struct SensitivityProbe::Impl {
  Impl(const Recipe& given, const SensitivityOptions& wanted)
      : recipe(with_checkpoint(given, wanted.checkpoint)), options(wanted), data(load_run_data(recipe)) {
    unique(options.patterns);
    std::erase(options.patterns, sparsity::kDensePattern);
    unique(options.bits);
    for (const std::string& pattern : options.patterns) {
      // Whether the sparsifier makes such masks shows before anything is measured.
      static_cast<void>(sparsity::make_sparsifier(options.sparsifier, sparsity::MaskConfig::from_pattern(pattern)));
    }
    for (const std::string& name : options.bits) {
      static_cast<void>(find_bits(name));
    }
    if (options.images < 1 || options.calibration_images < 1 ||
        options.images > data.train.size() - options.calibration_images) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat(options.images, " images to measure with and ", options.calibration_images,
                          " to calibrate with; there are ", data.train.size(), " training images"),
                  "sensitivity", "lower --images or --calibration-images; each is at least 1");
    }
    held_out = data.train;
    const std::int64_t first = data.train.size() - options.images;
    held_out.images = data.train.images.narrow(0, first, options.images);
    held_out.labels = data.train.labels.narrow(0, first, options.images);
    set = first_images(data, recipe, options.calibration_images, "sensitivity");
    training.emplace(recipe, data.image, data.classes(), 1);
    model().eval();
    for (const auto& weight : model().weights()) {
      trained[weight->fqn()] = weight->dense().detach().clone();
    }
  }

  [[nodiscard]] train::Model& model() { return training->model(); }

  [[nodiscard]] train::Evaluation evaluate() { return train::evaluate(model(), held_out, recipe.data.normalize); }

  void put(const std::string& fqn, const torch::Tensor& values) {
    const torch::NoGradGuard no_gradient;
    torch::Tensor dense = model().weight(fqn).dense().detach();
    dense.copy_(values);
  }

  // Masks `layers`, takes the masks off again and returns what the weights were behind them. The model is as trained
  // afterwards. `reason`: why the (last) weight stays dense, or "".
  std::map<std::string, torch::Tensor> pruned(const std::vector<sparsity::SparseLayerConfig>& layers,
                                              std::string& reason) {
    const auto sparsifier = sparsity::make_sparsifier(options.sparsifier, sparsity::MaskConfig::from_pattern("2:4"));
    sparsifier->prepare(model(), layers, /*layers_only=*/true);
    for (const sparsity::DenseLayer& dense : sparsifier->dense_layers()) {
      reason = dense.reason;
    }
    std::map<std::string, torch::Tensor> weights;
    if (!sparsifier->groups().empty()) {
      if (sparsifier->needs_calibration()) {
        sparsifier->calibrate(set);
      }
      sparsifier->step();
    }
    for (const sparsity::SparseGroup& group : sparsifier->groups()) {
      weights[group.tensor_fqn] = model().weight(group.tensor_fqn).masked().clone();
    }
    sparsifier->lift_masks();
    for (const auto& [fqn, values] : weights) {
      put(fqn, trained.at(fqn));
    }
    return weights;
  }

  Recipe recipe;
  SensitivityOptions options;
  RunData data;
  train::Dataset held_out;
  train::CalibrationSet set;
  std::optional<Training> training;
  std::map<std::string, torch::Tensor> trained;
};

SensitivityProbe::SensitivityProbe(const Recipe& recipe, const SensitivityOptions& options)
    : impl_(std::make_unique<Impl>(recipe, options)) {}
SensitivityProbe::~SensitivityProbe() = default;

train::Evaluation SensitivityProbe::evaluate() { return impl_->evaluate(); }

Sensitivity SensitivityProbe::measure(Monitor& monitor) {
  const SensitivityOptions& options = impl_->options;
  const train::Evaluation baseline = evaluate();
  Sensitivity result{.recipe = impl_->recipe.name,
                     .model = impl_->recipe.model,
                     .checkpoint = impl_->recipe.checkpoint.string(),
                     .sparsifier = options.sparsifier,
                     .images = options.images,
                     .calibration_images = options.calibration_images,
                     .loss = baseline.loss,
                     .correct = correct_of(baseline),
                     .patterns = {sparsity::kDensePattern},
                     .bits = options.bits,
                     .layers = {}};
  result.patterns.insert(result.patterns.end(), options.patterns.begin(), options.patterns.end());

  const std::vector<const graph::Node*> nodes = [this] {
    std::vector<const graph::Node*> with_weights;
    for (const graph::Node& node : impl_->model().graph().nodes) {
      if (node.has_weight()) {
        with_weights.push_back(&node);
      }
    }
    return with_weights;
  }();
  const auto total = static_cast<std::int64_t>(nodes.size() * result.patterns.size() * options.bits.size());
  std::int64_t done = 0;
  monitor.begin("sensitivity", "candidates", total, 0, 1.0);
  for (const graph::Node* node : nodes) {
    const std::string fqn = node->inputs.at(1);
    const torch::Tensor dense = impl_->trained.at(fqn);
    LayerSensitivity layer{fqn, node->op_type, dense.sizes().vec(), {}, {}};
    for (const std::string& pattern : result.patterns) {
      torch::Tensor weight = dense;
      std::string misfit;
      if (pattern != sparsity::kDensePattern) {
        const auto weights = impl_->pruned({sparsity::layer_config(fqn, pattern)}, misfit);
        weight = weights.contains(fqn) ? weights.at(fqn) : dense;
      }
      for (const std::string& name : options.bits) {
        const Bits& bits = find_bits(name);
        const std::string reason = misfit.empty() ? explain_unstorable(weight, bits) : misfit;
        if (!reason.empty()) {
          layer.impossible.push_back({pattern, name, reason});
        } else if (pattern == sparsity::kDensePattern && bits.bits == 32) {
          layer.candidates.push_back({pattern, name, result.loss, result.correct});
        } else {
          impl_->put(fqn, rounded(weight, bits, fqn));
          const train::Evaluation evaluation = evaluate();
          layer.candidates.push_back({pattern, name, evaluation.loss, correct_of(evaluation)});
        }
        monitor.advance(++done);
      }
      impl_->put(fqn, dense);
    }
    result.layers.push_back(std::move(layer));
  }
  monitor.end();
  return result;
}

train::Evaluation SensitivityProbe::together(const std::vector<Choice>& choices, const std::string& bits) {
  std::vector<sparsity::SparseLayerConfig> layers;
  for (const Choice& choice : choices) {
    if (choice.pattern != sparsity::kDensePattern) {
      layers.push_back(sparsity::layer_config(choice.weight, choice.pattern));
    }
  }
  std::string reason;
  const std::map<std::string, torch::Tensor> weights =
      layers.empty() ? std::map<std::string, torch::Tensor>() : impl_->pruned(layers, reason);
  for (const auto& [fqn, dense] : impl_->trained) {
    const auto weight = weights.find(fqn);
    impl_->put(fqn, rounded(weight == weights.end() ? dense : weight->second, find_bits(bits), fqn));
  }
  const train::Evaluation evaluation = evaluate();
  for (const auto& [fqn, dense] : impl_->trained) {
    impl_->put(fqn, dense);
  }
  return evaluation;
}

}  // namespace pare::pipeline
