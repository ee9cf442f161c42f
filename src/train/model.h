// Model: a torch::nn::Module that executes a Graph differentiably.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pare/graph/graph.h"
#include "pare/train/weight_pipeline.h"

namespace pare::train {

// [batch, k] float32, what a Gemm reads, to the same shape, with a gradient of its own.
using RowTransform = std::function<torch::Tensor(const torch::Tensor&)>;

// Where the model stands between dense training and conversion. Kept in the state that checkpoints carry.
enum class QatState { kNone, kPrepared, kFinished };

// Parameters carry the graph's names: node "conv1" is a child module "conv1" with parameters "weight" and "bias"; a
// mask is its buffer "weight_mask", a weight's quantizer its child "weight_fake_quant", the quantizer of its output
// value its child "activation_post_process" (the graph's input: a child "input_post_process" of the model), that of the
// rows it reads its child "activation_fake_quantizer" (TorchAO's name). Dots in a node's name nest modules. So
// named_parameters() and named_buffers() together are the complete state.
//
// Beside each mask stands a buffer "weight_mask_gradient", float64 [2]: 1 if masked weights get no gradient
// (MaskGradient::kMasked), and the decay of SR-STE. The model's own buffer "qat_state" holds a QatState.
//
// Not thread-safe, not copyable: Model(other.to_graph(...)) makes another one of the same weights.
class Model : public torch::nn::Module {
 public:
  // Takes a float graph with initializers, which it validates (graph::infer_shapes) and whose initializers it renames
  // after the nodes that read them. Throws what that throws; kUnsupported for an integer graph and for a node whose
  // name no module can carry.
  explicit Model(graph::Graph graph, torch::Device device = torch::kCPU);
  ~Model() override;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // [batch, C, H, W] float32 on device() -> logits [batch, classes]. Weights go through their pipelines, activations
  // through their quantizers where QAT has placed them. In training mode BatchNormalization uses the batch's statistics
  // and moves the running ones by 0.1. Throws kInvalidArgument for another shape, type or an empty batch.
  torch::Tensor forward(const torch::Tensor& input);
  // The same, and what the named nodes put out, in their order. Throws kNotFound with the nearest names.
  torch::Tensor forward(const torch::Tensor& input, const std::vector<std::string>& nodes,
                        std::vector<torch::Tensor>& outputs);

  // The matrix [rows, k] that the layer with this weight multiplies for `input` (as forward takes it), in group order:
  // of a Gemm its input; of a Conv one row an output pixel, k = kh * kw * I, input channels innermost (im2col). Runs
  // the layers before it, in the model's mode. Throws kNotFound with the nearest names, and what forward does.
  [[nodiscard]] torch::Tensor layer_input(const std::string& tensor_fqn, const torch::Tensor& input);

  // Structure and names. Its initializers are those that the model was built from: see to_graph() for current values.
  [[nodiscard]] const graph::Graph& graph() const { return graph_; }
  [[nodiscard]] torch::Device device() const { return device_; }

  // Pipelines of Conv and Gemm weights, in graph order, by fqn ("conv1.weight").
  [[nodiscard]] const std::vector<std::shared_ptr<WeightPipeline>>& weights() const { return weights_; }
  // Throws kNotFound with the nearest names.
  [[nodiscard]] WeightPipeline& weight(const std::string& tensor_fqn) const;
  // All that match an exact name or a glob; throws kNotFound with the nearest names if none does.
  [[nodiscard]] std::vector<std::shared_ptr<WeightPipeline>> weights_matching(const std::string& pattern) const;
  // Bias parameter of the node, undefined if it has none. Throws kNotFound with the nearest names.
  [[nodiscard]] torch::Tensor bias(const std::string& node) const;

  // The same as the pipeline's own: whichever is called, buffers and children that checkpoints see follow.
  void set_mask(const std::string& tensor_fqn, const torch::Tensor& mask);
  void clear_mask(const std::string& tensor_fqn);
  void set_weight_quantizer(const std::string& tensor_fqn, std::shared_ptr<FakeQuantizer> quantizer);
  // Quantizes the value with this name right after it is produced (or the graph's input). Throws kNotFound with the
  // nearest names.
  void set_activation_quantizer(const std::string& value, std::shared_ptr<FakeQuantizer> quantizer);
  [[nodiscard]] const std::map<std::string, std::shared_ptr<FakeQuantizer>>& activation_quantizers() const {
    return activation_quantizers_;
  }

