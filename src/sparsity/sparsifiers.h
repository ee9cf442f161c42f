// Sparsifiers by name, as recipes give them.
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

}  // namespace pare::sparsity
