// WeightNormSparsifier: masks by the norm of weights, with torch.ao.pruning.WeightNormSparsifier's meaning.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pare/sparsity/squash_mask.h"
#include "pare/sparsity/weight_norm_mask.h"
#include "pare/train/model.h"

namespace pare::sparsity {

// The mask (1 = kept) of a weight under a configuration (weight_norm_mask.h has the rule); both float32, same shape and
// device.
//   Linear [n, k]: blocks over the matrix as it is.
//   Conv2d [O, I, kh, kw]: blocks over the matrix [O * kh * kw, I], so that they run along the input channels.
// Throws kInvalidArgument for another dtype or number of dimensions.
[[nodiscard]] torch::Tensor weight_norm_mask(const torch::Tensor& weight, const WeightNormConfig& config);

// One entry of prepare()'s configuration; fields that are unset come from the sparsifier's defaults.
struct SparseLayerConfig {
  std::string tensor_fqn;  // exact name or glob: "conv1.weight", "fc*.weight"
  bool dense = false;      // leave it dense
  std::string why;         // for the report
  std::optional<double> sparsity_level;
  std::optional<std::array<std::int64_t, 2>> sparse_block_shape;
  std::optional<std::int64_t> zeros_per_block;
  std::optional<int> norm;
};

// A weight under the sparsifier's care, after names were resolved.
struct SparseGroup {
  std::string tensor_fqn;
  WeightNormConfig config;      // sparsity_level is the target
  double sparsity_level = 0.0;  // the level in force now; schedulers write it
  std::string pattern;          // pattern_name(config): "2:4", "block 4x1", "unstructured"
};

struct DenseLayer {
  std::string tensor_fqn;
  std::string reason;
};

// Not thread safe. Holds a pointer to the model given to prepare(), which must outlive it.
class WeightNormSparsifier {
 public:
  explicit WeightNormSparsifier(WeightNormConfig defaults = {});

  // Takes the weights that `layers` names (empty: all). Where several entries name a weight the last one decides,
  // alone: what it leaves unset comes from the defaults, not from earlier entries. A 2:4-like pattern on a weight with
  // fewer than `columns` elements along a row leaves that layer dense and says so in dense_layers(), as does `dense =
  // true`. Masks are computed by step(); those that the model has already stay on until then, except on layers left
  // dense. Throws kNotFound for a tensor_fqn that names nothing (with the nearest names), kInvalidArgument.
  // `layers_only`: weights that no entry names stay out of it; otherwise they get the defaults.
  void prepare(train::Model& model, const std::vector<SparseLayerConfig>& layers = {}, bool layers_only = false);

  // Recomputes every mask from the dense weight underneath, unless masks are held. Throws kState before prepare().
  void step();
  // The same for one weight. Throws kNotFound for a weight that is not among the groups.
  void update_mask(const std::string& tensor_fqn);

  // From here on masks do not change, and masked weights get no gradient.
  void hold_masks(bool held = true);
  [[nodiscard]] bool masks_held() const { return held_; }
  // Takes the masks off (sparse-to-dense); the sparsifier can prepare() anew.
  void lift_masks();

  [[nodiscard]] std::vector<SparseGroup>& groups() { return groups_; }
  [[nodiscard]] const std::vector<SparseGroup>& groups() const { return groups_; }
  [[nodiscard]] const std::vector<DenseLayer>& dense_layers() const { return dense_layers_; }
  // SR-STE (arXiv 2102.04010): pulls masked weights towards 0 while masks may change. Survives prepare().
  // Throws kInvalidArgument for a negative or non-finite decay.
  void set_sr_ste_decay(double decay);

  // JSON text: groups, levels, held, decay; masks themselves are the model's.
  [[nodiscard]] std::string state() const;
  // Throws kCorruptData if it is not that of a sparsifier prepared for the same weights; nothing has changed then.
  void load_state(const std::string& state);

 private:
  [[nodiscard]] train::Model& model() const;
  void compute_mask(const SparseGroup& group);
  void apply_gradient_mode();

  train::Model* model_ = nullptr;
  WeightNormConfig defaults_;
  std::vector<SparseGroup> groups_;
  std::vector<DenseLayer> dense_layers_;
  bool held_ = false;
  double sr_ste_decay_ = 0.0;
};

}  // namespace pare::sparsity
