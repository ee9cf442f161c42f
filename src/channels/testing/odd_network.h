// Networks for tests: whatever can meet in a channel set, in one small graph. Test-only.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/graph/graph.h"

namespace pare::channels::testing {

class NetworkBuilder {
 public:
  NetworkBuilder(std::uint64_t seed, Shape input) : rng_(seed, 0x0DD) {
    graph_.name = "odd";
    graph_.input = "input";
    graph_.values["input"].shape = std::move(input);
  }

  void node(const std::string& name, const std::string& op_type, std::vector<std::string> inputs,
            const std::vector<std::pair<std::string, Shape>>& initializers = {},
            std::map<std::string, graph::Attribute> attributes = {}) {
    for (const auto& [suffix, shape] : initializers) {
      std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
      for (float& value : values) value = suffix == ".running_var" ? 0.1F + rng_.uniform() : rng_.normal();
      inputs.push_back(name + suffix);
      graph_.initializers[name + suffix] = graph::Initializer::f32(shape, values);
    }
    graph_.nodes.push_back({name, op_type, std::move(inputs), name + ".out", std::move(attributes)});
  }
  void batch_norm(const std::string& name, const std::string& input, std::int64_t channels) {
    node(name, "BatchNormalization", {input},
         {{".weight", {channels}}, {".bias", {channels}}, {".running_mean", {channels}}, {".running_var", {channels}}});
  }
  graph::Graph finish() {
    graph_.output = graph_.nodes.back().output;
    graph::infer_shapes(graph_);
    return std::move(graph_);
  }

 private:
  Rng rng_;
  graph::Graph graph_;
};

// Input [3, 6, 6]. stem without bias, batch norm, depthwise, 1x1, a residual sum of two convolutions, a padded pool, a
// Flatten whose output is added to a Gemm's, so that the Gemm's outputs hang together in runs of 9.
[[nodiscard]] inline graph::Graph odd_network(std::uint64_t seed) {
  using Ints = std::vector<std::int64_t>;
  const std::map<std::string, graph::Attribute> matrix{{"transB", std::int64_t{1}}};
  NetworkBuilder net(seed, {graph::kBatch, 3, 6, 6});
  net.node("stem", "Conv", {"input"}, {{".weight", {8, 3, 3, 3}}}, {{"pads", Ints{1, 1, 1, 1}}});
  net.batch_norm("stem_bn", "stem.out", 8);
  net.node("relu1", "Relu", {"stem_bn.out"});
  net.node("depthwise", "Conv", {"relu1.out"}, {{".weight", {8, 1, 3, 3}}, {".bias", {8}}},
           {{"pads", Ints{1, 1, 1, 1}}, {"group", std::int64_t{8}}});
  net.node("point", "Conv", {"depthwise.out"}, {{".weight", {6, 8, 1, 1}}, {".bias", {6}}});
  net.node("branch", "Conv", {"point.out"}, {{".weight", {6, 6, 3, 3}}, {".bias", {6}}}, {{"pads", Ints{1, 1, 1, 1}}});
  net.node("sum", "Add", {"branch.out", "point.out"});
  net.node("pool", "MaxPool", {"sum.out"}, {},
           {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}});
  net.node("flatten", "Flatten", {"pool.out"});
  net.node("mix", "Gemm", {"flatten.out"}, {{".weight", {54, 54}}, {".bias", {54}}}, matrix);
  net.node("mixed", "Add", {"flatten.out", "mix.out"});
  net.node("relu2", "Relu", {"mixed.out"});
  net.node("hidden", "Gemm", {"relu2.out"}, {{".weight", {12, 54}}}, matrix);
  net.batch_norm("hidden_bn", "hidden.out", 12);
  net.node("fc", "Gemm", {"hidden_bn.out"}, {{".weight", {5, 12}}, {".bias", {5}}}, matrix);
  return net.finish();
}

}  // namespace pare::channels::testing
