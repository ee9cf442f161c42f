// A float graph, executed one number after the other in double. Test-only.
//
// Every sum adds its terms in ascending order, so that it does not depend on the order of channels: a permuted network
// gives equal bits, and a term that is 0 changes none. What tests show with it holds for any order of summation up to
// rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/channels/channel_sets.h"
#include "pare/graph/graph.h"

namespace pare::channels::testing {

class FloatReference {
 public:
  explicit FloatReference(const graph::Graph& graph) : graph_(graph) {}

  // From now on the channels of the set are 0 in every value that runs along it.
  void silence(const ChannelSet& set, const std::vector<std::int64_t>& channels) {
    for (const std::string& value : set.values) {
      const std::int64_t multiplicity = graph_.values.at(value).shape[1] / set.channels;
      for (const std::int64_t channel : channels) {
        for (std::int64_t i = 0; i < multiplicity; ++i) silent_[value].push_back(channel * multiplicity + i);
      }
    }
  }

  // The output for one image.
  [[nodiscard]] std::vector<double> run(const std::vector<double>& image) {
    values_.clear();
    set(graph_.input, image);
    for (const graph::Node& node : graph_.nodes) {
      std::vector<double> y;
      if (node.op_type == "Conv") {
        y = conv(node);
      } else if (node.op_type == "Gemm") {
        y = gemm(node);
      } else if (node.op_type == "BatchNormalization") {
        y = batch_norm(node);
      } else if (node.op_type == "MaxPool") {
        y = max_pool(node);
      } else if (node.op_type == "GlobalAveragePool") {
        y = average(node);
      } else {
        y = x_of(node);
        PARE_CHECK(node.op_type == "Relu" || node.op_type == "Add" || node.op_type == "Flatten");
        for (std::size_t i = 0; i < y.size(); ++i) {
          if (node.op_type == "Relu") y[i] = std::max(y[i], 0.0);
          if (node.op_type == "Add") y[i] += values_.at(node.inputs[1])[i];
        }
      }
      set(node.output, std::move(y));
    }
    return values_.at(graph_.output);
  }

 private:
  void set(const std::string& name, std::vector<double> value) {
    const Shape& shape = graph_.values.at(name).shape;
    const auto pixels = static_cast<std::int64_t>(value.size()) / shape[1];
    for (const std::int64_t entry : silent_[name]) std::fill_n(value.begin() + entry * pixels, pixels, 0.0);
    values_[name] = std::move(value);
  }

  const std::vector<double>& x_of(const graph::Node& node) const { return values_.at(node.inputs[0]); }
  const Shape& shape_of(const std::string& value) const { return graph_.values.at(value).shape; }

  float constant(const graph::Node& node, std::size_t input, std::int64_t index, float fallback = 0.0F) const {
    if (input >= node.inputs.size()) return fallback;
    return graph_.initializer(node.inputs[input]).data.as<float>()[static_cast<std::size_t>(index)];
  }

  static double ordered_sum(std::vector<double>& terms) {
    std::sort(terms.begin(), terms.end());
    double sum = 0.0;
    for (const double term : terms) sum += term;
    return sum;
  }

  // Calls visit(input index within the channel, tap) for what the window at (row, column) covers.
  template <typename Visit>
  static void for_window(const graph::Window& window, const Shape& x, std::int64_t row, std::int64_t column,
                         Visit&& visit) {
    for (std::int64_t tap = 0; tap < window.kernel_h * window.kernel_w; ++tap) {
      const std::int64_t r = row * window.stride_h - window.pad_top + tap / window.kernel_w * window.dilation_h;
      const std::int64_t c = column * window.stride_w - window.pad_left + tap % window.kernel_w * window.dilation_w;
      if (r >= 0 && r < x[2] && c >= 0 && c < x[3]) visit(r * x[3] + c, tap);
    }
  }

  std::vector<double> conv(const graph::Node& node) const {
    const graph::Window window = graph::window_of(graph_, node);
    const Shape& x = shape_of(node.inputs[0]);
    const Shape& shape = shape_of(node.output);
    const std::vector<double>& from = x_of(node);
    const std::int64_t taps = window.kernel_h * window.kernel_w;
    const std::int64_t inputs = graph_.initializer(node.inputs[1]).shape[1];
    std::vector<double> y;
    std::vector<double> terms;
    for (std::int64_t o = 0; o < shape[1]; ++o) {
      for (std::int64_t pixel = 0; pixel < shape[2] * shape[3]; ++pixel) {
        terms.clear();
        for_window(window, x, pixel / shape[3], pixel % shape[3], [&](std::int64_t at, std::int64_t tap) {
          for (std::int64_t i = 0; i < inputs; ++i) {
            const std::int64_t channel = node.is_depthwise() ? o : i;
            terms.push_back(constant(node, 1, (o * inputs + i) * taps + tap) *
                            from[static_cast<std::size_t>(channel * x[2] * x[3] + at)]);
          }
        });
        y.push_back(ordered_sum(terms) + constant(node, 2, o));
      }
    }
    return y;
  }

