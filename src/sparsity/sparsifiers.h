// Sparsifiers and patterns by name, as recipes give them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

// "weight_norm", "global_magnitude", "wanda", "sparse_gpt", in this order.
[[nodiscard]] std::vector<std::string> sparsifier_names();

// Whether its masks depend on data: such a sparsifier works in one shot, not while weights train.
[[nodiscard]] bool sparsifier_needs_calibration(const std::string& name);

// Throws kInvalidArgument for an unknown name (with the nearest) and for defaults that this sparsifier cannot take.
[[nodiscard]] std::unique_ptr<Sparsifier> make_sparsifier(const std::string& name, const MaskConfig& defaults);

inline constexpr const char* kDensePattern = "dense";  // no mask

// A layer with a pattern of its own: "dense", or what MaskConfig::from_pattern takes. Throws what that throws.
[[nodiscard]] SparseLayerConfig layer_config(const std::string& tensor_fqn, const std::string& pattern);

}  // namespace pare::sparsity
