#include "pare/graph/builtin.h"

#include <cmath>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"

namespace pare::graph {
namespace {

// Appends layers one after the other and draws their weights. Layer i of those with weights draws from Rng(seed, i),
// first its weight, then its bias.
class Builder {
 public:
  Builder(std::string name, std::uint64_t seed, Shape input_shape) : seed_(seed), value_("input") {
    graph_.name = std::move(name);
    graph_.input = value_;
    graph_.output = "logits";
    graph_.values["input"] = Value{.dtype = DType::kF32, .shape = std::move(input_shape), .quantization = {}};
  }

  // Kernel 3 or 1, padded so that with stride 1 height and width stay.
  void conv(const std::string& name, std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel = 3,
            std::int64_t stride = 1) {
    const std::int64_t pad = kernel / 2;
    draw(name, {out_channels, in_channels, kernel, kernel}, in_channels * kernel * kernel);
    append({.name = name,
            .op_type = "Conv",
            .inputs = {value_, name + ".weight", name + ".bias"},
            .output = {},
            .attributes = {{"kernel_shape", ints({kernel, kernel})},
                           {"pads", ints({pad, pad, pad, pad})},
                           {"strides", ints({stride, stride})}}});
  }

  void batch_norm(const std::string& name, std::int64_t channels) {
    const auto elems = static_cast<std::size_t>(channels);
    const std::vector<float> ones(elems, 1.0F);
    const std::vector<float> zeros(elems, 0.0F);
    graph_.initializers[name + ".weight"] = Initializer::f32({channels}, ones);
    graph_.initializers[name + ".bias"] = Initializer::f32({channels}, zeros);
    graph_.initializers[name + ".running_mean"] = Initializer::f32({channels}, zeros);
    graph_.initializers[name + ".running_var"] = Initializer::f32({channels}, ones);
    append({.name = name,
            .op_type = "BatchNormalization",
            .inputs = {value_, name + ".weight", name + ".bias", name + ".running_mean", name + ".running_var"},
            .output = {},
            .attributes = {{"epsilon", 1e-5F}, {"momentum", 0.9F}}});
  }

  void relu(const std::string& name) {
    append({.name = name, .op_type = "Relu", .inputs = {value_}, .output = {}, .attributes = {}});
  }

  void pool(const std::string& name) {
    append({.name = name,
            .op_type = "MaxPool",
            .inputs = {value_},
            .output = {},
            .attributes = {{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}}});
  }

  void global_average(const std::string& name) {
    append({.name = name, .op_type = "GlobalAveragePool", .inputs = {value_}, .output = {}, .attributes = {}});
  }

  // Of the last node's output and another value.
  void add(const std::string& name, const std::string& other) {
    append({.name = name, .op_type = "Add", .inputs = {value_, other}, .output = {}, .attributes = {}});
  }

  // The value that the next node reads.
  [[nodiscard]] const std::string& value() const { return value_; }
  void continue_from(std::string value) { value_ = std::move(value); }

  void flatten(const std::string& name) {
    append({.name = name,
            .op_type = "Flatten",
            .inputs = {value_},
            .output = {},
            .attributes = {{"axis", std::int64_t{1}}}});
  }

  void linear(const std::string& name, std::int64_t in_features, std::int64_t out_features) {
    draw(name, {out_features, in_features}, in_features);
    append({.name = name,
            .op_type = "Gemm",
            .inputs = {value_, name + ".weight", name + ".bias"},
            .output = {},
            .attributes = {{"transB", std::int64_t{1}}}});
  }

  void append_named(const std::string& name, const std::string& op_type, std::vector<std::string> inputs,
                    std::map<std::string, Attribute> attributes) {
    append({.name = name,
            .op_type = op_type,
            .inputs = std::move(inputs),
            .output = {},
            .attributes = std::move(attributes)});
  }

  void layer_norm(const std::string& name, std::int64_t features) {
    const auto elems = static_cast<std::size_t>(features);
    graph_.initializers[name + ".weight"] = Initializer::f32({features}, std::vector<float>(elems, 1.0F));
    graph_.initializers[name + ".bias"] = Initializer::f32({features}, std::vector<float>(elems, 0.0F));
    append_named(name, "LayerNormalization", {value_, name + ".weight", name + ".bias"},
                 {{"axis", std::int64_t{-1}}, {"epsilon", 1e-5F}});
  }

  Graph finish() {
    graph_.nodes.back().output = graph_.output;
    infer_shapes(graph_);
    return std::move(graph_);
  }

 private:
  static std::vector<std::int64_t> ints(std::vector<std::int64_t> values) { return values; }

  void append(Node node) {
    value_ = node.name + ".out";
    node.output = value_;
    graph_.nodes.push_back(std::move(node));
  }

