#include "pare/graph/artifact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"
#include "pare/graph/builtin.h"
#include "pare/graph/testing/artifact_files.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/graph/weights.h"

namespace pare::graph {
namespace {

using testing::read_bytes;
using testing::TemporaryFolder;

void expect_equal(const Graph& actual, const Graph& expected) {
  EXPECT_EQ(actual.name, expected.name);
  EXPECT_EQ(actual.input, expected.input);
  EXPECT_EQ(actual.output, expected.output);
  EXPECT_EQ(actual.values, expected.values);
  ASSERT_EQ(actual.nodes.size(), expected.nodes.size());
  for (std::size_t i = 0; i < actual.nodes.size(); ++i) {
    EXPECT_EQ(actual.nodes[i].name, expected.nodes[i].name);
    EXPECT_EQ(actual.nodes[i].op_type, expected.nodes[i].op_type);
    EXPECT_EQ(actual.nodes[i].inputs, expected.nodes[i].inputs);
    EXPECT_EQ(actual.nodes[i].output, expected.nodes[i].output);
    EXPECT_EQ(actual.nodes[i].attributes, expected.nodes[i].attributes);
  }
  ASSERT_EQ(actual.initializers.size(), expected.initializers.size());
  for (const auto& [name, item] : expected.initializers) {
    const Initializer& found = actual.initializer(name);
    EXPECT_EQ(found.dtype, item.dtype) << name;
    EXPECT_EQ(found.shape, item.shape) << name;
    EXPECT_EQ(found.encoding, item.encoding) << name;
    EXPECT_EQ(found.quantization, item.quantization) << name;
    EXPECT_TRUE(std::ranges::equal(found.data.bytes(), item.data.bytes())) << name;
    EXPECT_TRUE(std::ranges::equal(found.indices.bytes(), item.indices.bytes())) << name;
  }
}

std::vector<Artifact> artifacts_of(std::uint64_t seed) {
  std::vector<Artifact> artifacts;
  for (const bool two_four : {false, true}) {
    artifacts.push_back(testing::small_artifact(seed, two_four));
    artifacts.push_back(testing::odd_artifact(seed, two_four));
    artifacts.push_back(testing::residual_artifact(seed, two_four));
    artifacts.push_back(testing::depthwise_artifact(seed, two_four));
    artifacts.push_back(testing::mlp_artifact(seed, two_four));
  }
  return artifacts;
}

TEST(Artifact, RoundTripKeepsEverything) {
  const TemporaryFolder folder;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    for (const Artifact& artifact : artifacts_of(seed)) {
      SCOPED_TRACE(str_cat("seed ", seed, " ", artifact.graph.name, " ", artifact.promises.back().pattern));
      const auto path = folder.path("model.pare");
      write_artifact(path, artifact);
      const Artifact read = read_artifact(path);
      expect_equal(read.graph, artifact.graph);
      EXPECT_EQ(read.preprocessing.mean, artifact.preprocessing.mean);
      EXPECT_EQ(read.preprocessing.std, artifact.preprocessing.std);
      EXPECT_EQ(read.class_names, artifact.class_names);
      EXPECT_EQ(read.provenance, artifact.provenance);
      ASSERT_EQ(read.promises.size(), artifact.promises.size());
      for (std::size_t i = 0; i < read.promises.size(); ++i) {
        EXPECT_EQ(read.promises[i].weight, artifact.promises[i].weight);
        EXPECT_EQ(read.promises[i].pattern, artifact.promises[i].pattern);
        EXPECT_EQ(read.promises[i].zeros, artifact.promises[i].zeros);
        EXPECT_EQ(read.promises[i].note, artifact.promises[i].note);
      }
      const VerifyReport report = verify_artifact(path);
      EXPECT_TRUE(report.ok());
      EXPECT_GT(report.facts_checked, 50);
    }
  }
}

TEST(Artifact, BuffersOutliveTheFile) {
  const TemporaryFolder folder;
  const Artifact artifact = testing::small_artifact(4, true);
  write_artifact(folder.path("model.pare"), artifact);
  const Artifact read = read_artifact(folder.path("model.pare"));
  std::filesystem::remove(folder.path("model.pare"));
  expect_equal(read.graph, artifact.graph);
}

TEST(Artifact, TextsSurvive) {
  const TemporaryFolder folder;
  Artifact artifact = testing::mlp_artifact(5, false);
  artifact.class_names = {"T-shirt/top", "\"quoted\" \\ back\tslash", "Füße 靴", ""};
  artifact.provenance = {{"recipe", "line 1\nline 2"}, {"accuracy", "0.9311"}};
  artifact.promises[0].note = "one input channel";
  write_artifact(folder.path("model.pare"), artifact);
  const Artifact read = read_artifact(folder.path("model.pare"));
  EXPECT_EQ(read.class_names, artifact.class_names);
  EXPECT_EQ(read.provenance, artifact.provenance);
  EXPECT_EQ(read.promises[0].note, artifact.promises[0].note);
}

TEST(Artifact, ClassNamesAreOptional) {
  const TemporaryFolder folder;
  Artifact artifact = testing::mlp_artifact(6, false);
  artifact.class_names.clear();
  artifact.provenance.clear();
  write_artifact(folder.path("model.pare"), artifact);
  EXPECT_TRUE(read_artifact(folder.path("model.pare")).class_names.empty());
}

TEST(Artifact, EqualArtifactsGiveEqualBytes) {
  const TemporaryFolder folder;
  for (const Artifact& artifact : artifacts_of(8)) {
    write_artifact(folder.path("a.pare"), artifact);
    write_artifact(folder.path("b.pare"), read_artifact(folder.path("a.pare")));
    EXPECT_EQ(read_bytes(folder.path("a.pare")), read_bytes(folder.path("b.pare")));
  }
  write_artifact(folder.path("a.pare"), testing::odd_artifact(9, true));
  write_artifact(folder.path("b.pare"), testing::odd_artifact(9, true));
  EXPECT_EQ(read_bytes(folder.path("a.pare")), read_bytes(folder.path("b.pare")));
  write_artifact(folder.path("b.pare"), testing::odd_artifact(10, true));
  EXPECT_NE(read_bytes(folder.path("a.pare")), read_bytes(folder.path("b.pare")));
}

TEST(Artifact, StoresTwoFourWeightsInFiveEighthsOfAByte) {
  const TemporaryFolder folder;
  const Artifact artifact = testing::small_artifact(11, true);
  write_artifact(folder.path("model.pare"), artifact);
  const format::SafetensorsFile file(folder.path("model.pare"));
  for (const LayerPromise& promise : artifact.promises) {
    const std::int64_t elems = element_count(artifact.graph.initializer(promise.weight).shape);
    if (promise.pattern == "2:4") {
      const std::size_t bytes =
          file.tensor(promise.weight + ".values").bytes.size() + file.tensor(promise.weight + ".indices").bytes.size();
      EXPECT_EQ(bytes * 8, static_cast<std::size_t>(elems) * 5) << promise.weight;
      EXPECT_GE(promise.zeros * 2, elems);
    } else {
      EXPECT_EQ(promise.weight, "conv1.weight");
      EXPECT_EQ(file.tensor(promise.weight).bytes.size(), static_cast<std::size_t>(elems));
    }
  }
  EXPECT_EQ(file.metadata().at("format"), "pare");
  EXPECT_EQ(file.metadata().at("format_version"), "1");
}

TEST(Artifact, BlockWeightsKeepTheirPatternAndTheirBytes) {
  testing::GraphOptions options = testing::odd_options(false);
  options.block = format::BlockPattern{1, 4};
  const Artifact artifact = testing::random_artifact(7, options);
  const TemporaryFolder folder;
  const auto path = folder.path("block.pare");
  write_artifact(path, artifact);
  EXPECT_EQ(format::SafetensorsFile(path).metadata().at("format_version"), "2");
  EXPECT_TRUE(verify_artifact(path).ok());
  const Artifact read = read_artifact(path);
  for (const LayerPromise& promise : read.promises) {
    const Initializer& weight = read.graph.initializer(promise.weight);
    EXPECT_EQ(promise.pattern, weight.pattern());
    EXPECT_EQ(codes_in_group_order(weight), codes_in_group_order(artifact.graph.initializer(promise.weight)));
  }
  EXPECT_EQ(read.promises.back().pattern, "1x4");

  // A bit more, a bit less, and a block that is all zero.
  const std::string name = artifact.promises.back().weight;
  const auto indices = artifact.graph.initializer(name).indices.as<std::uint8_t>();
  for (const std::uint8_t byte : {std::uint8_t{0}, std::uint8_t{0xFF}}) {
    Artifact broken = artifact;
    std::vector<std::uint8_t> changed(indices.begin(), indices.end());
    ASSERT_NE(changed.front(), byte);
    changed.front() = byte;
    broken.graph.initializers.at(name).indices = Buffer::copy_of(changed);
    EXPECT_THROW(write_artifact(path, broken), Error);
  }
  Artifact empty = artifact;
  Initializer& weight = empty.graph.initializers.at(name);
  std::vector<std::int8_t> values(weight.data.as<std::int8_t>().begin(), weight.data.as<std::int8_t>().end());
  std::fill_n(values.begin(), 4, std::int8_t{0});
  weight.data = Buffer::copy_of(values);
  EXPECT_THROW(write_artifact(path, empty), Error);
}

TEST(Artifact, VnmWeightsKeepTheirPatternAndTheirBytes) {
  testing::GraphOptions options = testing::odd_options(false);
  options.vnm = format::VnmPattern{16, 1, 4};
  const Artifact artifact = testing::random_artifact(6, options);
  const TemporaryFolder folder;
  const auto path = folder.path("vnm.pare");
  write_artifact(path, artifact);
  EXPECT_EQ(format::SafetensorsFile(path).metadata().at("format_version"), "2");
  EXPECT_TRUE(verify_artifact(path).ok());
  const Artifact read = read_artifact(path);
  for (const LayerPromise& promise : read.promises) {
    const Initializer& weight = read.graph.initializer(promise.weight);
    const Initializer& written = artifact.graph.initializer(promise.weight);
    EXPECT_EQ(promise.pattern, weight.pattern());
    EXPECT_EQ(weight.pattern(), written.pattern());
    EXPECT_EQ(codes_in_group_order(weight), codes_in_group_order(written));
  }
  EXPECT_EQ(read.promises.back().pattern, "16:1:4");

  // The same weights stored dense still keep the promise; a code outside of the mask breaks it.
  Artifact dense = artifact;
  const std::string name = dense.promises.back().weight;
  Initializer& weight = dense.graph.initializers.at(name);
  weight = decode_dense(weight);
  write_artifact(path, dense);
  EXPECT_TRUE(verify_artifact(path).ok());
  std::vector<std::int8_t> codes(weight.data.as<std::int8_t>().begin(), weight.data.as<std::int8_t>().end());
  const auto zeros = std::count(codes.begin(), codes.begin() + 4, std::int8_t{0});
  std::fill_n(codes.begin(), 4, std::int8_t{1});
  weight.data = Buffer::copy_of(codes);
  dense.promises.back().zeros -= zeros;
  try {
    write_artifact(path, dense);
    ADD_FAILURE() << "a broken promise was written";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), ErrorCategory::kVerification);
    EXPECT_NE(error.problem().find("promises 16:1:4"), std::string::npos) << error.what();
  }
}

