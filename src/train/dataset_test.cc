#include "pare/train/dataset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "pare/base/testing.h"
#include "pare/format/affine.h"
#include "pare/train/evaluate.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using pare::testing::put_file;
using pare::testing::TempDir;
using testing::same_bits;

// Sets an environment variable until the end of a scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    if (const char* const old = std::getenv(name)) {
      old_ = old;
    }
    ::setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() {
    if (old_.has_value()) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

std::string idx(const std::vector<std::uint32_t>& extents, const std::string& data) {
  std::string file = {0, 0, 8, static_cast<char>(extents.size())};
  for (const std::uint32_t extent : extents) {
    file += big_endian(extent);
  }
  return file + data;
}

// `count` images of 2 x 3 whose pixels count upwards, labels 0, 1, 2, 0, 1, …
void write_set(const std::filesystem::path& folder, const std::string& prefix, std::uint32_t count) {
  std::string pixels(count * 6, '\0');
  std::iota(pixels.begin(), pixels.end(), '\0');
  std::string labels(count, '\0');
  for (std::uint32_t i = 0; i < count; ++i) {
    labels[i] = static_cast<char>(i % 3);
  }
  put_file(folder / (prefix + "-images-idx3-ubyte"), idx({count, 2, 3}, pixels));
  put_file(folder / (prefix + "-labels-idx1-ubyte"), idx({count}, labels));
}

// Image i is filled with the pixel i (mod 256), its left column with i + 1, and its label is i.
Dataset counting_dataset(std::int64_t count) {
  Dataset dataset;
  dataset.images = torch::empty({count, 2, 3, 5}, torch::kUInt8);
  dataset.labels = torch::arange(count);
  for (std::int64_t i = 0; i < count; ++i) {
    dataset.images[i].fill_(i % 256);
    dataset.images[i].select(2, 0).fill_((i + 1) % 256);
  }
  return dataset;
}

const Normalization kTwoChannels{{0.25F, 0.5F}, {0.5F, 2.0F}};

TEST(Dataset, ReadsIdxFilesAsTheyAre) {
  const TempDir folder;
  write_set(folder.path(), "train", 5);
  const Dataset set = load_idx_dataset(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte");
  EXPECT_TRUE(torch::equal(set.images, torch::arange(30, torch::kUInt8).view({5, 1, 2, 3})));
  EXPECT_TRUE(torch::equal(set.labels, torch::tensor({0, 1, 2, 0, 1}, torch::kInt64)));
  EXPECT_EQ(set.class_names, (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_EQ(set.size(), 5);
}

TEST(Dataset, LabelsOutsideTheClassesAreNamed) {
  const TempDir folder;
  write_set(folder.path(), "train", 5);
  EXPECT_PARE_ERROR(
      load_idx_dataset(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte", {"a", "b"}),
      kCorruptData, "label 2 of image 2 lies outside the 2 classes");
}

TEST(Dataset, FilesThatAreMissingEmptyTruncatedOrMismatchedAreRefused) {
  const TempDir folder;
  write_set(folder.path(), "train", 5);
  const auto images = folder / "train-images-idx3-ubyte";
  const auto labels = folder / "train-labels-idx1-ubyte";
  EXPECT_PARE_ERROR(load_idx_dataset(folder / "none", labels), kNotFound, "none");
  EXPECT_PARE_ERROR(load_idx_dataset(labels, labels), kCorruptData, "");
  put_file(folder / "empty", "");
  EXPECT_PARE_ERROR(load_idx_dataset(folder / "empty", labels), kCorruptData, "empty");
  put_file(folder / "short", idx({5, 2, 3}, std::string(29, 'x')));
  EXPECT_PARE_ERROR(load_idx_dataset(folder / "short", labels), kCorruptData, "short");
  put_file(folder / "four", idx({4}, std::string(4, '\0')));
  EXPECT_PARE_ERROR(load_idx_dataset(images, folder / "four"), kCorruptData, "");
}

TEST(Dataset, FirstTakesTheFirstImages) {
  const Dataset all = counting_dataset(7);
  const Dataset three = all.first(3);
  EXPECT_EQ(three.size(), 3);
  EXPECT_TRUE(torch::equal(three.labels, torch::arange(3)));
  EXPECT_PARE_ERROR(all.first(8), kInvalidArgument, "7");
  EXPECT_PARE_ERROR(all.first(0), kInvalidArgument, "0");
}

TEST(Dataset, AKnownSetIsFoundUnderPareDataOrAFolderOfItsNameThere) {
  for (const bool in_own_folder : {false, true}) {
    const TempDir root;
    const auto folder = in_own_folder ? root / "fashion-mnist" : root.path();
    std::filesystem::create_directories(folder);
    write_set(folder, "train", 6);
    write_set(folder, "t10k", 4);
    const ScopedVariable data("PARE_DATA", root.path().string());
    const DatasetPair pair = known_dataset("fashion-mnist");
    EXPECT_EQ(pair.train.size(), 6);
    EXPECT_EQ(pair.test.size(), 4);
    ASSERT_EQ(pair.train.class_names.size(), 10U);
    EXPECT_EQ(pair.train.class_names.front(), "T-shirt/top");
    EXPECT_EQ(pair.test.class_names.back(), "Ankle boot");
  }
}

TEST(Dataset, AnIncompleteSetUnderPareDataIsPassedOver) {
  const TempDir root;
  write_set(root.path(), "train", 6);  // and no test images
  const ScopedVariable data("PARE_DATA", root.path().string());
  try {
    EXPECT_NE(known_dataset("fashion-mnist").train.size(), 6);
  } catch (const Error& error) {  // where the Debian package is not installed
    EXPECT_EQ(error.category(), ErrorCategory::kNotFound);
    EXPECT_NE(std::string(error.what()).find(root.path().string()), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("dataset-fashion-mnist"), std::string::npos) << error.what();
  }
}

TEST(Dataset, AnUnknownSetComesWithTheNearest) {
  EXPECT_PARE_ERROR(known_dataset("fashion-mnits"), kInvalidArgument, "fashion-mnist");
  EXPECT_EQ(known_dataset_names(), std::vector<std::string>{"fashion-mnist"});
}

TEST(Normalize, EveryPixelOfEveryChannelIsTheFormatsOwn) {
  const torch::Tensor images = torch::arange(256, torch::kUInt8).view({1, 1, 16, 16}).repeat({3, 2, 1, 1});
  const torch::Tensor normalized = normalize(images, kTwoChannels);
  ASSERT_EQ(normalized.sizes(), images.sizes());
  for (std::int64_t channel = 0; channel < 2; ++channel) {
    for (int pixel = 0; pixel < 256; ++pixel) {
      const auto c = static_cast<std::size_t>(channel);
      const float expected =
          format::normalize_pixel(static_cast<std::uint8_t>(pixel), kTwoChannels.mean[c], kTwoChannels.std[c]);
      ASSERT_EQ(normalized[2][channel].view({-1})[pixel].item<float>(), expected);
    }
  }
}

TEST(Normalize, ImpossibleNormalizationsAreRefused) {
  const torch::Tensor images = torch::zeros({1, 2, 3, 3}, torch::kUInt8);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_PARE_ERROR(normalize(images, {{0.5F}, {0.5F}}), kInvalidArgument, "2 channels");
  EXPECT_PARE_ERROR(normalize(images, {{0.5F, 0.5F}, {0.5F, 0.0F}}), kInvalidArgument, "channel 1");
  EXPECT_PARE_ERROR(normalize(images, {{nan, 0.5F}, {0.5F, 0.5F}}), kInvalidArgument, "channel 0");
  EXPECT_PARE_ERROR(normalize(images, {{0.5F, 0.5F}, {0.5F, -1.0F}}), kInvalidArgument, "above 0");
}

TEST(BatchLoader, AnEpochTakesEveryImageOnce) {
  for (const bool shuffle : {false, true}) {
    BatchOptions options;
    options.batch = 7;
    options.shuffle = shuffle;
    options.drop_last = false;
    BatchLoader loader(counting_dataset(20), kTwoChannels, options);
    loader.begin_epoch(1, 2);
    ASSERT_EQ(loader.batches_per_epoch(), 3);
    std::vector<std::int64_t> seen;
    for (std::int64_t step = 0; step < 3; ++step) {
      const Batch batch = loader.batch(step);
      EXPECT_EQ(batch.labels.size(0), step < 2 ? 7 : 6);
      EXPECT_EQ(batch.inputs.sizes(), (std::vector<std::int64_t>{batch.labels.size(0), 2, 3, 5}));
      for (std::int64_t i = 0; i < batch.labels.size(0); ++i) {
        seen.push_back(batch.labels[i].item<std::int64_t>());
      }
    }
    std::vector<std::int64_t> expected(20);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(seen == expected, !shuffle);
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, expected);
  }
}

TEST(BatchLoader, ImagesComeWithTheirOwnLabelsAndSomeAreMirrored) {
  BatchOptions options;
  options.batch = 50;
  options.flip = true;
  const Dataset dataset = counting_dataset(200);
  BatchLoader loader(dataset, kTwoChannels, options);
  const torch::Tensor normalized = normalize(dataset.images, kTwoChannels);
  int mirrored = 0;
  for (std::int64_t step = 0; step < 4; ++step) {
    const Batch batch = loader.batch(step);
    for (std::int64_t i = 0; i < 50; ++i) {
      const torch::Tensor image = normalized[batch.labels[i].item<std::int64_t>()];
      if (!same_bits(batch.inputs[i], image)) {
        ++mirrored;
        ASSERT_TRUE(same_bits(batch.inputs[i], image.flip(2)));
      }
    }
  }
  // 200 fair coins: outside [60, 140] with a probability below 1e-8.
  EXPECT_GT(mirrored, 60);
  EXPECT_LT(mirrored, 140);
}

TEST(BatchLoader, ABatchDependsOnSeedStageEpochAndStepAlone) {
  BatchOptions options;
  options.batch = 8;
  options.flip = true;
  options.seed = 5;
  const Dataset dataset = counting_dataset(64);
  BatchLoader uninterrupted(dataset, kTwoChannels, options);
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    uninterrupted.begin_epoch(1, epoch);
    for (std::int64_t step = 0; step < uninterrupted.batches_per_epoch(); ++step) {
      const Batch expected = uninterrupted.batch(step);
      BatchLoader resumed(dataset, kTwoChannels, options);
      resumed.begin_epoch(1, epoch);
      const Batch found = resumed.batch(step);
      ASSERT_TRUE(same_bits(found.inputs, expected.inputs) && same_bits(found.labels, expected.labels));
    }
  }
  std::set<std::vector<std::int64_t>> orders;
  for (const std::uint64_t seed : {5, 6}) {
    options.seed = seed;
    BatchLoader loader(dataset, kTwoChannels, options);
    for (const auto& [stage, epoch] : {std::pair{0, 0}, {0, 1}, {1, 0}, {1, 1}}) {
      loader.begin_epoch(stage, epoch);
      const torch::Tensor labels = loader.batch(0).labels;
      orders.emplace(labels.data_ptr<std::int64_t>(), labels.data_ptr<std::int64_t>() + labels.numel());
    }
  }
  EXPECT_EQ(orders.size(), 8U) << "every seed, stage and epoch has an order of its own";
}

TEST(BatchLoader, BatchesThatLeaveNothingAreRefused) {
  BatchOptions options;
  options.batch = 8;
  EXPECT_PARE_ERROR(BatchLoader(counting_dataset(7), kTwoChannels, options), kInvalidArgument, "batches of 8 from 7");
  options.drop_last = false;
  EXPECT_EQ(BatchLoader(counting_dataset(7), kTwoChannels, options).batches_per_epoch(), 1);
  options.batch = 0;
  EXPECT_PARE_ERROR(BatchLoader(counting_dataset(7), kTwoChannels, options), kInvalidArgument, "");
  options.batch = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(BatchLoader(counting_dataset(7), kTwoChannels, options).batches_per_epoch(), 1);
}

Dataset tiny_dataset(std::int64_t count) {
  torch::manual_seed(3);
  Dataset dataset;
  dataset.images = torch::randint(0, 256, {count, 2, 6, 6}, torch::kUInt8);
  dataset.labels = testing::random_labels(count);
  return dataset;
}

TEST(Evaluate, AgreesWithOneForwardPassWhateverTheBatch) {
  Model model(testing::tiny_graph());
  const Dataset dataset = tiny_dataset(23);
  model.eval();
  const torch::Tensor logits = model.forward(normalize(dataset.images, kTwoChannels)).detach();
  const double accuracy = 100.0 * (logits.argmax(1) == dataset.labels).to(torch::kFloat64).mean().item<double>();
  const double loss = torch::nn::functional::cross_entropy(logits, dataset.labels).item<double>();
  model.train();
  const auto state = testing::copy_of_state(model);
  for (const std::int64_t batch : {1, 10, 23, 500}) {
    const Evaluation evaluation = evaluate(model, dataset, kTwoChannels, batch);
    EXPECT_DOUBLE_EQ(evaluation.accuracy, accuracy);
    EXPECT_NEAR(evaluation.loss, loss, 1e-5);
    EXPECT_EQ(evaluation.samples, 23);
  }
  EXPECT_TRUE(model.is_training());
  EXPECT_EQ(testing::first_difference(state, testing::copy_of_state(model)), "");
}

TEST(Evaluate, NotANumberIsAnErrorAndTheModeIsRestored) {
  Model model(testing::tiny_graph());
  {
    const torch::NoGradGuard no_gradient;
    model.weight("fc1.weight").dense()[0][0] = std::numeric_limits<float>::quiet_NaN();
  }
  EXPECT_PARE_ERROR(evaluate(model, tiny_dataset(4), kTwoChannels), kNumeric, "NaN");
  EXPECT_TRUE(model.is_training());
}

TEST(Evaluate, LabelsThatTheModelHasNoClassForAreRefused) {
  Model model(testing::tiny_graph(0, 2));
  EXPECT_PARE_ERROR(evaluate(model, tiny_dataset(30), kTwoChannels), kInvalidArgument, "2 classes");
  EXPECT_PARE_ERROR(evaluate(model, tiny_dataset(30), kTwoChannels, 0), kInvalidArgument, "");
}

}  // namespace
}  // namespace pare::train
