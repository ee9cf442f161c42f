// QAT's evaluation mode: the network in exact integers, computed by LibTorch.
//
// Codes and accumulators are integers held in float64, which is exact for every accumulator below 2^53; convolutions
// and products are LibTorch's own in double. Requantization is format::requantize's formula in float32 tensor
// operations. No kernel of the runtime is called, and nothing is taken from a converted graph: scales, codes and masks
// are read from the live model. So it is an independent statement of what the runtime must compute, bit for bit.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>

#include "pare/train/model.h"

namespace pare::quant {

// Called with every value of the converted graph but its input: codes (float64 integers, NCHW or NK, on the CPU) or
// float32, each once a call. Names are those of the converted graph (integer_plan.h).
using ExactTap = std::function<void(const std::string& value, const torch::Tensor& codes)>;

// `normalized`: [batch, C, H, W] float32 (format::normalize_pixel). Returns float32 logits [batch, classes] on the CPU.
// The mode of the model does not matter, and nothing but the weight quantizers' cached scales is written. Without a tap
// a large batch runs in slices; with one, all values of the whole batch are held. Throws kState if prepare_qat was not
// called or a quantizer has seen no data, kInvalidArgument for another shape or type, kNumeric for NaN or infinity in a
// weight or bias.
[[nodiscard]] torch::Tensor exact_forward(train::Model& model, const torch::Tensor& normalized,
                                          const ExactTap& tap = {});

}  // namespace pare::quant
