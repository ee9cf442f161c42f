#include "pare/pipeline/testing/tiny_run.h"

#include <algorithm>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/strings.h"

namespace pare::testing {
namespace {

constexpr int kSide = 8;
constexpr int kClasses = 4;

void put_big_endian(std::string& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    bytes += static_cast<char>((value >> static_cast<unsigned>(shift)) & 0xFFU);
  }
}

}  // namespace

void write_tiny_images(const std::filesystem::path& folder, const std::string& name, int count, std::uint64_t seed) {
  std::string images("\x00\x00\x08\x03", 4);
  put_big_endian(images, static_cast<std::uint32_t>(count));
  put_big_endian(images, kSide);
  put_big_endian(images, kSide);
  std::string labels("\x00\x00\x08\x01", 4);
  put_big_endian(labels, static_cast<std::uint32_t>(count));
  Rng rng(seed);
  for (int i = 0; i < count; ++i) {
    // The first images cover all classes, whatever the seed.
    const int label = i < kClasses ? i : static_cast<int>(rng.below(kClasses));
    labels += static_cast<char>(label);
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        const bool bright = y / (kSide / 2) == label / 2 && x / (kSide / 2) == label % 2;
        images += static_cast<char>(rng.below(150) + (bright ? 70 : 0));
      }
    }
  }
  put_file(folder / (name + "-images"), images);
  put_file(folder / (name + "-labels"), labels);
}

std::string tiny_header() {
  return R"(name = "tiny"
seed = 3
threads = 1
[model]
builtin = "convnet"
[data]
train = { format = "idx", images = "train-images", labels = "train-labels" }
test = { format = "idx", images = "test-images", labels = "test-labels" }
class_names = ["top left", "top right", "bottom left", "bottom right"]
normalize = { mean = [0.4], std = [0.2] }
augment = { flip = false }
batch = 32
)";
}

std::string tiny_recipe(const std::string& epochs) {
  return tiny_header() + str_cat(R"([[stage]]
kind = "dense"
epochs = )",
                                 epochs, R"(
optimizer = { name = "adamw", lr = 2e-3, weight_decay = 1e-2 }
schedule = { name = "cosine", warmup_steps = 4 }
[[stage]]
kind = "sparse"
epochs = )",
                                 epochs, R"(
optimizer = { name = "sgd", lr = 0.01, momentum = 0.9, weight_decay = 1e-4 }
sparsifier = { name = "weight_norm", pattern = "2:4", sr_ste_decay = 2e-4 }
sparsity_schedule = { name = "cubic", from = 0.0, until_epoch = 0.5, update_every = 2 }
layers = [ { tensor_fqn = "conv1.weight", pattern = "dense", why = "one input channel" } ]
[[stage]]
kind = "qat"
epochs = )",
                                 epochs, R"(
optimizer = { name = "adam", lr = 5e-4 }
quantize = { freeze_observers_epoch = 0.75 }
[accept]
max_accuracy_drop = 50
)");
}

TinyRun::TinyRun(const std::string& recipe) {
  write_tiny_images(folder_.path(), "train", 320, 1);
  write_tiny_images(folder_.path(), "test", 101, 2);
  write_recipe(recipe);
}

void TinyRun::write_recipe(const std::string& text) const { put_file(recipe(), text); }

}  // namespace pare::testing