  std::vector<double> gemm(const graph::Node& node) const {
    const Shape& weight = graph_.initializer(node.inputs[1]).shape;
    std::vector<double> y;
    std::vector<double> terms(static_cast<std::size_t>(weight[1]));
    for (std::int64_t n = 0; n < weight[0]; ++n) {
      for (std::size_t k = 0; k < terms.size(); ++k) {
        terms[k] = constant(node, 1, n * weight[1] + static_cast<std::int64_t>(k)) * x_of(node)[k];
      }
      y.push_back(ordered_sum(terms) + constant(node, 2, n));
    }
    return y;
  }

  std::vector<double> batch_norm(const graph::Node& node) const {
    std::vector<double> y = x_of(node);
    const auto channels = shape_of(node.output)[1];
    const std::size_t pixels = y.size() / static_cast<std::size_t>(channels);
    const double epsilon = node.float_attribute("epsilon", 1e-5F);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto channel = static_cast<std::int64_t>(i / pixels);
      y[i] = (y[i] - constant(node, 3, channel)) / std::sqrt(constant(node, 4, channel) + epsilon) *
                 constant(node, 1, channel) +
             constant(node, 2, channel);
    }
    return y;
  }

  std::vector<double> max_pool(const graph::Node& node) const {
    const graph::Window window = graph::window_of(graph_, node);
    const Shape& x = shape_of(node.inputs[0]);
    const Shape& shape = shape_of(node.output);
    std::vector<double> y;
    for (std::int64_t channel = 0; channel < shape[1]; ++channel) {
      for (std::int64_t pixel = 0; pixel < shape[2] * shape[3]; ++pixel) {
        double largest = -std::numeric_limits<double>::infinity();
        for_window(window, x, pixel / shape[3], pixel % shape[3], [&](std::int64_t at, std::int64_t) {
          largest = std::max(largest, x_of(node)[static_cast<std::size_t>(channel * x[2] * x[3] + at)]);
        });
        y.push_back(largest);
      }
    }
    return y;
  }

  std::vector<double> average(const graph::Node& node) const {
    const Shape& x = shape_of(node.inputs[0]);
    const auto pixels = static_cast<std::ptrdiff_t>(x[2] * x[3]);
    std::vector<double> y;
    for (auto from = x_of(node).begin(); from != x_of(node).end(); from += pixels) {
      std::vector<double> terms(from, from + pixels);
      y.push_back(ordered_sum(terms) / static_cast<double>(pixels));
    }
    return y;
  }

  const graph::Graph& graph_;
  std::map<std::string, std::vector<double>> values_;
  std::map<std::string, std::vector<std::int64_t>> silent_;  // entries of axis 1, by value
};

// Normal numbers for the graph's input.
[[nodiscard]] inline std::vector<double> random_image(const graph::Graph& graph, std::uint64_t seed) {
  Rng rng(seed, 0x1A6E);
  const Shape& shape = graph.values.at(graph.input).shape;
  std::vector<double> image(static_cast<std::size_t>(element_count({shape.begin() + 1, shape.end()})));
  for (double& x : image) x = rng.normal();
  return image;
}

// Batch norms as if they had been trained: a network fresh from the builder has the same numbers in every channel.
inline void randomize_batch_norms(graph::Graph& graph, std::uint64_t seed) {
  Rng rng(seed, 0xB4);
  for (const graph::Node& node : graph.nodes) {
    if (node.op_type != "BatchNormalization") continue;
    for (std::size_t input = 1; input < node.inputs.size(); ++input) {
      graph::Initializer& item = graph.initializers.at(node.inputs[input]);
      std::vector<float> values(static_cast<std::size_t>(element_count(item.shape)));
      for (float& value : values) value = input == 4 ? 0.05F + 3.0F * rng.uniform() : rng.normal();
      item = graph::Initializer::f32(item.shape, values);
    }
  }
}

// What silence() takes where `kept` (ascending) are to stay.
[[nodiscard]] inline std::vector<std::int64_t> others(const std::vector<std::int64_t>& kept, std::int64_t channels) {
  std::vector<std::int64_t> gone;
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    if (!std::ranges::binary_search(kept, channel)) gone.push_back(channel);
  }
  return gone;
}

}  // namespace pare::channels::testing