  void draw(const std::string& name, const Shape& weight_shape, std::int64_t fan_in) {
    Rng rng(seed_, layer_++);
    const auto bound = static_cast<float>(1.0 / std::sqrt(static_cast<double>(fan_in)));
    for (const auto& [suffix, shape] :
         {std::pair{".weight", weight_shape}, std::pair{".bias", Shape{weight_shape[0]}}}) {
      std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
      for (float& value : values) {
        value = (2.0F * rng.uniform() - 1.0F) * bound;
      }
      graph_.initializers[name + suffix] = Initializer::f32(shape, values);
    }
  }

  Graph graph_;
  std::uint64_t seed_;
  std::uint64_t layer_ = 0;
  std::string value_;  // what the next node reads: the last one's output, unless told otherwise
};

Graph convnet(std::uint64_t seed, const Shape& input_shape, std::int64_t classes) {
  Builder net("convnet", seed, input_shape);
  net.conv("conv1", input_shape[1], 32);
  net.batch_norm("bn1", 32);
  net.relu("relu1");
  net.pool("pool1");
  net.conv("conv2", 32, 64);
  net.batch_norm("bn2", 64);
  net.relu("relu2");
  net.pool("pool2");
  net.flatten("flatten");
  net.linear("fc1", 64 * (input_shape[2] / 4) * (input_shape[3] / 4), 256);
  net.relu("relu3");
  net.linear("fc2", 256, classes);
  return net.finish();
}

Graph mlp(std::uint64_t seed, const Shape& input_shape, std::int64_t classes) {
  Builder net("mlp", seed, input_shape);
  net.flatten("flatten");
  net.linear("fc1", input_shape[1] * input_shape[2] * input_shape[3], 512);
  net.relu("relu1");
  net.linear("fc2", 512, 512);
  net.relu("relu2");
  net.linear("fc3", 512, classes);
  return net.finish();
}

// Convolution, batch norm and Relu called "conv1", "bn1", "relu1".
void conv_relu(Builder& net, const std::string& number, std::int64_t in_channels, std::int64_t out_channels) {
  net.conv("conv" + number, in_channels, out_channels);
  net.batch_norm("bn" + number, out_channels);
  net.relu("relu" + number);
}

void average_and_classify(Builder& net, std::int64_t channels, std::int64_t classes) {
  net.global_average("average");
  net.flatten("flatten");
  net.linear("fc", channels, classes);
}

Graph small_cnn(std::uint64_t seed, const Shape& input_shape, std::int64_t classes) {
  Builder net("small_cnn", seed, input_shape);
  conv_relu(net, "1", input_shape[1], 32);
  conv_relu(net, "2", 32, 64);
  net.pool("pool2");
  conv_relu(net, "3", 64, 128);
  net.pool("pool3");
  conv_relu(net, "4", 128, 128);
  average_and_classify(net, 128, classes);
  return net.finish();
}

// relu(conv2(relu(conv1(x))) + x); where the shape changes, x goes through a 1x1 convolution.
void basic_block(Builder& net, const std::string& name, std::int64_t in_channels, std::int64_t out_channels,
                 std::int64_t stride) {
  const std::string input = net.value();
  std::string skip = input;
  if (stride != 1 || in_channels != out_channels) {
    net.conv(name + ".downsample.0", in_channels, out_channels, 1, stride);
    net.batch_norm(name + ".downsample.1", out_channels);
    skip = net.value();
    net.continue_from(input);
  }
  net.conv(name + ".conv1", in_channels, out_channels, 3, stride);
  net.batch_norm(name + ".bn1", out_channels);
  net.relu(name + ".relu1");
  net.conv(name + ".conv2", out_channels, out_channels);
  net.batch_norm(name + ".bn2", out_channels);
  net.add(name + ".add", skip);
  net.relu(name + ".relu2");
}

// He et al., arXiv 1512.03385, section 4.2: three stages of three blocks, for images of about 32 x 32.
Graph resnet20(std::uint64_t seed, const Shape& input_shape, std::int64_t classes) {
  Builder net("resnet20", seed, input_shape);
  conv_relu(net, "1", input_shape[1], 16);
  std::int64_t channels = 16;
  for (int layer = 1; layer <= 3; ++layer) {
    const std::int64_t out_channels = std::int64_t{8} << layer;
    for (int block = 0; block < 3; ++block) {
      basic_block(net, str_cat("layer", layer, ".", block), channels, out_channels, layer > 1 && block == 0 ? 2 : 1);
      channels = out_channels;
    }
  }
  average_and_classify(net, channels, classes);
  return net.finish();
}

Graph resnet18(std::uint64_t seed, const Shape& input_shape, std::int64_t classes) {
  Builder net("resnet18", seed, input_shape);
  conv_relu(net, "1", input_shape[1], 64);
  std::int64_t channels = 64;
  for (int layer = 1; layer <= 4; ++layer) {
    const std::int64_t out_channels = std::int64_t{32} << layer;
    for (int block = 0; block < 2; ++block) {
      basic_block(net, str_cat("layer", layer, ".", block), channels, out_channels, layer > 1 && block == 0 ? 2 : 1);
      channels = out_channels;
    }
  }
  average_and_classify(net, channels, classes);
  return net.finish();
}

// Post-norm, as in Vaswani et al., arXiv 1706.03762, with BERT's Gelu.
void encoder_layer(Builder& net, const std::string& layer, const EncoderOptions& options) {
  const std::string input = net.value();
  std::vector<std::string> projected;
  for (const char* name : {"query", "key", "value"}) {
    net.continue_from(input);
    net.linear(str_cat(layer, ".attention.", name), options.features, options.features);
    projected.push_back(net.value());
  }
  net.append_named(layer + ".attention", "Attention", projected,
                   {{"q_num_heads", options.heads}, {"kv_num_heads", options.heads}});
  net.linear(layer + ".attention.output", options.features, options.features);
  net.add(layer + ".attention.add", input);
  net.layer_norm(layer + ".attention.norm", options.features);
  const std::string middle = net.value();
  net.linear(layer + ".intermediate", options.features, options.hidden);
  net.append_named(layer + ".gelu", "Gelu", {net.value()}, {});
  net.linear(layer + ".output", options.hidden, options.features);
  net.add(layer + ".add", middle);
  net.layer_norm(layer + ".norm", options.features);
}

struct Builtin {
  const char* name;
  std::int64_t min_extent;  // two 2x2 pools leave nothing of less than 4 pixels
  Graph (*make)(std::uint64_t seed, const Shape& input_shape, std::int64_t classes);
};
constexpr Builtin kBuiltins[] = {{"convnet", 4, convnet},
                                 {"mlp", 1, mlp},
                                 {"small_cnn", 4, small_cnn},
                                 {"resnet20", 1, resnet20},
                                 {"resnet18", 1, resnet18}};

// Far above any data set; keeps the first layer's weights within memory.
constexpr std::int64_t kMaxInputExtent = 4096;
constexpr std::int64_t kMaxInputElems = std::int64_t{1} << 20;
constexpr std::int64_t kMaxClasses = 1 << 16;

}  // namespace

Graph encoder(std::uint64_t seed, const EncoderOptions& options) {
  const auto& [layers, length, features, hidden, heads] = options;
  constexpr std::int64_t kMost = 1 << 16;
  for (const std::int64_t extent : {layers, length, features, hidden, heads}) {
    if (extent < 1 || extent > kMost || features % heads != 0) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("an encoder of ", layers, " layers, length ", length, ", ", features, " features, ", hidden,
                          " hidden ones and ", heads, " heads"),
                  "EncoderOptions", str_cat("each must lie in 1 to ", kMost, ", and the heads divide the features"));
    }
  }
  Builder net("encoder", seed, {kBatch, length, features});
  for (std::int64_t layer = 0; layer < layers; ++layer) encoder_layer(net, str_cat("layer", layer), options);
  return net.finish();
}

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  for (const Builtin& entry : kBuiltins) {
    names.emplace_back(entry.name);
  }
  return names;
}