  // Quantizes the rows that this Gemm reads, for it alone. Throws kNotFound with the nearest names, kInvalidArgument
  // for a node that is no Gemm.
  void set_row_quantizer(const std::string& node, std::shared_ptr<RowQuantizer> quantizer);
  // By node.
  [[nodiscard]] const std::map<std::string, std::shared_ptr<RowQuantizer>>& row_quantizers() const {
    return row_quantizers_;
  }

  // Alters the rows that this Gemm alone reads, in either mode; an empty function takes it off. No part of state(): set
  // it again after loading a checkpoint. Throws kNotFound with the nearest names, kInvalidArgument for a node that is
  // no Gemm, and kState once QAT has been prepared: integers have no such step.
  void set_row_transform(const std::string& node, RowTransform transform);
  // Nodes that have one, in graph order.
  [[nodiscard]] std::vector<std::string> row_transforms() const;

  [[nodiscard]] QatState qat_state() const;
  void set_qat_state(QatState state);

  // Folds every BatchNormalization into the Conv before it (graph::fold_batch_norm). Masks stay; parameters are new
  // tensors, so optimizers must be made afterwards. Throws kState once QAT has been prepared, and while a layer's rows
  // are transformed.
  void fold_batch_norm();

  // The same network with other weights, and other channels for that matter: as to_graph() gave it, changed. Parameters
  // are new tensors, so optimizers must be made afterwards. Throws kState while masks, quantizers or transforms are
  // there, and what the constructor does.
  void rebuild(graph::Graph graph);

  // The float graph with the current values of dense weights (masked: with the masks applied), biases and statistics.
  enum class Weights { kDense, kMasked };
  [[nodiscard]] graph::Graph to_graph(Weights weights) const;

  // Everything a checkpoint needs: parameters, buffers (masks and quantizers included), by fqn, in a fixed order; and
  // the reverse. Tensors are the model's own, on its device: clone() what shall not move on.
  // load_state creates masks that the state has and removes those that it lacks; quantizers must be set already.
  // Throws kCorruptData, and changes nothing, if names, shapes or types differ from the model's.
  [[nodiscard]] std::vector<std::pair<std::string, torch::Tensor>> state() const;
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Layer;  // a node with parameters, buffers or quantizers: what its child module registers
  struct Step;   // a node, ready to execute

  void build(graph::Graph graph);
  void add_layer(const graph::Node& node);
  // Makes the child module of the layer anew from its tensors and quantizers (LibTorch cannot take a buffer off a
  // module).
  void register_layer(const std::string& name);
  void require_gemm(const std::string& node) const;
  void require_no_transforms() const;
  void plan_steps();
  // What execute() does beyond returning the output.
  struct Request {
    const WeightPipeline* until = nullptr;  // return the input of the layer with this weight
    std::vector<std::size_t> values;        // numbers of values to keep in `kept`
    std::vector<torch::Tensor>* kept = nullptr;
  };
  torch::Tensor execute(const torch::Tensor& input, const Request& request);
  [[nodiscard]] const Layer* find_layer(const std::string& node) const;
  [[nodiscard]] std::vector<std::string> weight_names() const;

  graph::Graph graph_;
  torch::Device device_;
  torch::Tensor qat_state_;                               // int64 [], on the CPU
  std::map<std::string, std::shared_ptr<Layer>> layers_;  // by node
  std::vector<std::shared_ptr<WeightPipeline>> weights_;
  std::map<std::string, std::shared_ptr<FakeQuantizer>> activation_quantizers_;
  std::map<std::string, std::shared_ptr<RowQuantizer>> row_quantizers_;
  std::vector<Step> steps_;
  std::size_t output_ = 0;  // number of the graph's output among the values that steps make
};

// Training or evaluation mode until the end of a scope, however it ends.
class Mode {
 public:
  Mode(Model& model, bool training) : model_(model), was_training_(model.is_training()) { model_.train(training); }
  ~Mode() { model_.train(was_training_); }
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;

 private:
  Model& model_;
  bool was_training_;
};

}  // namespace pare::train
