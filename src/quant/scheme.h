// Schemes: how a layer's weight and what it reads are quantized, and which layer gets which. Torch-free.
//
//   activation  uint8          affine, one scale per tensor, estimated while training or calibrating (static)
//               dynamic int8   symmetric, one scale a row, from the row as it comes (kernels/quantize_rows)
//   weight      int8           symmetric, one scale per output channel
//               int4 group g   symmetric, one float16 scale for g elements along k (format/int4.h)
//
// Layers with uint8 become QGemm and QLinearConv; dynamic ones DynamicQuantizeMatMul (int8) and MatMulNBits (int4). The
// runtime has no other kernels, so convolutions are uint8 x int8, and int4 weights always meet dynamic activations.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pare/format/int4.h"
#include "pare/graph/graph.h"

namespace pare::quant {

enum class ActivationScheme : std::uint8_t { kUint8, kDynamicInt8 };

struct LayerScheme {
  ActivationScheme activation = ActivationScheme::kUint8;
  std::int64_t int4_group = 0;  // of the weight; 0: int8 per channel
  format::Int4Scale int4_scale = format::Int4Scale::kAmaxOver7;

  [[nodiscard]] bool is_dynamic() const { return activation == ActivationScheme::kDynamicInt8; }
  [[nodiscard]] bool is_int4() const { return int4_group != 0; }
  // Throws kInvalidArgument for a group other than 0, 32, 64, 128 and 256, kUnsupported for uint8 x int4.
  void validate() const;
  friend bool operator==(const LayerScheme&, const LayerScheme&) = default;
};

// "uint8 x int8", "dynamic int8 x int4 group 32": as graph::scheme_of (graph/weights.h) says of a deployed layer.
[[nodiscard]] std::string to_string(const LayerScheme& scheme);

// An exception: the weights that match have this scheme.
struct SchemeException {
  std::string tensor_fqn;  // exact name or glob: "fc1.weight", "fc*.weight"
  LayerScheme scheme;
};

struct PlannedScheme {
  LayerScheme scheme;
  std::string note;  // why it is not what was asked for; else ""
};

// The scheme of every weight of a float graph, by name (initializer of the node, as a Model names it): `scheme`, or the
// last exception that matches. A convolution that an exception with its exact name makes dynamic or int4 is an error
// (kUnsupported); by a glob or by default it stays uint8 x int8, with a note. Throws what validate() does, and
// kNotFound with the nearest names for an exception that no weight matches.
[[nodiscard]] std::map<std::string, PlannedScheme> plan_schemes(const graph::Graph& graph, const LayerScheme& scheme,
                                                                const std::vector<SchemeException>& exceptions);

}  // namespace pare::quant
