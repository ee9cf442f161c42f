// The part of `quantize = { … }` that says how layers are quantized, from TOML and back.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "pare/pipeline/recipe_reader.h"
#include "pare/quant/qat.h"

namespace pare::pipeline {

// Reads 'activation', 'weight', 'int4_scale' and 'layers' of the table. Where int4 weights are asked for and nothing is
// said of activations, these are dynamic. Errors point at the key.
void read_schemes(TableReader& quantize, quant::QATConfig& config);

// The keys of a scheme and their values as TOML: {"activation", "\"dynamic_int8\""}, {"weight", …}, …
[[nodiscard]] std::vector<std::pair<std::string, std::string>> scheme_keys(const quant::LayerScheme& scheme);

// "dynamic int8 x int4 group 32, but fc2.weight dynamic int8 x int8"
[[nodiscard]] std::string describe_schemes(const quant::QATConfig& config);

}  // namespace pare::pipeline
