// oneDNN behind a C interface. Each version that the machine has becomes a shared library of its own
// (onednn_plugin.cc, loaded with its symbols kept to itself), so that two versions can compete in one process.
//
// Both primitives compute what pare's kernels compute, with the output's zero point 0:
//   out = clamp(rint(multiplier[j] * (bias[j] + sum of x * w)), 0, 255)
// oneDNN 2 multiplies the whole accumulator; oneDNN 3 adds a float bias after scaling, so a code may differ by 1.
#pragma once

#include <cstdint>

extern "C" {

struct OneDnnGemm {
  std::int64_t m, n, k;
  const std::uint8_t* a;           // [m][k]
  const std::int8_t* weights;      // [n][k]
  const std::int32_t* bias;        // [n]
  const float* multiplier;         // [n]
  std::uint8_t* c;                 // [m][n]
  std::int32_t use_inner_product;  // 0: matmul
};

// Square windows, stride 1; the taps in the padding count as the code 0. Depthwise: in_c = out_c, and weights are
// [out_c][kernel][kernel].
struct OneDnnConv {
  std::int64_t extent, in_c, out_c, kernel, padding;
  const std::uint8_t* x;       // [extent][extent][in_c]
  const std::int8_t* weights;  // [out_c][kernel][kernel][in_c]
  const std::int32_t* bias;
  const float* multiplier;
  std::uint8_t* y;
  std::int32_t is_depthwise;
};

// What a plug-in exports, as "pare_onednn". `make_*` copies what it needs of the weights, bias and multipliers;
// activations and outputs stay the caller's. Null: oneDNN cannot do it, and `why` says why.
struct OneDnnPlugin {
  const char* version;
  bool (*limit_to_avx2)();  // before anything else; false if it is too late
  void* (*make_gemm)(const OneDnnGemm& gemm, char* why, std::int64_t why_bytes);
  void* (*make_conv)(const OneDnnConv& conv, char* why, std::int64_t why_bytes);
  const char* (*implementation)(const void* primitive);
  void (*run)(void* primitive);
  void (*free)(void* primitive);
};

}  // extern "C"
