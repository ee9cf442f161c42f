// Small random integer graphs that are valid, for tests of everything that reads one. Test-only.
//
// Codes, scales and zero points are drawn so that outputs spread over the range instead of saturating: accumulators of
// a product of k random codes have a standard deviation near 74 * 73 * sqrt(k), and the output scale follows that.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/rng.h"
#include "pare/graph/artifact.h"
#include "pare/graph/graph.h"
#include "pare/graph/weights.h"

namespace pare::graph::testing {

struct ConvOptions {
  std::int64_t channels = 8;
  std::vector<std::int64_t> kernel{3, 3};
  std::vector<std::int64_t> strides{1, 1};
  std::vector<std::int64_t> dilations{1, 1};
  std::vector<std::int64_t> pads{1, 1, 1, 1};  // top, left, bottom, right
  bool relu = true;
  std::int64_t pool = 2;  // 1: no MaxPool behind it
  // The convolution's input is added to its output, through a 1 x 1 convolution where the shapes differ; the Relu
  // follows the sum. Needs the default kernel, dilations and pads.
  bool residual = false;
  // One filter a channel; `channels` must be those of its input.
  bool depthwise = false;
};

struct LinearOptions {
  std::int64_t features = 16;
  bool relu = true;
};

struct GraphOptions {
  std::string name = "random";
  Shape image{1, 12, 12};  // channels, height, width
  std::vector<ConvOptions> convs;
  std::vector<LinearOptions> hidden;
  std::int64_t classes = 10;
  bool global_average = false;  // QLinearGlobalAveragePool before Flatten
  bool two_four = false;        // encoding of every weight but the first convolution's when the image has one channel
  std::optional<format::VnmPattern> vnm;      // the same, instead of 2:4
  std::optional<format::BlockPattern> block;  // the same, a fifth of them kept
};

namespace internal {

class RandomGraphBuilder {
 public:
  RandomGraphBuilder(std::uint64_t seed, GraphOptions options) : rng_(seed, 0x6AF), options_(std::move(options)) {}

  Graph build() {
    Shape image = options_.image;
    image.insert(image.begin(), kBatch);
    graph_.name = options_.name;
    graph_.input = "input";
    graph_.values["input"] = {.dtype = DType::kF32, .shape = image, .quantization = {}};
    scale_ = 0.02F;
    append("quantize_input", "QuantizeLinear", {"input"}, {}, random_codes(scale_));
    extents_ = options_.image;
    for (std::size_t i = 0; i < options_.convs.size(); ++i) {
      const ConvOptions& conv = options_.convs[i];
      const std::string number = std::to_string(i + 1);
      const Skip skip{value_, scale_, extents_};
      std::map<std::string, Attribute> attributes{
          {"strides", conv.strides}, {"dilations", conv.dilations}, {"pads", conv.pads}};
      if (conv.depthwise) {
        attributes["group"] = conv.channels;
      }
      weighted("conv" + number, "QLinearConv",
               {conv.channels, conv.depthwise ? 1 : extents_[0], conv.kernel[0], conv.kernel[1]},
               conv.relu && !conv.residual, false, std::move(attributes));
      slide(conv.channels);
      if (conv.residual) {
        add(number, conv, skip);
      }
      if (conv.pool > 1) {
        const std::vector<std::int64_t> window{conv.pool, conv.pool};
        append("pool" + number, "MaxPool", {value_}, {{"kernel_shape", window}, {"strides", window}},
               graph_.values.at(value_).quantization);
        slide(conv.channels);
      }
    }
    if (options_.global_average) {
      append("average", "QLinearGlobalAveragePool", {value_}, {}, random_codes(scale_ /= 2.0F));
      extents_ = {extents_[0], 1, 1};
    }
    append("flatten", "Flatten", {value_}, {}, graph_.values.at(value_).quantization);
    std::int64_t features = element_count(extents_);
    for (std::size_t i = 0; i <= options_.hidden.size(); ++i) {
      const bool last = i == options_.hidden.size();
      const std::int64_t out = last ? options_.classes : options_.hidden[i].features;
      weighted("fc" + std::to_string(i + 1), "QGemm", {out, features}, !last && options_.hidden[i].relu, last,
               {{"transB", std::int64_t{1}}});
      features = out;
    }
    graph_.nodes.back().output = graph_.output = "logits";
    graph_.values.erase(value_);
    infer_shapes(graph_);
    return std::move(graph_);
  }

