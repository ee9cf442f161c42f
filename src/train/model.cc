#include "pare/train/model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/train/model_layers.h"

namespace pare::train {
namespace {

constexpr const char* kWeightQuantizer = "weight_fake_quant";
constexpr const char* kActivationQuantizer = "activation_post_process";
constexpr const char* kInputQuantizer = "input_post_process";
constexpr const char* kRowQuantizer = "activation_fake_quantizer";

// Parameters and buffers of a node, by position among its inputs.
const std::vector<std::string>& tensor_names(const graph::Node& node) {
  static const std::vector<std::string> weight_and_bias = {"", "weight", "bias"};
  static const std::vector<std::string> batch_norm = {"", "weight", "bias", "running_mean", "running_var"};
  static const std::vector<std::string> none = {""};
  return node.op_type == "BatchNormalization" ? batch_norm : node.has_weight() ? weight_and_bias : none;
}

[[noreturn]] void throw_unsupported(const graph::Node& node, const std::string& problem,
                                    const std::string& remedy = {}) {
  throw Error(ErrorCategory::kUnsupported, problem, str_cat("node '", node.name, "' (", node.op_type, ")"), remedy);
}

std::vector<std::string> split_at_dots(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

void check_name(const graph::Node& node) {
  const std::vector<std::string> parts = split_at_dots(node.name);
  for (const std::string& part : parts) {
    if (part.empty()) {
      throw_unsupported(node, "its name has an empty part, which no module can carry", "rename the node");
    }
    if (part == kWeightQuantizer || part == kActivationQuantizer || part == kInputQuantizer || part == kRowQuantizer) {
      throw_unsupported(node, str_cat("'", part, "' in its name is what quantizers are called"), "rename the node");
    }
  }
}

// Values come first, parameters and buffers after them; an Add has two values, all others one.
std::size_t value_inputs(const graph::Node& node) { return node.op_type == "Add" ? 2 : 1; }

// Names every initializer after the node that reads it. Precondition: the graph was validated, so each has one reader.
graph::Graph with_canonical_names(graph::Graph graph) {
  std::map<std::string, graph::Initializer> initializers;
  for (graph::Node& node : graph.nodes) {
    check_name(node);
    const std::vector<std::string>& names = tensor_names(node);
    for (std::size_t i = value_inputs(node); i < node.inputs.size(); ++i) {
      std::string name = str_cat(node.name, ".", names.at(i));
      initializers[name] = graph.initializers.at(node.inputs[i]);
      node.inputs[i] = std::move(name);
    }
  }
  graph.initializers = std::move(initializers);
  return graph;
}

torch::Tensor to_tensor(const graph::Initializer& initializer, torch::Device device) {
  const auto values = initializer.data.as<float>();
  torch::Tensor tensor = torch::empty(initializer.shape, torch::kFloat32);
  PARE_CHECK(initializer.dtype == DType::kF32 && static_cast<std::int64_t>(values.size()) == tensor.numel());
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor.to(device);
}

// The same [n, c, h, w] values with the channels next to each other in memory, from where LibTorch's CPU operators take
// their memory format: a step of `convnet` and of `resnet20` takes 0.72 of the time that it takes on planes of pixels
// (LibTorch 1.13, one thread). Of one channel both orders are the same bytes, and only the strides tell which is meant.
torch::Tensor channels_innermost(const torch::Tensor& x) {
  if (x.size(1) > 1) {
    return x.contiguous(torch::MemoryFormat::ChannelsLast);
  }
  return x.contiguous().as_strided(x.sizes(), {x.size(2) * x.size(3), 1, x.size(3), 1});
}

}  // namespace

Model::Model(graph::Graph graph, torch::Device device) : torch::nn::Module("Model"), device_(device) {
  qat_state_ = register_buffer("qat_state", torch::zeros({}, torch::kInt64));
  build(std::move(graph));
}

Model::~Model() {
  // Pipelines are shared and may outlive the model.
  for (const auto& pipeline : weights_) {
    pipeline->set_listener({});
  }
}

void Model::build(graph::Graph graph) {
  graph::infer_shapes(graph);
  if (graph::is_integer_graph(graph)) {
    throw Error(ErrorCategory::kUnsupported, "an integer graph cannot be trained", str_cat("graph '", graph.name, "'"),
                "start from the float graph that it was converted from");
  }
  graph::Graph named = with_canonical_names(std::move(graph));
  for (const auto& pipeline : weights_) {
    pipeline->set_listener({});
  }
  for (const auto& child : named_children()) {
    unregister_module(child.key());
  }
  layers_.clear();
  weights_.clear();
  activation_quantizers_.clear();
  row_quantizers_.clear();
  graph_ = std::move(named);
  for (const graph::Node& node : graph_.nodes) {
    add_layer(node);
  }
  plan_steps();
}

void Model::add_layer(const graph::Node& node) {
  auto layer = std::make_shared<Layer>();
  const std::vector<std::string>& names = tensor_names(node);
  for (std::size_t i = value_inputs(node); i < node.inputs.size(); ++i) {
    torch::Tensor tensor = to_tensor(graph_.initializer(node.inputs[i]), device_);
    if (names[i] == "weight" || names[i] == "bias") {
      layer->parameters.emplace_back(names[i], tensor.requires_grad_(true));
    } else {
      layer->buffers.emplace_back(names[i], tensor);
    }
  }
  if (node.has_weight()) {
    layer->weight = std::make_shared<WeightPipeline>(node.inputs[1], layer->tensor("weight"));
    layer->weight->set_listener([this, name = node.name] { register_layer(name); });
    weights_.push_back(layer->weight);
  }
  PARE_CHECK(layers_.emplace(node.name, std::move(layer)).second);
  register_layer(node.name);
}

void Model::register_layer(const std::string& name) {
  const Layer& layer = *layers_.at(name);
  auto module = std::make_shared<torch::nn::Module>(name);
  for (const auto& [key, tensor] : layer.parameters) {
    module->register_parameter(key, tensor);
  }
  for (const auto& [key, tensor] : layer.buffers) {
    module->register_buffer(key, tensor);
  }
  if (layer.weight != nullptr) {
    const double masked_gradient = layer.weight->mask_gradient() == MaskGradient::kMasked ? 1.0 : 0.0;
    module->register_buffer(str_cat("weight", kMaskGradientSuffix),
                            torch::tensor({masked_gradient, layer.weight->sr_ste_decay()}, torch::kFloat64));
    if (layer.weight->mask().defined()) {
      module->register_buffer(str_cat("weight", kMaskSuffix), layer.weight->mask());
    }
    if (layer.weight->fake_quantizer() != nullptr) {
      module->register_module(kWeightQuantizer, layer.weight->fake_quantizer());
    }
  }
  if (layer.activation != nullptr) {
    module->register_module(kActivationQuantizer, layer.activation);
  }
  if (layer.rows != nullptr) {
    module->register_module(kRowQuantizer, layer.rows);
  }

  torch::nn::Module* parent = this;
  std::vector<std::string> path = split_at_dots(name);
  const std::string leaf = path.back();
  path.pop_back();
  for (const std::string& part : path) {
    const auto children = parent->named_children();
    const std::shared_ptr<torch::nn::Module>* child = children.find(part);
    parent = child != nullptr ? child->get()
                              : parent->register_module(part, std::make_shared<torch::nn::Module>(part)).get();
  }
  const auto siblings = parent->named_children();
  if (const std::shared_ptr<torch::nn::Module>* old = siblings.find(leaf)) {
    for (const auto& child : (*old)->named_children()) {
      if (child.key() != kWeightQuantizer && child.key() != kActivationQuantizer && child.key() != kRowQuantizer) {
        module->register_module(child.key(), child.value());
      }
    }
    parent->replace_module(leaf, module);
  } else {
    parent->register_module(leaf, module);
  }
  module->train(is_training());
}

void Model::plan_steps() {
  using Op = Step::Op;
  static const std::map<std::string, Op> ops = {{"Conv", Op::kConv},
                                                {"BatchNormalization", Op::kBatchNorm},
                                                {"Relu", Op::kRelu},
                                                {"Add", Op::kAdd},
                                                {"GlobalAveragePool", Op::kGlobalAveragePool},
                                                {"MaxPool", Op::kMaxPool},
                                                {"Flatten", Op::kFlatten},
                                                {"Gemm", Op::kGemm}};
  std::map<std::string, std::size_t> numbers = {{graph_.input, 0}};
  std::vector<Step> steps;
  for (const graph::Node& node : graph_.nodes) {
    const auto op = ops.find(node.op_type);
    if (op == ops.end()) {
      throw_unsupported(node, "cannot be trained",
                        "Conv, BatchNormalization, Relu, Add, GlobalAveragePool, MaxPool, Flatten and Gemm can");
    }
    const Layer& layer = *layers_.at(node.name);
    Step step;
    step.op = op->second;
    step.input = numbers.at(node.inputs[0]);
    step.weight = layer.weight;
    step.quantizer = layer.activation;
    step.rows = layer.rows;
    step.transform = layer.transform;
    step.bias = layer.tensor("bias");
    if (step.op == Op::kConv || step.op == Op::kMaxPool) {
      const graph::Window window = graph::window_of(graph_, node);
      step.groups = node.is_depthwise() ? layer.weight->dense().size(0) : 1;
      step.kernel = {window.kernel_h, window.kernel_w};
      step.strides = {window.stride_h, window.stride_w};
      step.dilations = {window.dilation_h, window.dilation_w};
      step.padding = {window.pad_top, window.pad_left};
      const bool alike = window.pad_top == window.pad_bottom && window.pad_left == window.pad_right;
      // LibTorch pads both ends alike, and before a pool by no more than half a window.
      if (!alike || (step.op == Op::kMaxPool &&
                     (2 * window.pad_top > window.kernel_h || 2 * window.pad_left > window.kernel_w))) {
        step.padding = {0, 0};
        step.edge_padding = {window.pad_left, window.pad_right, window.pad_top, window.pad_bottom};
      }
    } else if (step.op == Op::kBatchNorm) {
      step.gamma = layer.tensor("weight");
      step.running_mean = layer.tensor("running_mean");
      step.running_var = layer.tensor("running_var");
      step.eps = node.float_attribute("epsilon", 1e-5F);
      step.momentum = 1.0F - node.float_attribute("momentum", 0.9F);  // ONNX counts what stays, LibTorch what is new
    } else if (step.op == Op::kAdd) {
      step.other = numbers.at(node.inputs[1]);
    }
    const bool one_reader = graph_.consumers_of(node.inputs[0]).size() == 1 && node.inputs[0] != graph_.output;
    step.last_use = one_reader;
    // Conv, BatchNormalization, Gemm and Add keep at most their inputs for the backward pass, not their outputs.
    if (step.op == Op::kRelu && one_reader && step.input > 0) {
      const Step& producer = steps[step.input - 1];
      step.in_place = producer.quantizer == nullptr && (producer.op == Op::kConv || producer.op == Op::kBatchNorm ||
                                                        producer.op == Op::kGemm || producer.op == Op::kAdd);
    }
    numbers[node.output] = steps.size() + 1;
    steps.push_back(std::move(step));
  }
  output_ = numbers.at(graph_.output);
  steps_ = std::move(steps);
}

torch::Tensor Model::forward(const torch::Tensor& input) { return execute(input, {}); }

torch::Tensor Model::forward(const torch::Tensor& input, const std::vector<std::string>& nodes,
                             std::vector<torch::Tensor>& outputs) {
  Request request;
  request.kept = &outputs;
  for (const std::string& name : nodes) {
    const graph::Node& node = graph_.node(name);
    // Step i executes node i and makes value i + 1.
    request.values.push_back(static_cast<std::size_t>(&node - graph_.nodes.data()) + 1);
  }
  return execute(input, request);
}

torch::Tensor Model::layer_input(const std::string& tensor_fqn, const torch::Tensor& input) {
  Request request;
  request.until = &weight(tensor_fqn);
  return execute(input, request);
}

torch::Tensor Model::execute(const torch::Tensor& input, const Request& request) {
  const Shape& expected = graph_.values.at(graph_.input).shape;
  bool fits = input.defined() && input.scalar_type() == torch::kFloat32 &&
              input.dim() == static_cast<std::int64_t>(expected.size()) && input.size(0) > 0;
  for (std::size_t i = 1; fits && i < expected.size(); ++i) {
    fits = input.size(static_cast<std::int64_t>(i)) == expected[i];
  }
  if (!fits) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("input of shape ",
                        input.defined() ? str_cat(input.sizes(), " and type ", input.scalar_type()) : "(none)"),
                str_cat("model '", graph_.name, "'"),
                str_cat("it takes float32 ", to_string(expected), ", where -1 is the batch, at least 1"));
  }
  std::vector<torch::Tensor> values(steps_.size() + 1);
  const auto input_quantizer = activation_quantizers_.find(graph_.input);
  values[0] = input_quantizer == activation_quantizers_.end() ? input : input_quantizer->second->forward(input);
  if (values[0].dim() == 4 && device_.is_cpu()) {
    values[0] = channels_innermost(values[0]);
  }
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const torch::Tensor other = step.op == Step::Op::kAdd ? values[step.other] : torch::Tensor();
    torch::Tensor x = step.last_use && request.values.empty() ? std::move(values[step.input]) : values[step.input];
    torch::Tensor y;
    switch (step.op) {
      case Step::Op::kConv:
        if (!step.edge_padding.empty()) {
          x = torch::constant_pad_nd(x, step.edge_padding, 0);
        }
        if (request.until != nullptr && step.weight.get() == request.until) {
          if (step.groups > 1) {
            throw Error(ErrorCategory::kUnsupported, "a depthwise convolution multiplies no matrix of all its inputs",
                        step.weight->fqn(), "leave the layer out, or dense");
          }
          // [batch, I * taps, pixels] -> [batch * pixels, taps * I]
          const torch::Tensor columns = torch::im2col(x, step.kernel, step.dilations, step.padding, step.strides);
          return columns.view({x.size(0), x.size(1), -1, columns.size(2)})
              .permute({0, 3, 2, 1})
              .reshape({x.size(0) * columns.size(2), -1});
        }
        y = torch::conv2d(x, step.weight->used(), step.bias, step.strides, step.padding, step.dilations, step.groups);
        break;
      case Step::Op::kBatchNorm:
        y = torch::batch_norm(x, step.gamma, step.bias, step.running_mean, step.running_var, is_training(),
                              step.momentum, step.eps, /*cudnn_enabled=*/true);
        break;
      case Step::Op::kRelu:
        y = step.in_place && request.values.empty() ? torch::relu_(x) : torch::relu(x);
        break;
      case Step::Op::kAdd:
        y = x + other;
        break;
      case Step::Op::kGlobalAveragePool:
        y = x.mean({2, 3}, /*keepdim=*/true);
        break;
      case Step::Op::kMaxPool:
        if (!step.edge_padding.empty()) {
          x = torch::constant_pad_nd(x, step.edge_padding, -std::numeric_limits<float>::infinity());
        }
        y = torch::max_pool2d(x, step.kernel, step.strides, step.padding, step.dilations);
        break;
      case Step::Op::kFlatten:
        y = x.flatten(1);
        break;
      case Step::Op::kGemm:
        if (step.transform) {
          x = step.transform(x);
        }
        if (request.until != nullptr && step.weight.get() == request.until) {
          return x;
        }
        y = torch::linear(step.rows == nullptr ? x : step.rows->forward(x), step.weight->used(), step.bias);
        break;
    }
    values[i + 1] = step.quantizer == nullptr ? y : step.quantizer->forward(y);
  }
  if (request.kept != nullptr) {
    request.kept->clear();
    for (const std::size_t value : request.values) {
      request.kept->push_back(values[value]);
    }
  }
  return values[output_].contiguous();
}

