#include "pare/pipeline/targets.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string_view>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/sparsity/mask.h"

namespace pare::pipeline {
namespace {

// What patterns have in common for a target.
enum class PatternClass { kDense, kTwoFour, kOtherNM, kVNM, kUnstructured, kBlock, kPartial, kCount };

struct Pattern {
  PatternClass kind = PatternClass::kDense;
  std::int64_t group = 1;  // consecutive inputs that the pattern speaks of
};

struct Line {
  Support support;
  std::string_view reason;
  std::string_view source;
};

struct Target {
  std::string_view name;
  std::array<Line, static_cast<std::size_t>(PatternClass::kCount)> lines;  // in PatternClass's order
};

constexpr std::string_view kOwnKernels = "own measurement: pare's kernels on AMD Zen 4, one thread, November 2026";
constexpr std::string_view kOwnPeers =
    "own measurement: onnxruntime 1.32 and OpenVINO 2026.4 on AMD Zen 4, November 2026";
constexpr std::string_view kOwnPeersInt4 =
    "own measurement: MatMulNBits with int8 activations on AMD Zen 4, November 2026 (docs/benchmarks.md)";
constexpr std::string_view kOwnEstimate = "own estimate from instruction counts; not measured on this target";
constexpr std::string_view kIntelManual =
    "Intel 64 and IA-32 Architectures Software Developer's Manual, VPMADDUBSW and VPDPBUSD";
constexpr std::string_view kArmManual = "Arm Architecture Reference Manual for A-profile: FEAT_DotProd, FEAT_I8MM";
constexpr std::string_view kAmpere =
    "NVIDIA A100 Tensor Core GPU Architecture whitepaper, fine-grained structured sparsity";
constexpr std::string_view kTensorRt =
    "NVIDIA TensorRT documentation, structured sparsity; NVIDIA/Model-Optimizer pull request 1664; NVIDIA/TensorRT "
    "issue 4694";
constexpr std::string_view kOnnx =
    "ONNX operator specification, QuantizeLinear and DequantizeLinear: weights are dense tensors";

constexpr std::string_view kUnstructuredNever =
    "zeros without a pattern cost as much as weights: dense int8 kernels do not skip them, and pare has no others for "
    "them";
constexpr std::string_view kUnstructuredSource =
    "openvinotoolkit/nncf issue 1191 (int8 2.06 ms, with half of the weights 0 2.14 ms); own measurement of "
    "onnxruntime and OpenVINO, November 2026";
constexpr std::string_view kPartialReason =
    "only a part of the blocks, or of a block, obeys the pattern, so the layer is stored and computed dense";
constexpr std::string_view kPackerSource = "pare's own packer: format/two_four.h, format/vnm.h";
constexpr std::string_view kStoredDense =
    "stored with an index for each weight where 2 N < M, else dense; no gain in time was measured";

constexpr Line kPartialLine{Support::kRuns, kPartialReason, kPackerSource};
constexpr Line kCpuUnstructured{Support::kRuns, kUnstructuredNever, kUnstructuredSource};
constexpr Line kCpuBlock{
    Support::kRuns,
    "stored in blocks, which take fewer bytes, and run dense: pare has kernels for blocks only for "
    "AVX-512 VNNI",
    "pare's own kernels: src/kernels/block"};
constexpr Line kCpuOtherNM{Support::kRuns, kStoredDense, kPackerSource};

constexpr std::array<Target, 6> kTargets = {{
    {"x86-avx2",
     {{{Support::kRuns,
        "AVX2 has no int8 dot product: vpmaddubsw saturates at 16 bits for 8-bit activations, so exact kernels widen "
        "to 16 bits first; faster than float32, slower than a CPU with VNNI",
        kIntelManual},
       {Support::kFast, "1.5 to 1.8 times pare's own exact dense kernel, for matrices", kOwnKernels},
       kCpuOtherNM,
       {Support::kFast,
        "sharing a mask among output channels leaves the dense kernel after one gather, on M / N times fewer inputs",
        kOwnKernels},
       kCpuUnstructured,
       kCpuBlock,
       kPartialLine}}},
    {"x86-avx512-vnni",
     {{{Support::kFast, "vpdpbusd: dense int8 kernels reach 93 to 99 % of peak", kOwnKernels},
       {Support::kFast,
        "on AMD Zen 4 1.25 to 1.45 times dense for matrices, 1.1 to 1.3 for convolutions; on Intel's 512-bit units an "
        "estimated 1.0 where compute-bound, because the "
        "shuffle shares the port, so only the memory-bound gain remains there",
        kOwnKernels},
       kCpuOtherNM,
       {Support::kFast,
        "on AMD Zen 4, for matrices: 64:2:4 1.86 to 2.0 times dense, 64:1:4 3.6 to 3.9, 64:1:8 6.0 to 7.4",
        kOwnKernels},
       kCpuUnstructured,
       {Support::kFast,
        "where few blocks are kept: at 90 % zeros 4 to 5 times dense in blocks 1x4, 6 to 7 times in 4x4 and larger; "
        "little at 50 %",
        kOwnKernels},
       kPartialLine}}},
    {"arm-dotprod",
     {{{Support::kFast, "sdot and udot: four int8 products an int32 lane and instruction", kArmManual},
       {Support::kRuns,
        "about 1.0 times dense where compute-bound: the table lookup that gathers activations costs what the halved "
        "products save; one row at a time is memory-bound and can gain from 0.625 byte a weight",
        kOwnEstimate},
       kCpuOtherNM,
       {Support::kRuns,
        "the pattern to choose here: one gather for all output channels that share the mask, then the dense kernel",
        kOwnEstimate},
       kCpuUnstructured,
       kCpuBlock,
       kPartialLine}}},
    {"arm-i8mm",
     {{{Support::kFast, "smmla and usmmla: 2x8 by 8x2 int8 products an instruction", kArmManual},
       {Support::kRuns,
        "below 1.0 times dense if computed sparse: smmla has no sparse form, and gathering costs more than it saves; "
        "decompress to dense while packing; one row at a time is memory-bound and can gain from 0.625 byte a weight",
        kOwnEstimate},
       kCpuOtherNM,
       {Support::kRuns,
        "the pattern to choose here: one gather for all output channels that share the mask, then the dense smmla "
        "kernel",
        kOwnEstimate},
       kCpuUnstructured,
       kCpuBlock,
       kPartialLine}}},
    {"nvidia-ampere",
     {{{Support::kFast, "int8 Tensor Cores through TensorRT's explicit quantization (Q/DQ)", kTensorRt},
       {Support::kFast,
        "Sparse Tensor Cores: up to 2 times dense math; groups of 4 run along the input channels (Conv, for each "
        "output channel and tap) or K (Gemm), as pare masks them; build with --sparsity=enable; TensorRT takes a "
        "sparse kernel only where it is the faster one, and for int8 only where inputs and outputs of the layer are "
        "int8, so quantize the output as well",
        kTensorRt},
       {Support::kRuns, "the hardware's pattern is 2:4 alone: other N:M run dense", kAmpere},
       {Support::kRuns,
        "the hardware's pattern is 2:4 alone; V:N:M needs kernels that neither TensorRT nor cuSPARSELt has", kAmpere},
       {Support::kRuns, "Tensor Cores skip no zeros without a pattern: it runs dense", kAmpere},
       {Support::kRuns, "TensorRT has no block-sparse int8 kernels: it runs dense", kTensorRt},
       {Support::kRuns, "TensorRT asks for 2:4 in the whole weight: it runs dense", kTensorRt}}}},
    {"onnx-qdq",
     {{{Support::kRuns,
        "every runtime that knows Q/DQ runs it; how fast depends on the runtime (2.3 to 4.0 times its own float32 for "
        "OpenVINO and onnxruntime on a CPU)",
        kOwnPeers},
       {Support::kRuns,
        "runs as a dense layer with zeros: no runtime measured gains from them (OpenVINO 1.00 to 1.02, onnxruntime "
        "0.99 to 1.01 times the time without zeros), and the file is not smaller; TensorRT is a target of its own: "
        "nvidia-ampere",
        kOwnPeers},
       {Support::kRuns, "ONNX has no N:M tensor: runs as a dense layer with zeros", kOnnx},
       {Support::kRuns, "ONNX has no V:N:M tensor: runs as a dense layer with zeros", kOnnx},
       {Support::kRuns, "runs as a dense layer with zeros; onnxruntime and OpenVINO skip none", kUnstructuredSource},
       {Support::kRuns, "runs as a dense layer with zeros; only whole channels that are removed make it faster", kOnnx},
       {Support::kRuns, "runs as a dense layer with zeros", kOnnx}}}},
}};

bool is_cpu(const Target& target) { return target.name.starts_with("x86-") || target.name.starts_with("arm-"); }

std::optional<std::vector<std::int64_t>> parse_numbers(std::string_view text, char separator) {
  std::vector<std::int64_t> numbers;
  while (true) {
    const std::size_t end = std::min(text.find(separator), text.size());
    std::int64_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + end, number);
    if (error != std::errc() || rest != text.data() + end || number < 1) {
      return std::nullopt;
    }
    numbers.push_back(number);
    if (end == text.size()) {
      return numbers;
    }
    text.remove_prefix(end + 1);
  }
}

std::optional<Pattern> parse_pattern(std::string_view text) {
  if (text == "dense" || text.empty()) {
    return Pattern{PatternClass::kDense, 1};
  }
  if (text == "unstructured") {
    return Pattern{PatternClass::kUnstructured, 1};
  }
  if (text.starts_with("block ")) {
    // "block 2x4 keeping 6" has no packed form.
    const bool whole = text.find("keeping") == std::string_view::npos;
    return Pattern{whole ? PatternClass::kBlock : PatternClass::kPartial, 1};
  }
  // sparsity::pattern_name's "2:4 in 0.5 of the blocks".
  const std::size_t space = text.find(' ');
  std::string_view shape = text.substr(0, space);
  if (shape == sparsity::kTransposablePattern) {
    shape.remove_suffix(1);  // 2:4 along the inputs, which is what products use
  }
  const auto numbers = parse_numbers(shape, ':');
  if (!numbers || numbers->size() < 2 || numbers->size() > 3) {
    return std::nullopt;
  }
  const std::int64_t group = numbers->back();
  const std::int64_t kept = (*numbers)[numbers->size() - 2];
  if (kept > group) {
    return std::nullopt;
  }
  if (space != std::string_view::npos) {
    return Pattern{PatternClass::kPartial, group};
  }
  if (numbers->size() == 3) {
    return Pattern{PatternClass::kVNM, group};
  }
  if (kept == group) {
    return Pattern{PatternClass::kDense, 1};
  }
  // 1:4, 2:8 and the like keep at most two of any aligned four.
  return Pattern{kept <= 2 && group % 4 == 0 ? PatternClass::kTwoFour : PatternClass::kOtherNM, group};
}

struct Finding {
  Support support;
  std::string reason;
  std::string source;
};

std::optional<Finding> check_precision(const Target& target, const LayerPlan& layer) {
  if (layer.weight_bits == 8 && layer.activation_bits == 8) {
    return std::nullopt;
  }
  if (is_cpu(target) && layer.op != "Conv" && layer.weight_bits == 4 && layer.activation_bits == 8) {
    return Finding{Support::kRuns,
                   "int4 weights are unpacked to int8 products: fewer bytes, so faster where weights come from memory "
                   "(one row at a time), and not where the product is compute-bound; vector code on x86 only",
                   std::string(kOwnPeersInt4)};
  }
  const std::string precision =
      str_cat(layer.weight_bits, "-bit weights with ", layer.activation_bits, "-bit activations");
  if (layer.weight_bits == 32 && layer.activation_bits == 32 && !is_cpu(target)) {
    return Finding{Support::kRuns, "float32: runs, without any gain from quantization",
                   "ONNX operator specification, Conv and Gemm"};
  }
  if (is_cpu(target)) {
    return Finding{
        Support::kUnsupported,
        str_cat("pare's runtime of this release has no kernels for ", precision, " in a ", layer.op, ", only 8 and 8"),
        "pare's own kernels: src/kernels"};
  }
  return Finding{Support::kUnsupported, str_cat("no support for ", precision, " is known on this target"),
                 "pare's own table: targets.cc"};
}

// What a layer's extents add to its pattern's line; nothing where they are not known.
std::optional<Finding> check_extents(const Target& target, const LayerPlan& layer, const Pattern& pattern) {
  const bool grouped = pattern.kind == PatternClass::kTwoFour || pattern.kind == PatternClass::kOtherNM ||
                       pattern.kind == PatternClass::kVNM;
  if (!grouped || layer.inputs == 0) {
    return std::nullopt;
  }
  const char* inputs = layer.op == "Conv" ? "input channels" : "input features";
  if (layer.inputs < pattern.group) {
    return Finding{Support::kRuns,
                   str_cat("groups of ", pattern.group, " run along the ", inputs, " and it has ", layer.inputs,
                           ": it stays dense; give it the pattern \"dense\""),
                   "pare's own sparsifier: sparsity/weight_norm_sparsifier.h"};
  }
  if (target.name != "nvidia-ampere" || pattern.kind != PatternClass::kTwoFour) {
    return std::nullopt;
  }
  constexpr std::int64_t kSparseMultiple = 32;  // int8
  if (layer.op != "Conv" &&
      (layer.inputs % kSparseMultiple != 0 || (layer.outputs != 0 && layer.outputs % kSparseMultiple != 0))) {
    return Finding{Support::kRuns,
                   str_cat("cuSPARSELt takes int8 weights whose extents are multiples of ", kSparseMultiple,
                           "; this one has ", layer.inputs, " ", inputs,
                           layer.outputs == 0 ? "" : str_cat(" and ", layer.outputs, " outputs"), ": it runs dense"),
                   "PyTorch torch.sparse.SparseSemiStructuredTensorCUSPARSELT, shape constraints of int8 (32, 32)"};
  }
  constexpr std::int64_t kWorthwhileChannels = 256;
  if (layer.op == "Conv" &&
      (layer.inputs < kWorthwhileChannels || (layer.outputs != 0 && layer.outputs < kWorthwhileChannels))) {
    return Finding{Support::kRuns,
                   str_cat("sparse kernels win where input and output channels exceed about ", kWorthwhileChannels,
                           " (a 3x3 filter needs fewer inputs): with ", layer.inputs, " input channels",
                           layer.outputs == 0 ? "" : str_cat(" and ", layer.outputs, " output channels"),
                           " TensorRT may well take the dense one"),
                   "NVIDIA/TensorRT issue 3849, answer of a TensorRT engineer"};
  }
  return std::nullopt;
}

const Target& find_target(const std::string& name) {
  const auto* const found =
      std::find_if(kTargets.begin(), kTargets.end(), [&](const Target& target) { return target.name == name; });
  if (found == kTargets.end()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no target '", name, "'"), "target",
                did_you_mean(name, target_names()));
  }
  return *found;
}

