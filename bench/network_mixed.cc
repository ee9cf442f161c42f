#include <algorithm>

#include "bench/quantized_weights.h"

namespace pare::bench {
namespace {

// Operators whose inputs are codes, and what they are called there.
const std::map<std::string, std::string>& products() {
  static const std::map<std::string, std::string> kProducts = {{"Gemm", "QGemm"}, {"Attention", "QLinearAttention"}};
  return kProducts;
}

// Of operators that give codes or float32.
bool may_give_codes(const graph::Node& node) {
  return products().contains(node.op_type) || node.op_type == "Gelu" || node.op_type == "LayerNormalization";
}

class Mixing {
 public:
  Mixing(const graph::Graph& source, const ActivationScales& scales, const SparsityPattern& pattern)
      : source_(source), scales_(scales), pattern_(pattern) {}

  graph::Graph mix() {
    result_.name = source_.name;
    result_.input = source_.input;
    result_.output = source_.output;
    result_.values[source_.input] = source_.values.at(source_.input);
    for (const graph::Node& node : source_.nodes) append(node);
    return std::move(result_);
  }

 private:
  // Whatever reads the value reads codes.
  [[nodiscard]] bool only_products_read(const std::string& value) const {
    const std::vector<const graph::Node*> readers = source_.consumers_of(value);
    return !readers.empty() && std::all_of(readers.begin(), readers.end(), [](const graph::Node* reader) {
      return products().contains(reader->op_type);
    });
  }

  void declare_codes(const std::string& value, const std::string& scale_name) {
    result_.values[value] = {.dtype = DType::kU8, .shape = {}, .quantization = quantization_of(scales_, scale_name)};
    codes_[scale_name] = value;
  }

  // The codes of a value: its own, or those that a QuantizeLinear makes of it once.
  std::string codes_of(const std::string& value) {
    if (!codes_.contains(value)) {
      const std::string name = "quantize_" + value;
      declare_codes(name + ".out", value);
      result_.nodes.push_back(
          {.name = name, .op_type = "QuantizeLinear", .inputs = {value}, .output = name + ".out", .attributes = {}});
    }
    return codes_.at(value);
  }

  void append(const graph::Node& source) {
    graph::Node node = source;
    if (const auto product = products().find(source.op_type); product != products().end()) {
      node.op_type = product->second;
      const std::size_t values = source.has_weight() ? 1 : source.inputs.size();
      for (std::size_t i = 0; i < values; ++i) node.inputs[i] = codes_of(source.inputs[i]);
    } else {
      for (const std::string& input : source.inputs) {
        if (source_.initializers.contains(input)) result_.initializers[input] = source_.initializer(input);
      }
    }
    if (source.has_weight()) {
      add_quantized_weights(source_, source, result_.values.at(node.inputs[0]).quantization->scales[0], pattern_,
                            result_);
    }
    if (may_give_codes(source) && only_products_read(source.output)) declare_codes(source.output, source.output);
    result_.nodes.push_back(std::move(node));
  }

  const graph::Graph& source_;
  const ActivationScales& scales_;
  const SparsityPattern& pattern_;
  graph::Graph result_;
  std::map<std::string, std::string> codes_;  // of a value of the float graph: its codes
};

}  // namespace

graph::Graph mixed_network(const graph::Graph& graph, const ActivationScales& scales, const SparsityPattern& pattern) {
  return Mixing(graph, scales, pattern).mix();
}

}  // namespace pare::bench