 private:
  float between(float low, float high) { return low + (high - low) * rng_.uniform(); }

  Quantization random_codes(float scale) {
    return {.scales = {scale}, .zero_point = static_cast<std::int32_t>(rng_.below(256)), .axis = -1};
  }

  void append(const std::string& name, const std::string& op_type, std::vector<std::string> inputs,
              std::map<std::string, Attribute> attributes, std::optional<Quantization> quantization) {
    value_ = name + ".out";
    if (quantization.has_value()) {
      graph_.values[value_] = {.dtype = DType::kU8, .shape = {}, .quantization = std::move(quantization)};
    }
    graph_.nodes.push_back({.name = name,
                            .op_type = op_type,
                            .inputs = std::move(inputs),
                            .output = value_,
                            .attributes = std::move(attributes)});
  }

  // What a convolution's input was.
  struct Skip {
    std::string value;
    float scale;
    Shape extents;
  };

  // After a node with a window: height and width of what it wrote.
  void slide(std::int64_t channels) {
    const Window window = window_of(graph_, graph_.nodes.back());
    extents_ = {channels, window.output_height(extents_[1]), window.output_width(extents_[2])};
  }

  // Codes of either side spread over some 60 steps, so their sum does with a scale of the root of the squares.
  void add(const std::string& number, const ConvOptions& conv, const Skip& skip) {
    const std::string main_value = value_;
    const float main_scale = scale_;
    value_ = skip.value;
    scale_ = skip.scale;
    if (skip.extents != extents_) {
      weighted("skip" + number, "QLinearConv", {conv.channels, skip.extents[0], 1, 1}, false, false,
               {{"strides", conv.strides}});
    }
    const float scale = std::sqrt(main_scale * main_scale + scale_ * scale_);
    std::map<std::string, Attribute> attributes;
    if (conv.relu) {
      attributes["fused_activation"] = std::string("Relu");
    }
    append("add" + number, "QLinearAdd", {main_value, value_}, std::move(attributes), random_codes(scale));
    scale_ = scale;
  }

  // At most two codes of every four in group order, often fewer.
  void prune(std::vector<std::int8_t>& grouped, const format::TwoFourLayout& layout) {
    for (std::int64_t run = 0; run < layout.rows * layout.segments; ++run) {
      for (std::int64_t first = 0; first < layout.segment_elems; first += 4) {
        const std::int64_t group_elems = std::min<std::int64_t>(4, layout.segment_elems - first);
        std::vector<std::uint32_t> order(static_cast<std::size_t>(group_elems));
        for (std::size_t i = 0; i < order.size(); ++i) {
          order[i] = static_cast<std::uint32_t>(i);
        }
        rng_.shuffle(order);
        const std::size_t kept = rng_.below(8) == 0 ? rng_.below(2) : 2;
        for (std::size_t i = kept; i < order.size(); ++i) {
          grouped[static_cast<std::size_t>(run * layout.segment_elems + first) + order[i]] = 0;
        }
      }
    }
  }

  // At most n of every m codes of a block of rows, often fewer.
  void prune_vnm(std::vector<std::int8_t>& grouped, const format::VnmLayout& layout) {
    const format::VnmPattern& p = layout.pattern;
    for (std::int64_t block = 0; block < layout.blocks(); ++block) {
      for (std::int64_t group = 0; group < layout.groups_per_row(); ++group) {
        const std::int64_t first = group / layout.groups_per_segment() * layout.segment_elems;
        const std::int64_t begin = group % layout.groups_per_segment() * p.m;
        std::uint64_t kept = 0;
        for (std::int64_t i = 0; i < p.n; ++i) kept |= std::uint64_t{1} << rng_.below(static_cast<std::uint64_t>(p.m));
        for (std::int64_t i = begin; i < std::min(begin + p.m, layout.segment_elems); ++i) {
          if ((kept >> (i - begin) & 1) != 0) continue;
          for (std::int64_t row = block * p.v; row < std::min((block + 1) * p.v, layout.rows); ++row) {
            grouped[static_cast<std::size_t>(row * layout.row_elems() + first + i)] = 0;
          }
        }
      }
    }
  }

