// TorchAO's names for the schemes of scheme.h, and quantize_(model, config, filter_fn).
//
// What TorchAO's QATConfig does in two steps is here prepare_qat (step "prepare": fake-quantizers in place, training
// goes on) and then finish_qat and quantize_(model) (step "convert": integers; convert.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "pare/quant/qat.h"
#include "pare/train/model.h"

namespace pare::quant {

// uint8 activations of one scale per tensor, int8 weights per output channel. The one that convolutions have, too.
struct Int8StaticActivationInt8WeightConfig {};

// int8 activations, symmetric, one scale a row; int8 weights per output channel. DynamicQuantizeMatMul.
struct Int8DynamicActivationInt8WeightConfig {};

// The same activations; int4 weights in groups. MatMulNBits.
struct Int8DynamicActivationInt4WeightConfig {
  std::int64_t group_size = 32;  // 32, 64, 128, 256
  format::Int4Scale scale = format::Int4Scale::kAmaxOver7;
};

// "Weight only" is said of what a file stores: int4, or int8. The runtime has no kernel that multiplies float32
// activations with them. It quantizes rows to int8 as they come, as ONNX Runtime's MatMulNBits does at accuracy_level
// 4, so these are the schemes above under another name, in training and evaluation as well: nothing is hidden. Any
// other accuracy_level is refused (kUnsupported).
struct Int4WeightOnlyConfig {
  std::int64_t group_size = 128;
  int accuracy_level = 4;
  format::Int4Scale scale = format::Int4Scale::kAmaxOver7;
};
struct Int8WeightOnlyConfig {
  int accuracy_level = 4;
};

using QuantizationConfig =
    std::variant<Int8StaticActivationInt8WeightConfig, Int8DynamicActivationInt8WeightConfig,
                 Int8DynamicActivationInt4WeightConfig, Int4WeightOnlyConfig, Int8WeightOnlyConfig>;

// Throws kInvalidArgument for a group size, kUnsupported for an accuracy_level that the runtime does not have.
[[nodiscard]] LayerScheme scheme_of(const QuantizationConfig& config);

// One half of a scheme, as TorchAO's QAT describes it.
struct IntxFakeQuantizeConfig {
  enum class Type : std::uint8_t { kInt4, kInt8, kUint8 };
  Type dtype = Type::kInt8;
  std::int64_t group_size = 0;  // weights: elements of a group; 0: one scale per channel. Activations: 0
  bool is_symmetric = true;
  bool is_dynamic = true;  // activations: one scale a row, from the row as it comes; else one per tensor, estimated
};

// The scheme of the two together. Throws kUnsupported for what the runtime has no kernel for, with what it has.
[[nodiscard]] LayerScheme scheme_of(const IntxFakeQuantizeConfig& activation, const IntxFakeQuantizeConfig& weight);

// TorchAO's quantize_: prepares the model (prepare_qat, with the observer and fold_batch_norm of `options`; its scheme
// and exceptions are not looked at) so that the weights whose names `filter_fn` accepts, all without one, have this
// scheme. May be called again with another config and filter until quantizers have seen data; weights that no call
// named, and convolutions, are uint8 x int8. Then train, or calibrate; finish_qat and quantize_(model) (convert.h) make
// the integer graph. Throws what scheme_of and prepare_qat do, kNotFound if the filter accepts no weight, kState once
// quantizers have seen data.
void quantize_(train::Model& model, const QuantizationConfig& config,
               const std::function<bool(const std::string& tensor_fqn)>& filter_fn = {}, const QATConfig& options = {});

}  // namespace pare::quant
