#include "pare/quant/scheme.h"

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::quant {
namespace {

constexpr const char* kWhere = "quantization scheme";
constexpr const char* kConvNote =
    "convolutions have kernels for uint8 activations and int8 weights only, so it is quantized uint8 x int8";

}  // namespace

void LayerScheme::validate() const {
  if (int4_group != 0 && !format::is_int4_group(int4_group)) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("int4 weights in groups of ", int4_group), kWhere,
                "a group has 32, 64, 128 or 256 elements");
  }
  if (is_int4() && !is_dynamic()) {
    throw Error(ErrorCategory::kUnsupported, "int4 weights with uint8 activations", kWhere,
                "int4 weights multiply activations that are quantized row by row (activation \"dynamic_int8\"); uint8 "
                "goes with "
                "int8_per_channel");
  }
}

std::string to_string(const LayerScheme& scheme) {
  return str_cat(scheme.is_dynamic() ? "dynamic int8" : "uint8", " x ",
                 scheme.is_int4() ? str_cat("int4 group ", scheme.int4_group) : std::string("int8"));
}

std::map<std::string, PlannedScheme> plan_schemes(const graph::Graph& graph, const LayerScheme& scheme,
                                                  const std::vector<SchemeException>& exceptions) {
  scheme.validate();
  const std::vector<std::string> names = graph.weight_names();
  for (const SchemeException& exception : exceptions) {
    exception.scheme.validate();
    bool matches = false;
    for (const std::string& name : names) {
      matches = matches || glob_match(exception.tensor_fqn, name);
    }
    if (!matches) {
      throw Error(ErrorCategory::kNotFound, str_cat("no weight of the model is called '", exception.tensor_fqn, "'"),
                  kWhere, did_you_mean(exception.tensor_fqn, names));
    }
  }
  std::map<std::string, PlannedScheme> planned;
  for (const graph::Node& node : graph.nodes) {
    if (!node.has_weight()) {
      continue;
    }
    const std::string& name = node.inputs[1];
    PlannedScheme& own = planned[name];
    own.scheme = scheme;
    bool by_name = false;
    for (const SchemeException& exception : exceptions) {
      if (glob_match(exception.tensor_fqn, name)) {
        own.scheme = exception.scheme;
        by_name = exception.tensor_fqn == name;
      }
    }
    if (node.op_type == "Gemm" || !own.scheme.is_dynamic()) {
      continue;
    }
    if (by_name) {
      throw Error(ErrorCategory::kUnsupported, str_cat("a convolution cannot be ", to_string(own.scheme)),
                  str_cat(kWhere, " of '", name, "'"),
                  "leave it out, or name it with a glob: convolutions are quantized uint8 x int8");
    }
    own.scheme = {};
    own.note = kConvNote;
  }
  return planned;
}

}  // namespace pare::quant
