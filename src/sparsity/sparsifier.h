// Sparsifiers: who decides which weights are masked, and when masks stop moving.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pare/sparsity/mask.h"
#include "pare/train/calibration.h"
#include "pare/train/model.h"

namespace pare::sparsity {

// One entry of prepare()'s configuration; fields that are unset come from the sparsifier's defaults.
struct SparseLayerConfig {
  std::string tensor_fqn;  // exact name or glob: "conv1.weight", "fc*.weight"
  bool dense = false;      // leave it dense
  std::string why;         // for the report
  std::optional<double> sparsity_level;
  std::optional<std::array<std::int64_t, 2>> sparse_block_shape;
  std::optional<std::int64_t> zeros_per_block;
  std::optional<int> norm;
  std::optional<BlockRule> rule;
};

// A weight under the sparsifier's care, after names were resolved.
struct SparseGroup {
  std::string tensor_fqn;
  MaskConfig config;            // sparsity_level is the target
  double sparsity_level = 0.0;  // the level in force now; schedulers write it
  std::string pattern;          // pattern_name(config): "2:4", "64:2:4", "block 4x1", "unstructured"
};

struct DenseLayer {
  std::string tensor_fqn;
  std::string reason;
};

// What sparsifiers have in common: torch.ao.pruning's BaseSparsifier, on train::Model. A sparsifier of its own says how
// a mask comes about (compute_mask) and has one line in sparsifiers.cc.
//
// Not thread safe. Holds a pointer to the model given to prepare(), which must outlive it.
class Sparsifier {
 public:
  virtual ~Sparsifier() = default;
  Sparsifier(const Sparsifier&) = delete;
  Sparsifier& operator=(const Sparsifier&) = delete;

  // Takes the weights that `layers` names (empty: all). Where several entries name a weight the last one decides,
  // alone: what it leaves unset comes from the defaults, not from earlier entries. A 2:4-like pattern on a weight with
  // fewer than `columns` elements along a row leaves that layer dense and says so in dense_layers(), as does `dense =
  // true`. Masks are computed by step(); those that the model has already stay on until then, except on layers left
  // dense. Throws kNotFound for a tensor_fqn that names nothing (with the nearest names), kInvalidArgument.
  // `layers_only`: weights that no entry names stay out of it; otherwise they get the defaults.
  void prepare(train::Model& model, const std::vector<SparseLayerConfig>& layers = {}, bool layers_only = false);

  // Looks at the data, where masks depend on it (needs_calibration). To be called between prepare() and step(). `set`
  // may be kept until the end of step(). Throws kState before prepare(), and what train::for_layer_inputs does.
  virtual void calibrate(const train::CalibrationSet& set);
  [[nodiscard]] virtual bool needs_calibration() const { return false; }

  // Recomputes every mask from the dense weight underneath, unless masks are held. Throws kState before prepare(), and
  // before calibrate() where that is needed.
  void step();
  // The same for one weight. Throws kNotFound for a weight that is not among the groups.
  void update_mask(const std::string& tensor_fqn);

  // From here on masks do not change, and masked weights get no gradient.
  void hold_masks(bool held = true);
  [[nodiscard]] bool masks_held() const { return held_; }
  // Takes the masks off (sparse-to-dense); the sparsifier can prepare() anew.
  void lift_masks();

  // Throws kState before prepare().
  [[nodiscard]] train::Model& model() const;
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

 protected:
  // `name`: for errors. Throws kInvalidArgument for defaults that are impossible.
  Sparsifier(std::string name, MaskConfig defaults);
  // Called before the masks of a step are computed.
  virtual void begin_step() {}
  // The mask (1 = kept) of the weight, of its shape and on its device; SparseGPT changes kept values as
  // well. `config`: of the group, at the level in force. Groups come in graph order, each after the one before was set.
  [[nodiscard]] virtual torch::Tensor compute_mask(train::WeightPipeline& weight, const MaskConfig& config) = 0;
  // Throws kInvalidArgument for a valid configuration that this sparsifier cannot make masks for.
  virtual void check(const MaskConfig& /*config*/, const std::string& /*where*/) const {}

  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void set_mask(const SparseGroup& group);
  void apply_gradient_mode();

  std::string name_;
  train::Model* model_ = nullptr;
  MaskConfig defaults_;
  std::vector<SparseGroup> groups_;
  std::vector<DenseLayer> dense_layers_;
  bool held_ = false;
  double sr_ste_decay_ = 0.0;
};

}  // namespace pare::sparsity
