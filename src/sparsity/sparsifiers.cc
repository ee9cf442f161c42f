#include "pare/sparsity/sparsifiers.h"

#include <algorithm>
#include <array>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/sparsity/global_magnitude_sparsifier.h"
#include "pare/sparsity/sparse_gpt_sparsifier.h"
#include "pare/sparsity/wanda_sparsifier.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

struct Entry {
  const char* name;
  bool needs_calibration;
  std::unique_ptr<Sparsifier> (*make)(const MaskConfig&);
};

template <typename T>
std::unique_ptr<Sparsifier> make(const MaskConfig& defaults) {
  return std::make_unique<T>(defaults);
}

// One line for each sparsifier.
constexpr std::array kSparsifiers = {
    Entry{"weight_norm", false, make<WeightNormSparsifier>},
    Entry{"global_magnitude", false, make<GlobalMagnitudeSparsifier>},
    Entry{"wanda", true, make<WandaSparsifier>},
    Entry{"sparse_gpt", true, make<SparseGptSparsifier>},
};

const Entry& find(const std::string& name) {
  const auto* const found =
      std::find_if(kSparsifiers.begin(), kSparsifiers.end(), [&](const Entry& entry) { return entry.name == name; });
  if (found == kSparsifiers.end()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no sparsifier '", name, "'"), "sparsifier",
                did_you_mean(name, sparsifier_names()));
  }
  return *found;
}

}  // namespace

std::vector<std::string> sparsifier_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kSparsifiers) {
    names.emplace_back(entry.name);
  }
  return names;
}

bool sparsifier_needs_calibration(const std::string& name) { return find(name).needs_calibration; }

std::unique_ptr<Sparsifier> make_sparsifier(const std::string& name, const MaskConfig& defaults) {
  return find(name).make(defaults);
}

SparseLayerConfig layer_config(const std::string& tensor_fqn, const std::string& pattern) {
  SparseLayerConfig layer;
  layer.tensor_fqn = tensor_fqn;
  if (pattern == kDensePattern) {
    layer.dense = true;
    return layer;
  }
  const MaskConfig masks = MaskConfig::from_pattern(pattern);
  layer.sparsity_level = masks.sparsity_level;
  layer.sparse_block_shape = masks.sparse_block_shape;
  layer.zeros_per_block = masks.zeros_per_block;
  layer.rule = masks.rule;
  return layer;
}

}  // namespace pare::sparsity
