// Quantization-aware training, with masks held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "pare/quant/fake_quantize.h"
#include "pare/train/model.h"

namespace pare::quant {

// What `quantize = { … }` of a recipe says. Weights int8 per output channel, symmetric, [-127, 127]; activations uint8
// per tensor, affine.
struct QATConfig {
  ObserverOptions observer = {};  // of activations
  bool fold_batch_norm = true;
  // LSQ: scales of weights and activations train with the weights (learned_step.h). They start at the range of the
  // weight, or of the first batch; the observer is not asked.
  bool learned_steps = false;
};

// Prepares the model for QAT: folds batch norm, gives every Conv and Gemm weight a per-channel fake-quantizer behind
// its mask, and every value that such a layer reads an activation fake-quantizer (placed at the producer: before
// MaxPool and Flatten, after Relu). Masks stay as they are. The logits stay float32. Optimizers must be made
// afterwards. A resumed run calls it on a new model, then loads the state. Throws kState if prepared already,
// kInvalidArgument if batch norm is there and must not be folded, kUnsupported for a network that could not be
// converted afterwards (integer_plan.h). The model is unchanged then.
void prepare_qat(train::Model& model, const QATConfig& config = {});

// Activation ranges stop moving. (Weight scales always follow the masked weight: they are not an estimate.)
// Throws kState if the model was not prepared.
void freeze_observers(train::Model& model);

// Declares QAT done: observers are frozen, squash_mask and conversion are allowed from here on. Harmless if done
// already. Throws kState if it was not prepared or a quantizer has seen no data.
void finish_qat(train::Model& model);

// Names of quantized values with the layers that read them ("conv2", or "conv2, conv3"), for reports. `graph`: float,
// batch norm folded. Throws as plan_integer_graph.
[[nodiscard]] std::map<std::string, std::string> quantized_values(const graph::Graph& graph);

}  // namespace pare::quant