const Model::Layer* Model::find_layer(const std::string& node) const {
  const auto found = layers_.find(node);
  return found == layers_.end() ? nullptr : found->second.get();
}

std::vector<std::string> Model::weight_names() const {
  std::vector<std::string> names;
  for (const auto& pipeline : weights_) {
    names.push_back(pipeline->fqn());
  }
  return names;
}

WeightPipeline& Model::weight(const std::string& tensor_fqn) const {
  for (const auto& pipeline : weights_) {
    if (pipeline->fqn() == tensor_fqn) {
      return *pipeline;
    }
  }
  throw Error(ErrorCategory::kNotFound, str_cat("there is no weight '", tensor_fqn, "'"),
              str_cat("model '", graph_.name, "'"), did_you_mean(tensor_fqn, weight_names()));
}

std::vector<std::shared_ptr<WeightPipeline>> Model::weights_matching(const std::string& pattern) const {
  std::vector<std::shared_ptr<WeightPipeline>> matching;
  for (const auto& pipeline : weights_) {
    if (pipeline->fqn() == pattern || glob_match(pattern, pipeline->fqn())) {
      matching.push_back(pipeline);
    }
  }
  if (matching.empty()) {
    throw Error(ErrorCategory::kNotFound, str_cat("no weight matches '", pattern, "'"),
                str_cat("model '", graph_.name, "'"), did_you_mean(pattern, weight_names()));
  }
  return matching;
}

