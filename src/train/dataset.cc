#include "pare/train/dataset.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/format/affine.h"
#include "pare/format/idx.h"

namespace pare::train {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPixelValues = 256;

struct KnownSet {
  const char* name;
  const char* debian_folder;
  const char* debian_package;
  std::array<const char*, 4> files;  // train images, train labels, test images, test labels; ".gz" may follow
  std::vector<std::string> class_names;
};

const std::vector<KnownSet>& known_sets() {
  static const std::vector<KnownSet> sets = {
      {"fashion-mnist",
       "/usr/share/datasets/fashion-mnist",
       "dataset-fashion-mnist",
       {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"},
       {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}}};
  return sets;
}

// The file, or its compressed form; empty if neither is there.
fs::path find_file(const fs::path& folder, const std::string& name) {
  for (const fs::path& candidate : {folder / name, folder / (name + ".gz")}) {
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored)) {
      return candidate;
    }
  }
  return {};
}

std::vector<float> normalization_table(const Normalization& normalization) {
  std::vector<float> table;
  for (std::size_t channel = 0; channel < normalization.mean.size(); ++channel) {
    for (std::int64_t pixel = 0; pixel < kPixelValues; ++pixel) {
      table.push_back(format::normalize_pixel(static_cast<std::uint8_t>(pixel), normalization.mean[channel],
                                              normalization.std[channel]));
    }
  }
  return table;
}

// One image [C, H, W] through the table [C][256]; `mirrored` left-right.
void convert_image(const std::uint8_t* pixels, const float* table, std::int64_t channels, std::int64_t height,
                   std::int64_t width, bool mirrored, float* out) {
  for (std::int64_t channel = 0; channel < channels; ++channel, table += kPixelValues) {
    for (std::int64_t row = 0; row < height; ++row, pixels += width, out += width) {
      if (mirrored) {
        for (std::int64_t x = 0; x < width; ++x) {
          out[x] = table[pixels[width - 1 - x]];
        }
      } else {
        for (std::int64_t x = 0; x < width; ++x) {
          out[x] = table[pixels[x]];
        }
      }
    }
  }
}

}  // namespace

Dataset Dataset::first(std::int64_t count) const {
  if (count < 1 || count > size()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("the first ", count, " of ", size(), " images"), "data",
                str_cat("take 1 to ", size()));
  }
  return {images.narrow(0, 0, count), labels.narrow(0, 0, count), class_names};
}

std::vector<std::string> known_dataset_names() {
  std::vector<std::string> names;
  for (const KnownSet& set : known_sets()) {
    names.emplace_back(set.name);
  }
  return names;
}

DatasetPair known_dataset(const std::string& name) {
  for (const KnownSet& set : known_sets()) {
    if (name != set.name) {
      continue;
    }
    std::vector<fs::path> folders;
    if (const char* const data = std::getenv("PARE_DATA"); data != nullptr && *data != '\0') {
      folders.insert(folders.end(), {fs::path(data), fs::path(data) / name});
    }
    folders.emplace_back(set.debian_folder);
    std::vector<std::string> looked_in;
    for (const fs::path& folder : folders) {
      std::array<fs::path, 4> files;
      std::transform(set.files.begin(), set.files.end(), files.begin(),
                     [&](const char* file) { return find_file(folder, file); });
      if (std::none_of(files.begin(), files.end(), [](const fs::path& file) { return file.empty(); })) {
        return {load_idx_dataset(files[0], files[1], set.class_names),
                load_idx_dataset(files[2], files[3], set.class_names)};
      }
      looked_in.push_back(folder.string());
    }
    throw Error(
        ErrorCategory::kNotFound,
        str_cat("the files of '", name, "' (", set.files[0], "[.gz] and three more) are not in ",
                join(looked_in, " or ")),
        "data set",
        str_cat("install the Debian package ", set.debian_package, ", or set PARE_DATA to the folder that has them"));
  }
  const std::vector<std::string> known = known_dataset_names();
  throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no known set '", name, "'"), "data set",
              did_you_mean(name, known));
}

Dataset load_idx_dataset(const fs::path& images, const fs::path& labels, std::vector<std::string> class_names) {
  const format::LabelledImages read = format::read_idx_images(images, labels);
  const std::vector<std::uint8_t>& codes = read.labels.data;
  const auto largest = std::max_element(codes.begin(), codes.end());
  if (!class_names.empty() && *largest >= class_names.size()) {
    throw Error(ErrorCategory::kCorruptData,
                str_cat("label ", static_cast<int>(*largest), " of image ", largest - codes.begin(),
                        " lies outside the ", class_names.size(), " classes"),
                labels.string(), "are these the labels of that set?");
  }
  Dataset dataset;
  const Shape& shape = read.images.shape;
  dataset.images = torch::empty({shape[0], 1, shape[1], shape[2]}, torch::kUInt8);
  std::memcpy(dataset.images.data_ptr(), read.images.data.data(), read.images.data.size());
  dataset.labels = torch::empty({shape[0]}, torch::kInt64);
  std::copy(codes.begin(), codes.end(), dataset.labels.data_ptr<std::int64_t>());
  dataset.class_names = std::move(class_names);
  if (dataset.class_names.empty()) {
    for (int label = 0; label <= static_cast<int>(*largest); ++label) {
      dataset.class_names.push_back(str_cat(label));
    }
  }
  return dataset;
}

