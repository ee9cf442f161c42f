// --set key=value: changes to a recipe's TOML before it is read.
#pragma once

#include <toml++/toml.h>

#include <string>
#include <vector>

namespace pare::pipeline {

// Names of the [[stage]] tables, as load_recipe gives them: `name`, else the kind, numbered where it repeats
// ("dense", "dense-2"). Whatever is not a text counts as missing; load_recipe complains about it later.
[[nodiscard]] std::vector<std::string> stage_names(const toml::table& recipe);

// Applies one override after another: "data.batch=64", "stage[1].epochs=2", "stage.1.epochs=2", "stage.qat.epochs=1",
// "stage[1].layers[0].pattern=dense". The value is TOML, or else a text as it stands. Missing tables are made, so that
// a key that nobody knows is reported by the reader, with the override as its place.
// Throws kUsage for text that is no override, kNotFound for an element that is not there.
void apply_overrides(toml::table& recipe, const std::vector<std::string>& overrides);

}  // namespace pare::pipeline
