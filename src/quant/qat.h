// Quantization-aware training, with masks held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "pare/quant/fake_quantize.h"
#include "pare/quant/scheme.h"
#include "pare/train/model.h"

namespace pare::quant {

// What `quantize = { … }` of a recipe says: how each layer is quantized (scheme.h).
struct QATConfig {
  ObserverOptions observer = {};  // of uint8 activations
  bool fold_batch_norm = true;
  // LSQ: scales of int8 weights and uint8 activations train with the weights (learned_step.h). They start at the range
  // of the weight, or of the first batch; the observer is not asked. Int4 groups and rows that are quantized as they
  // come keep their scales: those are no estimates.
  bool learned_steps = false;
  LayerScheme scheme = {};                   // of all layers but
  std::vector<SchemeException> layers = {};  // these; where several match, the last decides
};

// Prepares the model for QAT: folds batch norm, gives every Conv and Gemm weight the fake-quantizer of its scheme
// behind its mask, every value that is read as codes an activation fake-quantizer (placed at the producer: before
// MaxPool and Flatten, after Relu), and every dynamic layer a quantizer of the rows that it reads. Masks stay as they
// are. The logits stay float32. Optimizers must be made afterwards. A resumed run calls it on a new model, then loads
// the state. Throws kState if prepared already, kInvalidArgument if batch norm is there and must not be folded, what
// plan_schemes throws, kUnsupported for a network that could not be converted afterwards (integer_plan.h). The model is
// unchanged then.
void prepare_qat(train::Model& model, const QATConfig& config = {});

// Activation ranges and learned steps stop moving. (Other weight scales follow the masked weight: they are no
// estimate.) Throws kState if the model was not prepared.
void freeze_observers(train::Model& model);

// Declares QAT done: observers are frozen, squash_mask and conversion are allowed from here on. Harmless if done
// already. Throws kState if it was not prepared or a quantizer has seen no data.
void finish_qat(train::Model& model);

// Names of quantized values with the layers that read them ("conv2", or "conv2, conv3"), for reports. `graph`: float,
// batch norm folded. Throws as plan_integer_graph.
[[nodiscard]] std::map<std::string, std::string> quantized_values(const graph::Graph& graph);

// Names of the layers of a prepared model that quantize the rows they read: what plan_integer_graph is to know.
[[nodiscard]] std::set<std::string> dynamic_layers(const train::Model& model);

}  // namespace pare::quant