  // Drops four of five blocks.
  void prune_blocks(std::vector<std::int8_t>& grouped, const format::BlockLayout& layout) {
    format::BlockWeights all = format::encode_block(grouped, layout);
    const auto elems = static_cast<std::size_t>(layout.pattern.elems());
    for (std::size_t block = 0; block * elems < all.values.size(); ++block) {
      if (rng_.below(5) == 0) continue;
      std::fill_n(all.values.begin() + static_cast<std::ptrdiff_t>(block * elems), elems, std::int8_t{0});
    }
    grouped = format::decode_block(all.values, all.indices, layout);
  }

  void weighted(const std::string& name, const std::string& op_type, const Shape& shape, bool relu, bool is_last,
                std::map<std::string, Attribute> attributes) {
    const bool sparse = !(op_type == "QLinearConv" && shape[1] == 1);
    const bool two_four = options_.two_four && sparse;
    const bool vnm = options_.vnm.has_value() && sparse;
    std::vector<std::int8_t> codes(static_cast<std::size_t>(element_count(shape)));
    for (std::int8_t& code : codes) {
      code = static_cast<std::int8_t>(static_cast<std::int32_t>(rng_.below(255)) - 127);
    }
    if (two_four) {
      std::vector<std::int8_t> grouped = to_group_order(codes, shape);
      prune(grouped, two_four_layout(shape));
      codes = from_group_order(grouped, shape);
    }
    if (vnm) {
      std::vector<std::int8_t> grouped = to_group_order(codes, shape);
      prune_vnm(grouped, vnm_layout(shape, *options_.vnm));
      codes = from_group_order(grouped, shape);
    }
    const bool block = options_.block.has_value() && sparse;
    if (block) {
      std::vector<std::int8_t> grouped = to_group_order(codes, shape);
      prune_blocks(grouped, block_layout(shape, *options_.block));
      codes = from_group_order(grouped, shape);
    }
    const auto channels = static_cast<std::size_t>(shape[0]);
    const double reduction = static_cast<double>(codes.size()) / static_cast<double>(channels);
    const double kept = two_four ? 0.5
                        : vnm    ? static_cast<double>(options_.vnm->n) / static_cast<double>(options_.vnm->m)
                        : block  ? 0.2
                                 : 1.0;
    const double spread = 74.0 * 73.0 * std::sqrt(reduction * kept);
    std::vector<float> scales(channels);
    std::vector<std::int32_t> bias(channels);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      scales[channel] = between(0.002F, 0.006F);
      bias[channel] = static_cast<std::int32_t>(spread * between(-1.0F, 1.0F));
    }
    Initializer weight;
    weight.dtype = DType::kS8;
    weight.shape = shape;
    weight.data = Buffer::copy_of(codes);
    weight.quantization = Quantization{.scales = scales, .zero_point = 0, .axis = 0};
    graph_.initializers[name + ".weight"] = two_four ? encode_two_four(weight)
                                            : vnm    ? encode_vnm(weight, *options_.vnm)
                                            : block  ? encode_block(weight, *options_.block)
                                                     : weight;
    Initializer bias_item;
    bias_item.dtype = DType::kS32;
    bias_item.shape = {shape[0]};
    bias_item.data = Buffer::copy_of(bias);
    graph_.initializers[name + ".bias"] = bias_item;
    if (relu) {
      attributes["fused_activation"] = std::string("Relu");
    }
    std::optional<Quantization> quantization;
    if (!is_last) {
      const auto output_scale = static_cast<float>(static_cast<double>(scale_) * 0.004 * spread / 60.0);
      quantization = random_codes(output_scale);
      scale_ = output_scale;
    }
    append(name, op_type, {value_, name + ".weight", name + ".bias"}, std::move(attributes), std::move(quantization));
  }

  Rng rng_;
  GraphOptions options_;
  Graph graph_;
  std::string value_;
  float scale_ = 1.0F;  // of value_
  Shape extents_;       // of value_: channels, height, width
};

}  // namespace internal

[[nodiscard]] inline Graph random_integer_graph(std::uint64_t seed, GraphOptions options) {
  return internal::RandomGraphBuilder(seed, std::move(options)).build();
}