Graph builtin(const std::string& name, std::uint64_t seed, std::int64_t channels, std::int64_t height,
              std::int64_t width, std::int64_t classes) {
  for (const Builtin& entry : kBuiltins) {
    if (name != entry.name) {
      continue;
    }
    const std::string where = str_cat("built-in network '", name, "'");
    const auto within = [](std::int64_t value, std::int64_t low, std::int64_t high) {
      return value >= low && value <= high;
    };
    const bool extents_fit = within(channels, 1, kMaxInputExtent) &&
                             within(height, entry.min_extent, kMaxInputExtent) &&
                             within(width, entry.min_extent, kMaxInputExtent);
    if (!extents_fit || channels * height * width > kMaxInputElems) {
      throw Error(
          ErrorCategory::kInvalidArgument,
          str_cat("cannot take images of ", channels, " x ", height, " x ", width, " (channels, height, width)"), where,
          str_cat("height and width must be at least ", entry.min_extent,
                  ", channels at least 1, and an image at most ", kMaxInputElems, " numbers"));
    }
    if (!within(classes, 1, kMaxClasses)) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("cannot tell ", classes, " classes apart"), where,
                  str_cat("give 1 to ", kMaxClasses, " classes"));
    }
    return entry.make(seed, {kBatch, channels, height, width}, classes);
  }
  const std::vector<std::string> known = builtin_names();
  throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no built-in network '", name, "'"), {},
              did_you_mean(name, known));
}

}  // namespace pare::graph
