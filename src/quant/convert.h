// From a trained model to an integer graph.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "pare/graph/artifact.h"
#include "pare/train/model.h"

namespace pare::quant {

// TorchAO's name for the act. The model's weights become int8 codes, biases int32, values carry their quantization:
//   QuantizeLinear -> QLinearConv / QGemm / QLinearAdd (Relu fused), QLinearGlobalAveragePool, MaxPool, Flatten
//   -> QGemm with float32 output (logits)
// Dynamic layers (scheme.h) become DynamicQuantizeMatMul (int8 weights) or MatMulNBits (int4), biases float32, with
// DequantizeLinear before and QuantizeLinear behind them where they meet codes (integer_plan.h). Initializers keep
// their names ("conv1.weight", "conv1.bias"; a missing bias becomes zeros); a layer's output value is that of the Relu
// it takes in. All encodings are dense; sparsify_ packs. Masks act as everywhere: a masked weight is the code 0,
// squashed or not. Throws kState if QAT is not finished, kNumeric for NaN or infinity in a weight or bias, and what
// plan_integer_graph throws (integer_plan.h).
[[nodiscard]] graph::Graph quantize_(const train::Model& model);

// Weights that obey the pattern are re-encoded: "2:4" (graph::Encoding::kTwoFour, of int4 weights kInt4TwoFour) or
// "V:N:M", as "64:1:4" (kVnm), which int4 weights have no form for: they stay as they are, with a note.
struct SemiSparseWeightConfig {
  std::string pattern = "2:4";
};

// torchao's BlockSparseWeightConfig: of a weight only the blocks that are not all 0 are stored, and a bit for each
// block (graph::Encoding::kBlock).
struct BlockSparseWeightConfig {
  explicit BlockSparseWeightConfig(std::int64_t square) : blocksize{square, square} {}  // torchao's
  BlockSparseWeightConfig(std::int64_t rows, std::int64_t columns) : blocksize{rows, columns} {}
  std::array<std::int64_t, 2> blocksize;  // rows x columns, 1 to 256 each
};

// What became of a weight, and why; for the report and the artifact's promises.
struct LayerDecision {
  std::string weight;   // initializer name
  std::string pattern;  // as stored: "2:4", "64:1:4", "4x1", "dense"
  std::string note;
};

// `expected`: weights that must have the pattern (those with masks): one that breaks it is an error that names the
// first bad group (kVerification). Others are packed if they happen to obey it and `filter` allows; else they stay
// dense, with a note. So does a weight with fewer inputs than a group has, whatever is expected: a group would hold
// more than the weights in it. What is packed already stays as it is, so that each pattern can have a call of its own.
// One decision for each weight of the graph, in graph order. Throws kInvalidArgument for an unknown pattern, kNotFound
// for a name in `expected` that is no weight (with the nearest).
[[nodiscard]] std::vector<LayerDecision> sparsify_(graph::Graph& graph, const SemiSparseWeightConfig& config,
                                                   const std::vector<std::string>& expected,
                                                   const std::function<bool(const std::string& weight)>& filter = {});

// The same in blocks, a form that every weight has: no expectation can be broken. It is taken where it is smaller than
// the dense one; other weights stay dense, with a note.
[[nodiscard]] std::vector<LayerDecision> sparsify_(graph::Graph& graph, const BlockSparseWeightConfig& config,
                                                   const std::vector<std::string>& expected,
                                                   const std::function<bool(const std::string& weight)>& filter = {});

// The artifact of a converted graph, with a promise for each weight: pattern and note as decided, zeros as counted in
// the codes. Without decisions (sparsify_ was not called) every weight is promised as it is encoded.
[[nodiscard]] graph::Artifact make_artifact(graph::Graph graph, const std::vector<LayerDecision>& decisions,
                                            graph::Preprocessing preprocessing, std::vector<std::string> class_names,
                                            std::map<std::string, std::string> provenance = {});

}  // namespace pare::quant