// The graph with preprocessing, class names and promises.
[[nodiscard]] inline Artifact random_artifact(std::uint64_t seed, const GraphOptions& options) {
  Artifact artifact;
  artifact.graph = random_integer_graph(seed, options);
  Rng rng(seed, 0xA27);
  for (std::int64_t channel = 0; channel < options.image[0]; ++channel) {
    artifact.preprocessing.mean.push_back(0.25F + 0.5F * rng.uniform());
    artifact.preprocessing.std.push_back(0.2F + 0.2F * rng.uniform());
  }
  for (std::int64_t i = 0; i < options.classes; ++i) {
    artifact.class_names.push_back("class " + std::to_string(i));
  }
  artifact.promises = derive_promises(artifact.graph);
  artifact.provenance["seed"] = std::to_string(seed);
  return artifact;
}

// conv-relu-pool twice, then two linear layers, on 1 x 12 x 12 images. Every row of a 2:4 weight has an even
// number of whole groups, so that it takes exactly 0.625 byte a weight.
[[nodiscard]] inline GraphOptions small_options(bool two_four) {
  GraphOptions options;
  options.convs = {{.channels = 8}, {.channels = 16}};
  options.hidden = {{.features = 16}};
  options.two_four = two_four;
  return options;
}
[[nodiscard]] inline Artifact small_artifact(std::uint64_t seed, bool two_four) {
  return random_artifact(seed, small_options(two_four));
}

// Nothing is a multiple of 4: channels 3, 5, 7, images 13 x 11, strides, dilation, uneven padding, a convolution
// without Relu, one without a pool behind it, tails in every 2:4 weight.
[[nodiscard]] inline GraphOptions odd_options(bool two_four) {
  GraphOptions options;
  options.name = "odd";
  options.image = {3, 13, 11};
  options.convs = {{.channels = 5, .strides = {2, 1}, .pads = {0, 1, 2, 0}, .relu = false, .pool = 1},
                   {.channels = 7, .kernel = {2, 3}, .dilations = {2, 1}, .pads = {1, 2, 0, 1}},
                   {.channels = 6, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .pool = 1}};
  options.hidden = {{.features = 13}, {.features = 9, .relu = false}};
  options.classes = 3;
  options.two_four = two_four;
  return options;
}
[[nodiscard]] inline Artifact odd_artifact(std::uint64_t seed, bool two_four) {
  return random_artifact(seed, odd_options(two_four));
}

// Residual sums, as ResNets have them: of a value that stays as it is, and of one that a 1 x 1 convolution brings to
// shape; then an average of all pixels.
[[nodiscard]] inline GraphOptions residual_options(bool two_four) {
  GraphOptions options;
  options.name = "residual";
  options.image = {3, 11, 9};
  options.convs = {{.channels = 8, .pool = 1},
                   {.channels = 8, .pool = 1, .residual = true},
                   {.channels = 20, .strides = {2, 2}, .pool = 1, .residual = true},
                   {.channels = 20, .relu = false, .pool = 2, .residual = true}};
  options.classes = 6;
  options.global_average = true;
  options.two_four = two_four;
  return options;
}
[[nodiscard]] inline Artifact residual_artifact(std::uint64_t seed, bool two_four) {
  return random_artifact(seed, residual_options(two_four));
}

// Depthwise and 1 x 1 convolutions in turn, as MobileNets have them, with strides, dilations and a residual sum.
[[nodiscard]] inline GraphOptions depthwise_options(bool two_four) {
  GraphOptions options;
  options.name = "depthwise";
  options.image = {3, 10, 11};
  options.convs = {
      {.channels = 12, .strides = {2, 2}, .pool = 1},
      {.channels = 12, .pool = 1, .residual = true, .depthwise = true},
      {.channels = 70, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .pool = 1},
      {.channels = 70, .kernel = {5, 3}, .dilations = {1, 2}, .pads = {2, 2, 2, 2}, .pool = 2, .depthwise = true}};
  options.classes = 5;
  options.global_average = true;
  options.two_four = two_four;
  return options;
}
[[nodiscard]] inline Artifact depthwise_artifact(std::uint64_t seed, bool two_four) {
  return random_artifact(seed, depthwise_options(two_four));
}

// Linear layers only: 1 x 5 x 6 images, 17 and 10 features.
[[nodiscard]] inline GraphOptions mlp_options(bool two_four) {
  GraphOptions options;
  options.name = "linear";
  options.image = {1, 5, 6};
  options.hidden = {{.features = 17}, {.features = 10}};
  options.classes = 4;
  options.two_four = two_four;
  return options;
}
[[nodiscard]] inline Artifact mlp_artifact(std::uint64_t seed, bool two_four) {
  return random_artifact(seed, mlp_options(two_four));
}

}  // namespace pare::graph::testing