TEST(Artifact, NewerOperatorsRaiseTheVersion) {
  const TemporaryFolder folder;
  write_artifact(folder.path("model.pare"), testing::residual_artifact(11, true));
  EXPECT_EQ(format::SafetensorsFile(folder.path("model.pare")).metadata().at("format_version"), "2");
  testing::GraphOptions options = testing::small_options(false);
  options.global_average = true;
  write_artifact(folder.path("average.pare"), testing::random_artifact(11, options));
  EXPECT_EQ(format::SafetensorsFile(folder.path("average.pare")).metadata().at("format_version"), "2");
}

TEST(Artifact, MixedGraphsAreKeptAndRaiseTheVersion) {
  const TemporaryFolder folder;
  for (const Artifact& artifact :
       {testing::mixed_rows_artifact(5), testing::mixed_image_artifact(5), testing::dynamic_artifact(5)}) {
    SCOPED_TRACE(artifact.graph.name);
    write_artifact(folder.path("model.pare"), artifact);
    EXPECT_EQ(format::SafetensorsFile(folder.path("model.pare")).metadata().at("format_version"), "3");
    EXPECT_TRUE(verify_artifact(folder.path("model.pare")).ok());
    EXPECT_EQ(read_artifact(folder.path("model.pare")).graph.values, artifact.graph.values);
  }
}

