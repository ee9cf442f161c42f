#include "pare/sparsity/squash_mask.h"

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {

void squash_mask(train::Model& model, const SquashOptions& options, const std::string& stage) {
  if (model.qat_state() != train::QatState::kFinished && !options.before_qat_finished) {
    const char* when = model.qat_state() == train::QatState::kNone ? "before quantization-aware training"
                                                                   : "while quantization-aware training is under way";
    throw Error(
        ErrorCategory::kState,
        str_cat("squash_mask ", when, ": training after it would move the zeros away, and the pattern with them"),
        stage.empty() ? std::string("squash_mask") : str_cat("stage '", stage, "'"),
        "keep the masks on, run QAT to its end (prepare_qat, training, finish_qat; in a recipe: a stage of kind "
        "\"qat\") and squash then; for a model that stays float32, set SquashOptions::before_qat_finished");
  }
  for (const auto& weight : model.weights()) {
    weight->squash();
  }
}

namespace {

std::map<std::string, std::string> fields_of(const SparseGroup& group) {
  const auto [rows, columns] = group.config.sparse_block_shape;
  return {{"pattern", group.pattern},
          {"sparsity_level", str_cat(group.config.sparsity_level)},
          {"sparse_block_shape", str_cat(rows, "x", columns)},
          {"zeros_per_block", str_cat(group.config.zeros_per_block)},
          {"norm", str_cat(group.config.norm)}};
}

template <typename Value>
std::vector<std::string> keys_of(const std::map<std::string, Value>& map) {
  std::vector<std::string> keys;
  for (const auto& entry : map) {
    keys.push_back(entry.first);
  }
  return keys;
}

// map[key], or kNotFound with the nearest keys.
template <typename Value>
const Value& find(const std::map<std::string, Value>& map, const std::string& key, const std::string& what,
                  const std::string& where) {
  const auto found = map.find(key);
  if (found == map.end()) {
    throw Error(ErrorCategory::kNotFound, str_cat("there is no ", what, " '", key, "'"), where,
                did_you_mean(key, keys_of(map)));
  }
  return found->second;
}

}  // namespace

SparseParams squash_mask(const Sparsifier& sparsifier, const SquashOptions& options) {
  std::map<std::string, std::map<std::string, std::string>> fields;
  SparseParams kept;
  for (const SparseGroup& group : sparsifier.groups()) {
    fields[group.tensor_fqn] = fields_of(group);
    for (const std::string& field : options.params_to_keep) {
      kept[group.tensor_fqn][field] = find(fields[group.tensor_fqn], field, "field", "params_to_keep");
    }
  }
  for (const auto& [tensor_fqn, names] : options.params_to_keep_per_layer) {
    const auto& own = find(fields, tensor_fqn, "masked weight", "params_to_keep_per_layer");
    for (const std::string& field : names) {
      kept[tensor_fqn][field] = find(own, field, "field", str_cat("params_to_keep_per_layer of '", tensor_fqn, "'"));
    }
  }
  squash_mask(sparsifier.model(), options);
  return kept;
}

}  // namespace pare::sparsity