torch::Tensor Model::bias(const std::string& node) const {
  const Layer* const layer = find_layer(node);
  if (layer == nullptr) {
    std::vector<std::string> known;
    for (const auto& entry : layers_) {
      known.push_back(entry.first);
    }
    throw Error(ErrorCategory::kNotFound, str_cat("there is no node '", node, "'"),
                str_cat("model '", graph_.name, "'"), did_you_mean(node, known));
  }
  return layer->tensor("bias");
}

void Model::set_mask(const std::string& tensor_fqn, const torch::Tensor& mask) { weight(tensor_fqn).set_mask(mask); }

void Model::clear_mask(const std::string& tensor_fqn) { weight(tensor_fqn).clear_mask(); }

void Model::set_weight_quantizer(const std::string& tensor_fqn, std::shared_ptr<FakeQuantizer> quantizer) {
  WeightPipeline& pipeline = weight(tensor_fqn);
  if (quantizer != nullptr) {
    quantizer->to(device_);
  }
  pipeline.set_fake_quantizer(std::move(quantizer));
}

void Model::require_gemm(const std::string& node) const {
  if (graph_.node(node).op_type != "Gemm") {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("'", node, "' reads no rows"),
                str_cat("model '", graph_.name, "'"), "only a Gemm does");
  }
}

