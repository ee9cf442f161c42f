// Labelled images in memory, and the batches that a training loop takes from them.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pare::train {

// Raw pixels and labels, as read. Cheap to copy (tensors are shared).
struct Dataset {
  torch::Tensor images;  // uint8 [count, C, H, W]
  torch::Tensor labels;  // int64 [count]
  std::vector<std::string> class_names;

  [[nodiscard]] std::int64_t size() const { return images.size(0); }
  // The first `count` images. Throws kInvalidArgument if there are fewer, or for a count below 1.
  [[nodiscard]] Dataset first(std::int64_t count) const;
};

struct DatasetPair {
  Dataset train;
  Dataset test;
};

// Names for known_dataset: "fashion-mnist".
[[nodiscard]] std::vector<std::string> known_dataset_names();

// A known set, found under $PARE_DATA (files there, or in a folder of the set's name) or where its Debian package puts
// it; files may be gzip-compressed or plain. Throws kNotFound that says where it looked and which package to install,
// kInvalidArgument for an unknown name, or what load_idx_dataset throws.
[[nodiscard]] DatasetPair known_dataset(const std::string& name);

// IDX(.gz) files of one's own; labels must lie in [0, classes), classes = number of class_names, or, where that is
// empty, largest label + 1. Throws what format::read_idx_images throws; kCorruptData for a label outside.
[[nodiscard]] Dataset load_idx_dataset(const std::filesystem::path& images, const std::filesystem::path& labels,
                                       std::vector<std::string> class_names = {});

struct Normalization {
  std::vector<float> mean;  // one per channel
  std::vector<float> std;
  // Throws kInvalidArgument unless both have `channels` finite entries and std is above 0.
  void validate(std::int64_t channels) const;
};

// uint8 [n, C, H, W] -> float32, format::normalize_pixel by table. Throws kInvalidArgument as Normalization::validate
// does.
[[nodiscard]] torch::Tensor normalize(const torch::Tensor& images, const Normalization& normalization);

struct BatchOptions {
  std::int64_t batch = 128;
  bool shuffle = true;
  bool flip = false;      // mirror left-right with probability 1/2
  bool drop_last = true;  // a last batch that is short is dropped
  std::uint64_t seed = 0;
};

struct Batch {
  torch::Tensor inputs;  // float32 [n, C, H, W], normalized
  torch::Tensor labels;  // int64 [n]
};

// Batches of one epoch after another. Order and augmentation depend only on (seed, stage, epoch) and the step within
// the epoch, never on what was drawn before: a resumed run asks for step s of epoch e and gets the same images.
class BatchLoader {
 public:
  // Throws kInvalidArgument for a batch below 1, or one that drop_last would leave nothing of. Begins epoch 0 of stage
  // 0.
  BatchLoader(Dataset dataset, Normalization normalization, BatchOptions options);

  [[nodiscard]] std::int64_t batches_per_epoch() const;
  // Starts epoch `epoch` of stage `stage`.
  void begin_epoch(std::int64_t stage, std::int64_t epoch);
  [[nodiscard]] Batch batch(std::int64_t step) const;  // step in [0, batches_per_epoch())

 private:
  Dataset dataset_;
  std::vector<float> table_;  // [channel][pixel]
  BatchOptions options_;
  std::vector<std::uint32_t> order_;
  std::vector<std::uint8_t> flips_;  // by position in the order
};

}  // namespace pare::train
