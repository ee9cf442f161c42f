// Post-training quantization: ranges and biases from a calibration set, without any training.
#pragma once

#include "pare/train/calibration.h"
#include "pare/train/model.h"

namespace pare::quant {

// How weights become codes.
enum class Rounding {
  kNearest,
  kGptq,  // such that the layer's outputs change least (gptq.h)
};

// Whether channels change their scale between neighbouring layers first (channels/rescale_channels.h).
enum class Rescaling {
  kNone,
  kCrossLayer,   // by the largest weights (arXiv 1906.04721)
  kSmoothQuant,  // by the largest activations and weights (arXiv 2211.10438)
};

struct CalibrateOptions {
  // What quantization adds to the mean of a layer's outputs is taken off its bias, layer by layer, channel by channel
  // (Nagel et al., arXiv 1906.04721, section 4.2, with measured means).
  bool bias_correction = true;
  Rounding rounding = Rounding::kNearest;
  Rescaling rescaling = Rescaling::kNone;
};

// After prepare_qat: rescales channels if asked, runs the set through the model in floating point while observers
// watch, freezes them; then, layer by layer from the front, rounds the weight and corrects the bias, for what the
// layers before it now put out. Masks stay as they are and act throughout. finish_qat and conversion follow as after
// training.
//
// With GPTQ the weights that are kept are moved onto the grid of their scales, which are held from then on: fake
// quantization, exact evaluation and conversion give GPTQ's codes. Depthwise convolutions, which multiply no matrix of
// all their inputs, are rounded to nearest.
//
// `set.progress` counts passes: one for the ranges, one more for rescaling by activations, and one for each layer that
// is rounded by GPTQ or corrected. Throws kState unless the model is prepared, kInvalidArgument for an empty set and,
// with GPTQ, for inputs of a layer that are all 0, kNumeric where NaN or infinity are met, in weights too.
void calibrate(train::Model& model, const train::CalibrationSet& set, const CalibrateOptions& options = {});

}  // namespace pare::quant
