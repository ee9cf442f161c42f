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
    graph_.values["input"] = Value{.dtype = DType::kF32, .shape = std::move(input_shape), .quantization = {}};
  }

  // 3x3, padding 1, so that height and width stay.
  void conv(const std::string& name, std::int64_t in_channels, std::int64_t out_channels) {
    draw(name, {out_channels, in_channels, 3, 3}, in_channels * 9);
    append({.name = name,
            .op_type = "Conv",
            .inputs = {value_, name + ".weight", name + ".bias"},
            .output = {},
            .attributes = {{"kernel_shape", ints({3, 3})}, {"pads", ints({1, 1, 1, 1})}, {"strides", ints({1, 1})}}});
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

  Graph finish() {
    graph_.nodes.back().output = "logits";
    graph_.output = "logits";
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
  std::string value_;  // output of the last node
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

struct Builtin {
  const char* name;
  std::int64_t min_extent;  // two 2x2 pools leave nothing of less than 4 pixels
  Graph (*make)(std::uint64_t seed, const Shape& input_shape, std::int64_t classes);
};
constexpr Builtin kBuiltins[] = {{"convnet", 4, convnet}, {"mlp", 1, mlp}};

// Far above any data set; keeps the first layer's weights within memory.
constexpr std::int64_t kMaxInputExtent = 4096;
constexpr std::int64_t kMaxInputElems = std::int64_t{1} << 20;
constexpr std::int64_t kMaxClasses = 1 << 16;

}  // namespace

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
