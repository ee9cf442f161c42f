#include "pare/pipeline/channel_steps.h"

#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/channels/permute_for_sparsity.h"
#include "pare/pipeline/report/numbers.h"

namespace pare::pipeline {
namespace {

graph::Initializer zeros(const Shape& shape) {
  return graph::Initializer::f32(shape, std::vector<float>(static_cast<std::size_t>(element_count(shape)), 0.0F));
}

}  // namespace

std::string permute_model(train::Model& model, const sparsity::Sparsifier& sparsifier, std::uint64_t seed) {
  std::map<std::string, format::VnmPattern> patterns;
  channels::PermutationOptions options;
  options.seed = seed;
  // Longer than any search takes: a search that the clock ends would not repeat.
  options.max_seconds = 3600.0;
  for (const sparsity::SparseGroup& group : sparsifier.groups()) {
    if (const auto pattern = group.config.vnm()) {
      patterns[group.tensor_fqn] = *pattern;
      options.norm = group.config.norm;
    }
  }
  if (patterns.empty()) {
    return "channels keep their order: no weight has an N:M or V:N:M pattern";
  }
  channels::SparsityPermutation result =
      channels::permute_for_sparsity(model.to_graph(train::Model::Weights::kDense), patterns, options);
  model.rebuild(std::move(result.graph));
  return str_cat("channels reordered: masks keep ", percent(100.0 * result.fraction_after), " of the weights' ",
                 options.norm == 1 ? "magnitude" : "squares", " instead of ", percent(100.0 * result.fraction_before));
}

std::string prune_model(train::Model& model, const channels::ChannelPruningConfig& config) {
  channels::PrunedNetwork result = channels::prune_network(model.to_graph(train::Model::Weights::kDense), config);
  std::int64_t before = 0;
  std::int64_t after = 0;
  for (const channels::PrunedSet& set : result.sets) {
    if (set.set.is_free()) {
      before += set.set.channels;
      after += static_cast<std::int64_t>(set.kept.size());
    }
  }
  model.rebuild(std::move(result.graph));
  return str_cat("channels pruned: ", after, " of ", before, " stay");
}

std::map<std::string, std::vector<float>> batch_gradients(train::Model& model, const train::CalibrationSet& set,
                                                          const torch::Tensor& labels) {
  set.validate();
  const train::Mode mode(model, /*training=*/false);
  std::vector<torch::Tensor> weights;
  for (const auto& weight : model.weights()) {
    weights.push_back(weight->dense());
  }
  std::map<std::string, std::vector<float>> gradients;
  std::int64_t first = 0;
  for (std::int64_t i = 0; i < set.batches; ++i) {
    const torch::Tensor inputs = set.batch(i).to(model.device());
    const torch::Tensor truth = labels.narrow(0, first, inputs.size(0)).to(model.device());
    first += inputs.size(0);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(model.forward(inputs), truth);
    const std::vector<torch::Tensor> of_batch = torch::autograd::grad({loss}, weights);
    for (std::size_t w = 0; w < weights.size(); ++w) {
      const std::string& fqn = model.weights()[w]->fqn();
      const torch::Tensor gradient = of_batch[w].to(torch::kCPU).contiguous();
      if (!torch::isfinite(gradient).all().item<bool>()) {
        throw Error(ErrorCategory::kNumeric, str_cat("the gradient is NaN or infinite in batch ", i), fqn,
                    "check the images, and whether training has diverged");
      }
      std::vector<float>& all = gradients[fqn];
      all.insert(all.end(), gradient.data_ptr<float>(), gradient.data_ptr<float>() + gradient.numel());
    }
    if (set.progress) {
      set.progress(i + 1, set.batches);
    }
  }
  return gradients;
}

graph::Graph with_extents_of(graph::Graph graph, const std::map<std::string, torch::Tensor>& state) {
  std::map<std::string, std::int64_t> channels;  // of values that a Conv or Gemm writes
  for (graph::Node& node : graph.nodes) {
    for (const std::string& input : node.inputs) {
      const auto initializer = graph.initializers.find(input);
      if (initializer == graph.initializers.end()) {
        continue;
      }
      if (const auto tensor = state.find(input); tensor != state.end()) {
        initializer->second = zeros(tensor->second.sizes().vec());
      } else if (const auto written = channels.find(node.inputs[0]); written != channels.end()) {
        initializer->second = zeros({written->second});
      }
    }
    if (node.has_weight()) {
      const std::int64_t outputs = graph.initializers.at(node.inputs.at(1)).shape.at(0);
      channels[node.output] = outputs;
      if (node.is_depthwise()) {
        node.attributes["group"] = outputs;
      }
      // A bias that folding has made, or will make, has the extents of the weight.
      if (node.inputs.size() > 2 && !state.contains(node.inputs[2])) {
        graph.initializers.at(node.inputs[2]) = zeros({outputs});
      }
    }
  }
  for (auto& [name, value] : graph.values) {
    if (name != graph.input) {
      value.shape.clear();
    }
  }
  return graph;
}

}  // namespace pare::pipeline
