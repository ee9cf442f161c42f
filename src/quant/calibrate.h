// Post-training quantization: ranges and biases from a calibration set, without any training.
#pragma once

#include "pare/train/calibration.h"
#include "pare/train/model.h"

namespace pare::quant {

struct CalibrateOptions {
  // What quantization adds to the mean of a layer's outputs is taken off its bias, layer by layer, channel by channel
  // (Nagel et al., arXiv 1906.04721, section 4.2, with measured means).
  bool bias_correction = true;
};

// After prepare_qat: runs the set through the model in floating point while observers watch, freezes them, and corrects
// biases. Masks stay as they are and act throughout. finish_qat and conversion follow as after training. `set.progress`
// counts passes: one for the ranges and one for each layer that is corrected. Throws kState unless the model is
// prepared, kInvalidArgument for an empty set, kNumeric where NaN or infinity are met.
void calibrate(train::Model& model, const train::CalibrationSet& set, const CalibrateOptions& options = {});

}  // namespace pare::quant