void Normalization::validate(std::int64_t channels) const {
  const auto count = static_cast<std::size_t>(channels);
  if (mean.size() != count || std.size() != count) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("normalization with ", mean.size(), " means and ", std.size(), " deviations for images of ",
                        channels, " channels"),
                "normalize", "give one of each per channel");
  }
  for (std::size_t channel = 0; channel < count; ++channel) {
    if (!std::isfinite(mean[channel]) || !std::isfinite(std[channel]) || !(std[channel] > 0.0F)) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat("mean ", mean[channel], " and deviation ", std[channel], " of channel ", channel),
                  "normalize", "they are finite, and a deviation is above 0");
    }
  }
}

torch::Tensor normalize(const torch::Tensor& images, const Normalization& normalization) {
  PARE_CHECK(images.dim() == 4 && images.scalar_type() == torch::kUInt8);
  normalization.validate(images.size(1));
  const std::vector<float> table = normalization_table(normalization);
  const torch::Tensor plain = images.contiguous();
  torch::Tensor out = torch::empty(images.sizes(), torch::kFloat32);
  const std::int64_t elems = images.size(1) * images.size(2) * images.size(3);
  const std::uint8_t* const pixels = plain.data_ptr<std::uint8_t>();
  float* const floats = out.data_ptr<float>();
  at::parallel_for(0, images.size(0), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      convert_image(pixels + i * elems, table.data(), images.size(1), images.size(2), images.size(3), false,
                    floats + i * elems);
    }
  });
  return out;
}

BatchLoader::BatchLoader(Dataset dataset, Normalization normalization, BatchOptions options)
    : dataset_(std::move(dataset)), options_(options) {
  PARE_CHECK(dataset_.images.dim() == 4 && dataset_.images.scalar_type() == torch::kUInt8);
  PARE_CHECK(dataset_.labels.numel() == dataset_.size() && dataset_.labels.scalar_type() == torch::kInt64);
  dataset_.images = dataset_.images.contiguous();
  dataset_.labels = dataset_.labels.contiguous();
  normalization.validate(dataset_.images.size(1));
  table_ = normalization_table(normalization);
  if (options_.batch < 1 || dataset_.size() < 1 || batches_per_epoch() < 1) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("batches of ", options_.batch, " from ", dataset_.size(), " images"), "data",
                "a batch holds at least 1 image and at most as many as there are");
  }
  begin_epoch(0, 0);
}

std::int64_t BatchLoader::batches_per_epoch() const {
  const std::int64_t whole = dataset_.size() / options_.batch;
  return options_.drop_last || whole * options_.batch == dataset_.size() ? whole : whole + 1;
}

void BatchLoader::begin_epoch(std::int64_t stage, std::int64_t epoch) {
  // Apart from the streams that weights are drawn from, which are numbered from (seed, 0, 0) as well.
  constexpr std::uint64_t kDataDomain = 0x64617461;
  Rng rng(options_.seed ^ (kDataDomain << 32), static_cast<std::uint64_t>(stage), static_cast<std::uint64_t>(epoch));
  order_.resize(static_cast<std::size_t>(dataset_.size()));
  std::iota(order_.begin(), order_.end(), 0U);
  if (options_.shuffle) {
    rng.shuffle(order_);
  }
  flips_.assign(order_.size(), 0);
  if (options_.flip) {
    for (std::uint8_t& flip : flips_) {
      flip = static_cast<std::uint8_t>(rng.below(2));
    }
  }
}

Batch BatchLoader::batch(std::int64_t step) const {
  PARE_CHECK(step >= 0 && step < batches_per_epoch());
  const torch::Tensor& images = dataset_.images;
  const std::int64_t first = step * options_.batch;
  const std::int64_t count = std::min(options_.batch, dataset_.size() - first);
  const std::int64_t elems = images.size(1) * images.size(2) * images.size(3);
  Batch batch;
  batch.inputs = torch::empty({count, images.size(1), images.size(2), images.size(3)}, torch::kFloat32);
  batch.labels = torch::empty({count}, torch::kInt64);
  const std::uint8_t* const pixels = images.data_ptr<std::uint8_t>();
  const std::int64_t* const labels = dataset_.labels.data_ptr<std::int64_t>();
  float* const floats = batch.inputs.data_ptr<float>();
  std::int64_t* const batch_labels = batch.labels.data_ptr<std::int64_t>();
  at::parallel_for(0, count, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto position = static_cast<std::size_t>(first + i);
      const auto index = static_cast<std::int64_t>(order_[position]);
      convert_image(pixels + index * elems, table_.data(), images.size(1), images.size(2), images.size(3),
                    flips_[position] != 0, floats + i * elems);
      batch_labels[i] = labels[index];
    }
  });
  return batch;
}

}  // namespace pare::train