TEST(Artifact, Int4WeightsAreKeptByteForByte) {
  const TemporaryFolder folder;
  const Artifact artifact = testing::dynamic_artifact(6);
  write_artifact(folder.path("model.pare"), artifact);
  const Artifact again = read_artifact(folder.path("model.pare"));
  for (const char* name : {"up.weight", "sparse.weight", "out.weight"}) {
    SCOPED_TRACE(name);
    const Initializer& before = artifact.graph.initializer(name);
    const Initializer& after = again.graph.initializer(name);
    EXPECT_EQ(after.encoding, before.encoding);
    EXPECT_EQ(after.group, before.group);
    EXPECT_EQ(after.shape, before.shape);
    const auto bytes = [](const Buffer& buffer) {
      return std::vector<std::byte>(buffer.bytes().begin(), buffer.bytes().end());
    };
    EXPECT_EQ(bytes(after.data), bytes(before.data));
    EXPECT_EQ(bytes(after.indices), bytes(before.indices));
    EXPECT_EQ(bytes(after.scales), bytes(before.scales));
  }
  EXPECT_EQ(again.promises[0].pattern, "dense");
  EXPECT_EQ(again.promises[1].pattern, "2:4");
  EXPECT_EQ(again.promises[1].zeros, count_zeros(artifact.graph.initializer("sparse.weight")));
  EXPECT_GE(again.promises[1].zeros * 2, 150 * 70);
  const format::SafetensorsFile file(folder.path("model.pare"));
  EXPECT_EQ(file.tensor("sparse.weight.values").shape, (Shape{70, 38}));
  EXPECT_EQ(file.tensor("sparse.weight.indices").shape, (Shape{70, 19}));
  EXPECT_EQ(file.tensor("sparse.weight.scales").shape, (Shape{70, 3}));
  EXPECT_EQ(file.tensor("sparse.weight.scales").dtype, DType::kF16);
}

