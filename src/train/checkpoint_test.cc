#include "pare/train/checkpoint.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "pare/base/testing.h"
#include "pare/format/safetensors.h"
#include "pare/train/optimizer.h"
#include "pare/train/testing/tiny.h"

namespace pare::train {
namespace {

using pare::testing::get_file;
using pare::testing::put_file;
using pare::testing::TempDir;
using testing::same_bits;

Checkpoint sample(std::int64_t number = 0) {
  Checkpoint checkpoint;
  checkpoint.tensors["conv1.weight"] = torch::randn({3, 2, 3, 3});
  checkpoint.tensors["number"] = torch::full({}, number, torch::kInt64);
  checkpoint.metadata["progress"] = "{\"stage\": 1}";
  checkpoint.blobs["optimizer"] = std::string("\0\xff bytes \0", 10);
  return checkpoint;
}

std::int64_t number_of(const Checkpoint& checkpoint) { return checkpoint.tensors.at("number").item<std::int64_t>(); }

std::set<std::string> files_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(Checkpoint, EveryTypeAndShapeReadsBackBitForBit) {
  const TempDir folder;
  Checkpoint checkpoint = sample();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  checkpoint.tensors["f32"] = torch::tensor({-0.0F, nan, std::numeric_limits<float>::denorm_min()});
  checkpoint.tensors["f64"] = torch::tensor({0.1, -0.0}, torch::kFloat64);
  checkpoint.tensors["u8"] = torch::arange(0, 200, torch::kUInt8);
  checkpoint.tensors["s8"] = torch::arange(-100, 100, torch::kInt8);
  checkpoint.tensors["s32"] = torch::tensor({std::numeric_limits<std::int32_t>::min(), 7}, torch::kInt32);
  checkpoint.tensors["bool"] = torch::tensor({true, false, true});
  checkpoint.tensors["empty"] = torch::zeros({0, 3});
  checkpoint.tensors["strided"] = torch::randn({4, 6}).t();
  checkpoint.tensors["gradient"] = torch::randn({2}).requires_grad_(true);
  checkpoint.metadata["text"] = "quotes \" and \\ and \n and \xc3\xa4";
  checkpoint.metadata["nothing"] = "";
  checkpoint.blobs["nothing"] = "";
  write_checkpoint(folder / "a.ckpt", checkpoint);
  const Checkpoint read = read_checkpoint(folder / "a.ckpt");
  ASSERT_EQ(read.tensors.size(), checkpoint.tensors.size());
  for (const auto& [name, tensor] : checkpoint.tensors) {
    EXPECT_TRUE(same_bits(read.tensors.at(name), tensor)) << name;
  }
  EXPECT_EQ(read.metadata, checkpoint.metadata);
  EXPECT_EQ(read.blobs, checkpoint.blobs);
}

TEST(Checkpoint, AnEmptyOneIsAFileLikeAnyOther) {
  const TempDir folder;
  write_checkpoint(folder / "a.ckpt", {});
  EXPECT_TRUE(read_checkpoint(folder / "a.ckpt").tensors.empty());
}

TEST(Checkpoint, TypesThatItHasNoNameForAreRefusedAndNothingIsWritten) {
  const TempDir folder;
  Checkpoint checkpoint;
  checkpoint.tensors["half"] = torch::zeros({2}, torch::kFloat16);
  EXPECT_PARE_ERROR(write_checkpoint(folder / "a.ckpt", checkpoint), kUnsupported, "half");
  EXPECT_TRUE(files_in(folder.path()).empty());
}

TEST(Checkpoint, AnUnwritablePlaceIsAnErrorAndTheOldFileStays) {
  const TempDir folder;
  EXPECT_PARE_ERROR(write_checkpoint(folder / "none" / "a.ckpt", sample()), kIo, "");
  EXPECT_PARE_ERROR(CheckpointFolder("/proc/pare-test").save(1, sample()), kIo, "");
  write_checkpoint(folder / "a.ckpt", sample(1));
  Checkpoint bad = sample(2);
  bad.tensors["half"] = torch::zeros({2}, torch::kFloat16);
  EXPECT_PARE_ERROR(write_checkpoint(folder / "a.ckpt", bad), kUnsupported, "");
  EXPECT_EQ(number_of(read_checkpoint(folder / "a.ckpt")), 1);
}

TEST(Checkpoint, EveryFlippedBitAndEveryTruncationIsNoticed) {
  const TempDir folder;
  write_checkpoint(folder / "a.ckpt", sample());
  const std::string whole = get_file(folder / "a.ckpt");
  int tried = 0;
  for (std::size_t at = 0; at < whole.size(); at += 13) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    put_file(folder / "damaged", damaged);
    EXPECT_PARE_ERROR(read_checkpoint(folder / "damaged"), kCorruptData, "damaged") << "byte " << at;
    put_file(folder / "damaged", whole.substr(0, at));
    EXPECT_PARE_ERROR(read_checkpoint(folder / "damaged"), kCorruptData, "damaged") << "cut at " << at;
    ++tried;
  }
  EXPECT_GT(tried, 50);
}

TEST(Checkpoint, OtherFilesAreNotTakenForOne) {
  const TempDir folder;
  format::write_safetensors(folder / "other", {{"format", "pt"}}, {});
  EXPECT_PARE_ERROR(read_checkpoint(folder / "other"), kCorruptData, "no checkpoint");
  format::write_safetensors(folder / "newer", {{"pare_checkpoint_version", "2"}}, {});
  EXPECT_PARE_ERROR(read_checkpoint(folder / "newer"), kUnsupported, "version 2");
  EXPECT_PARE_ERROR(read_checkpoint(folder / "none"), kNotFound, "none");
}

TEST(CheckpointFolder, KeepsTheNewestTwo) {
  const TempDir root;
  CheckpointFolder folder(root / "checkpoints");
  EXPECT_FALSE(folder.load_newest().has_value());
  for (const std::int64_t step : {0, 9, 100, 2000}) {
    folder.save(step, sample(step));
    EXPECT_EQ(number_of(*folder.load_newest()), step);
  }
  EXPECT_EQ(files_in(root / "checkpoints"), (std::set<std::string>{"step-000000100.ckpt", "step-000002000.ckpt"}));
}

TEST(CheckpointFolder, StepsBeyondNineDigitsStayInOrder) {
  const TempDir root;
  CheckpointFolder folder(root.path());
  folder.save(999'999'999, sample(1));
  folder.save(1'000'000'000, sample(2));
  EXPECT_EQ(number_of(*folder.load_newest()), 2);
}

TEST(CheckpointFolder, ADamagedOneIsPassedOverWithAWarning) {
  const TempDir root;
  CheckpointFolder folder(root.path());
  folder.save(1, sample(1));
  folder.save(2, sample(2));
  const auto newest = root / "step-000000002.ckpt";
  put_file(newest, get_file(newest).substr(0, 100));
  std::vector<std::string> warnings;
  const auto warn = [&](const std::string& text) { warnings.push_back(text); };
  EXPECT_EQ(number_of(*folder.load_newest(warn)), 1);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("step-000000002.ckpt"), std::string::npos) << warnings[0];
  put_file(root / "step-000000001.ckpt", "");
  EXPECT_PARE_ERROR(folder.load_newest(warn), kCorruptData, "every checkpoint is damaged");
}

TEST(CheckpointFolder, SavingBehindAnAbandonedFutureRemovesIt) {
  const TempDir root;
  CheckpointFolder folder(root.path());
  folder.save(10, sample(10));
  folder.save(20, sample(20));
  put_file(root / "step-000000020.ckpt", "damaged");
  folder.save(15, sample(15));
  EXPECT_EQ(files_in(root.path()), (std::set<std::string>{"step-000000010.ckpt", "step-000000015.ckpt"}));
}

TEST(CheckpointFolder, LeftoversOfAKilledProcessGoAndOtherFilesStay) {
  const TempDir root;
  CheckpointFolder folder(root.path());
  put_file(root / "step-000000003.ckpt.4711-0.pare-tmp", "half");
  put_file(root / "notes.txt", "mine");
  put_file(root / "step-by-step.ckpt", "mine too");
  folder.save(3, sample(3));
  EXPECT_EQ(files_in(root.path()), (std::set<std::string>{"notes.txt", "step-000000003.ckpt", "step-by-step.ckpt"}));
  folder.clear();
  EXPECT_EQ(files_in(root.path()), (std::set<std::string>{"notes.txt", "step-by-step.ckpt"}));
  EXPECT_FALSE(folder.load_newest().has_value());
}

TEST(CheckpointFolder, TrainingResumedFromAFileContinuesBitForBit) {
  OptimizerOptions options;
  options.weight_decay = 0.05;
  const auto train = [](Model& model, torch::optim::Optimizer& optimizer, int first, int count) {
    for (int step = first; step < first + count; ++step) {
      const auto seed = static_cast<std::uint64_t>(step);
      zero_grad(optimizer);
      torch::nn::functional::cross_entropy(model.forward(testing::random_images(8, seed)),
                                           testing::random_labels(8, 3, seed))
          .backward();
      optimizer.step();
    }
  };
  const TempDir root;
  CheckpointFolder folder(root.path());
  Model model(testing::tiny_graph());
  model.set_mask("fc1.weight", testing::half_mask(model.weight("fc1.weight").dense()));
  const auto optimizer = make_optimizer(model, options);
  train(model, *optimizer, 0, 3);
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : model.state()) {
    checkpoint.tensors[name] = tensor;
  }
  checkpoint.blobs["optimizer"] = save_optimizer(*optimizer);
  folder.save(3, checkpoint);
  train(model, *optimizer, 3, 4);

  const Checkpoint read = *folder.load_newest();
  Model resumed(testing::tiny_graph(50));
  resumed.load_state(read.tensors);
  const auto resumed_optimizer = make_optimizer(resumed, options);
  load_optimizer(*resumed_optimizer, read.blobs.at("optimizer"));
  train(resumed, *resumed_optimizer, 3, 4);
  EXPECT_EQ(testing::first_difference(testing::copy_of_state(model), testing::copy_of_state(resumed)), "");
}

}  // namespace
}  // namespace pare::train
