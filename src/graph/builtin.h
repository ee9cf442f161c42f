// The networks that pare ships.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/graph/graph.h"

namespace pare::graph {

// "convnet", "mlp", "small_cnn", "resnet20", "resnet18".
[[nodiscard]] std::vector<std::string> builtin_names();

// Input [batch, channels, height, width] float32, output logits [batch, classes].
//   convnet  conv1 (32, 3x3, pad 1) bn1 relu1 pool1 (2x2)  conv2 (64, 3x3, pad 1) bn2 relu2 pool2 (2x2)  flatten
//            fc1 (256) relu3  fc2
//   mlp      flatten  fc1 (512) relu1  fc2 (512) relu2  fc3
//   small_cnn  conv1 (32, 3x3, pad 1) bn1 relu1  conv2 (64) bn2 relu2 pool2 (2x2)  conv3 (128) bn3 relu3 pool3 (2x2)
//            conv4 (128) bn4 relu4  average (all pixels) flatten  fc
//   resnet20 conv1 (16, 3x3, pad 1) bn1 relu1, then layer1 to layer3 of three basic blocks each (16, 32, 64; layers 2
//   and
//            3 begin with stride 2), average flatten fc: the same paper, section 4.2
//   resnet18 conv1 (64, 3x3, pad 1) bn1 relu1, then layer1 to layer4 of two basic blocks each (64, 128, 256, 512;
//   layers
//            2 to 4 begin with stride 2), average flatten fc: He et al., arXiv 1512.03385, with the stem for 32 x 32
//            images. A block "layer2.0" is conv1 bn1 relu1 conv2 bn2, "downsample.0" and ".1" (1x1 convolution and
//            batch norm) where the shape changes, add, relu2: torchvision's names.
// Nodes carry those names; initializers are "conv1.weight", "bn1.running_mean" and so on. Weights and biases are drawn
// uniformly from +-1/sqrt(fan_in), as torch.nn.Conv2d and Linear do, from Rng(seed, layer).
// Throws kInvalidArgument for an unknown name (with the nearest) or for an input too small for the network.
[[nodiscard]] Graph builtin(const std::string& name, std::uint64_t seed = 0, std::int64_t channels = 1,
                            std::int64_t height = 28, std::int64_t width = 28, std::int64_t classes = 10);

struct EncoderOptions {
  std::int64_t layers = 4;
  std::int64_t length = 128;  // of a sequence
  std::int64_t features = 512;
  std::int64_t hidden = 2048;  // features between the two linear layers
  std::int64_t heads = 8;
};

// A transformer encoder without embedding and masks, for benchmarks of the runtime; it cannot be trained, and no recipe
// names it. Input [batch, length, features] float32, output "logits" of the same shape. Layer i is
//   layer<i>.attention.query, .key, .value  Gemm      layer<i>.attention  Attention
//   layer<i>.attention.output  Gemm, .add  Add to the layer's input, .norm  LayerNormalization
//   layer<i>.intermediate  Gemm    layer<i>.gelu  Gelu    layer<i>.output  Gemm
//   layer<i>.add  Add to what .attention.norm gave    layer<i>.norm  LayerNormalization
// Weights are drawn as above; those of a LayerNormalization are 1, its biases 0. Throws kInvalidArgument for options
// that no encoder has.
[[nodiscard]] Graph encoder(std::uint64_t seed, const EncoderOptions& options = {});

}  // namespace pare::graph