TEST(Artifact, RefusesEndsThatNothingCanRun) {
  const TemporaryFolder folder;
  const auto refusal = [&](const Artifact& artifact) {
    try {
      write_artifact(folder.path("model.pare"), artifact);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  Artifact rows = testing::mixed_rows_artifact(5);
  rows.preprocessing = {{0.5F}, {0.5F}};
  EXPECT_NE(refusal(rows).find("1 means and 1 deviations for 0 channels"), std::string::npos) << refusal(rows);
  rows = testing::mixed_rows_artifact(5);
  rows.class_names = {"a"};
  EXPECT_NE(refusal(rows).find("1 class names for 0 classes"), std::string::npos) << refusal(rows);
  testing::MixedGraphBuilder image(5, "image", {2, 3, 3});
  image.add("add", "input", image.dequantize("real", image.quantize("codes", "input")));
  const std::string reason = refusal(image.finish());
  EXPECT_NE(reason.find("it reads the image 'input'"), std::string::npos) << reason;
}

TEST(Artifact, APromiseOfAPatternMayBeStoredDense) {
  const TemporaryFolder folder;
  Artifact artifact = testing::small_artifact(12, true);
  Initializer& weight = artifact.graph.initializers.at("conv2.weight");
  weight = decode_dense(weight);
  ASSERT_EQ(artifact.promises[1].pattern, "2:4");
  write_artifact(folder.path("model.pare"), artifact);
  EXPECT_TRUE(verify_artifact(folder.path("model.pare")).ok());
}

TEST(Artifact, IsNotWrittenIfItBreaksAPromise) {
  const TemporaryFolder folder;
  const Artifact sound = testing::small_artifact(13, true);
  const auto expect = [&](const char* what, ErrorCategory category, auto&& edit) {
    Artifact artifact = sound;
    edit(artifact);
    const auto path = folder.path("broken.pare");
    try {
      write_artifact(path, artifact);
      ADD_FAILURE() << "written: " << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), category) << what << ": " << error.what();
    }
    EXPECT_TRUE(folder.is_empty()) << what;
  };
  const auto verification = ErrorCategory::kVerification;
  expect("zeros", verification, [](Artifact& a) { ++a.promises[1].zeros; });
  expect("pattern unlike its encoding", verification, [](Artifact& a) { a.promises[1].pattern = "dense"; });
  expect("pattern that does not hold", verification, [](Artifact& a) {
    a = testing::small_artifact(13, false);
    a.promises[1].pattern = "2:4";
  });
  expect("unknown pattern", verification, [](Artifact& a) { a.promises[0].pattern = "3:7"; });
  expect("a promise missing", verification, [](Artifact& a) { a.promises.pop_back(); });
  expect("promises in another order", verification, [](Artifact& a) { std::swap(a.promises[0], a.promises[1]); });
  expect("no mean", verification, [](Artifact& a) { a.preprocessing.mean.clear(); });
  expect("deviation 0", verification, [](Artifact& a) { a.preprocessing.std[0] = 0.0F; });
  expect("mean NaN", verification, [](Artifact& a) { a.preprocessing.mean[0] = std::nanf(""); });
  expect("class names", verification, [](Artifact& a) { a.class_names.pop_back(); });
  expect("scale", verification, [](Artifact& a) { a.graph.initializers["fc1.weight"].quantization->scales[0] = 0; });
  expect("shape", verification, [](Artifact& a) { a.graph.values["fc1.out"].shape = {kBatch, 99}; });
  expect("shapes not inferred", verification, [](Artifact& a) { a.graph.values["fc1.out"].shape.clear(); });
  expect("image of rank 2", verification, [](Artifact& a) {
    a = testing::mlp_artifact(13, true);
    a.graph.values["input"].shape = a.graph.values["quantize_input.out"].shape = {kBatch, 30};
    a.preprocessing = {std::vector<float>(30, 0.0F), std::vector<float>(30, 1.0F)};
  });
  expect("a name of the container", ErrorCategory::kInvalidArgument, [](Artifact& a) {
    auto bias = a.graph.initializers.extract("fc1.bias");
    bias.key() = "pare.checksum";
    a.graph.initializers.insert(std::move(bias));
    a.graph.nodes.at(6).inputs.at(2) = "pare.checksum";
  });
  expect("texts without end", ErrorCategory::kInvalidArgument,
         [](Artifact& a) { a.provenance["long"].assign(std::size_t{17} << 20, 'x'); });
  expect("operator", verification, [](Artifact& a) { a.graph.nodes[1].op_type = "Conv9"; });
  expect("float graph", verification, [](Artifact& a) {
    a = {};
    a.graph = builtin("mlp", 0, 1, 2, 2, 2);
    a.preprocessing = {{0.0F}, {1.0F}};
  });
  expect("text that is no UTF-8", ErrorCategory::kInvalidArgument, [](Artifact& a) { a.class_names[0] = "\xff\xfe"; });
  expect("a name that is taken", ErrorCategory::kInvalidArgument, [](Artifact& a) {
    auto bias = a.graph.initializers.extract("fc1.bias");
    bias.key() = "fc1.weight.values";
    a.graph.initializers.insert(std::move(bias));
    for (Node& node : a.graph.nodes) {
      for (std::string& input : node.inputs) {
        input = input == "fc1.bias" ? "fc1.weight.values" : input;
      }
    }
  });
  EXPECT_NO_THROW(write_artifact(folder.path("sound.pare"), sound));
}