void Model::set_row_transform(const std::string& node, RowTransform transform) {
  require_gemm(node);
  if (transform && qat_state() != QatState::kNone) {
    throw Error(ErrorCategory::kState, "rows cannot be transformed under quantizers", str_cat("node '", node, "'"),
                "transform them in training before QAT is prepared");
  }
  layers_.at(node)->transform = std::move(transform);
  plan_steps();
}

std::vector<std::string> Model::row_transforms() const {
  std::vector<std::string> nodes;
  for (const graph::Node& node : graph_.nodes) {
    if (layers_.at(node.name)->transform) {
      nodes.push_back(node.name);
    }
  }
  return nodes;
}

void Model::set_row_quantizer(const std::string& node, std::shared_ptr<RowQuantizer> quantizer) {
  require_gemm(node);
  if (quantizer != nullptr) {
    quantizer->to(device_);
    quantizer->train(is_training());
    row_quantizers_[node] = quantizer;
  } else {
    row_quantizers_.erase(node);
  }
  layers_.at(node)->rows = std::move(quantizer);
  register_layer(node);
  plan_steps();
}

void Model::set_activation_quantizer(const std::string& value, std::shared_ptr<FakeQuantizer> quantizer) {
  const graph::Node* const producer = graph_.producer_of(value);
  if (producer == nullptr && value != graph_.input) {
    std::vector<std::string> known = {graph_.input};
    for (const graph::Node& node : graph_.nodes) {
      known.push_back(node.output);
    }
    throw Error(ErrorCategory::kNotFound, str_cat("there is no value '", value, "'"),
                str_cat("model '", graph_.name, "'"), did_you_mean(value, known));
  }
  if (quantizer != nullptr) {
    quantizer->to(device_);
    quantizer->train(is_training());
    activation_quantizers_[value] = quantizer;
  } else {
    activation_quantizers_.erase(value);
  }
  if (producer != nullptr) {
    layers_.at(producer->name)->activation = quantizer;
    register_layer(producer->name);
    plan_steps();
    return;
  }
  if (named_children().contains(kInputQuantizer)) {
    unregister_module(kInputQuantizer);
  }
  if (quantizer != nullptr) {
    register_module(kInputQuantizer, quantizer);
  }
}

}  // namespace pare::train