Finding check_layer(const Target& target, const LayerPlan& layer) {
  const std::optional<Pattern> pattern = parse_pattern(layer.pattern);
  if (!pattern) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("the pattern '", layer.pattern, "' cannot be read"),
                layer.name, "write \"dense\", \"2:4\", another \"N:M\", \"V:N:M\", \"unstructured\" or \"block RxC\"");
  }
  if (auto finding = check_precision(target, layer)) {
    return *finding;
  }
  if (auto finding = check_extents(target, layer, *pattern)) {
    return *finding;
  }
  const Line& line = target.lines[static_cast<std::size_t>(pattern->kind)];
  return {line.support, std::string(line.reason), std::string(line.source)};
}

}  // namespace

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  std::transform(kTargets.begin(), kTargets.end(), std::back_inserter(names),
                 [](const Target& target) { return std::string(target.name); });
  return names;
}

std::string to_string(Support support) {
  switch (support) {
    case Support::kFast:
      return "fast";
    case Support::kRuns:
      return "runs";
    case Support::kUnsupported:
      return "unsupported";
  }
  PARE_CHECK(false);
}

std::vector<LayerVerdict> check_target(const std::string& target, const std::vector<LayerPlan>& layers) {
  const Target& table = find_target(target);
  std::vector<LayerVerdict> verdicts;
  for (const LayerPlan& layer : layers) {
    Finding finding = check_layer(table, layer);
    verdicts.push_back({layer, finding.support, std::move(finding.reason), std::move(finding.source)});
  }
  return verdicts;
}

}  // namespace pare::pipeline