TEST(Artifact, MissingAndUnwritablePathsAreSaidSo) {
  const TemporaryFolder folder;
  const auto category_of = [](auto&& act) {
    try {
      act();
    } catch (const Error& error) {
      return error.category();
    }
    return ErrorCategory::kUsage;
  };
  EXPECT_EQ(category_of([&] { (void)read_artifact(folder.path("none.pare")); }), ErrorCategory::kNotFound);
  EXPECT_EQ(category_of([&] { (void)verify_artifact(folder.path("none.pare")); }), ErrorCategory::kNotFound);
  EXPECT_EQ(category_of([&] { write_artifact(folder.path("no/such/folder.pare"), testing::mlp_artifact(1, true)); }),
            ErrorCategory::kIo);
}

TEST(Artifact, IsAPlainSafetensorsFile) {
  // Read by the specification alone: length, header, offsets without holes, 64-byte alignment.
  const TemporaryFolder folder;
  write_artifact(folder.path("model.pare"), testing::odd_artifact(14, true));
  const std::string bytes = read_bytes(folder.path("model.pare"));
  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) {
    header_bytes = header_bytes << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  }
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  std::map<std::uint64_t, std::pair<std::uint64_t, std::string>> extents;
  for (const auto& entry : header.items()) {
    if (entry.key() != "__metadata__") {
      extents[entry.value().at("data_offsets").at(0)] = {entry.value().at("data_offsets").at(1), entry.key()};
    }
  }
  std::uint64_t next = 0;
  for (const auto& [begin, rest] : extents) {
    EXPECT_EQ(begin, next) << rest.second;
    next = rest.first;
    if (rest.second.rfind("pare.pad", 0) != 0) {
      EXPECT_EQ((8 + header_bytes + begin) % 64, 0U) << rest.second;
    }
  }
  EXPECT_EQ(8 + header_bytes + next, bytes.size());
}

}  // namespace
}  // namespace pare::graph
