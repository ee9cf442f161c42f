// Files whose checksums are right and that lie in another way: verify_artifact names layer and promise.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/graph/artifact.h"
#include "pare/graph/testing/artifact_files.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/graph/testing/verdicts.h"
#include "pare/graph/weights.h"

namespace pare::graph {
namespace {

using testing::ArtifactParts;
using testing::has_finding;
using testing::is_refusal;
using testing::put_together;
using testing::read_bytes;
using testing::read_category;
using testing::take_apart;
using testing::TemporaryFolder;
using testing::tiny_artifact;
using testing::to_text;

struct Lie {
  const char* what;
  const char* layer;
  const char* promise;
  ErrorCategory category;
  std::function<void(ArtifactParts&)> tell;
};

constexpr ErrorCategory kCorrupt = ErrorCategory::kCorruptData;
constexpr ErrorCategory kUnsupported = ErrorCategory::kUnsupported;

void expect_found(const Artifact& artifact, const std::vector<Lie>& lies) {
  const TemporaryFolder folder;
  const auto sound = folder.path("sound.pare");
  const auto path = folder.path("lying.pare");
  write_artifact(sound, artifact);
  {
    ArtifactParts parts = take_apart(sound);
    parts.restate_checksums();
    put_together(path, parts);
    ASSERT_EQ(read_bytes(sound), read_bytes(path)) << "taking apart and putting together must change nothing";
  }
  for (const Lie& lie : lies) {
    ArtifactParts parts = take_apart(sound);
    lie.tell(parts);
    put_together(path, parts);
    const VerifyReport report = verify_artifact(path);
    EXPECT_TRUE(has_finding(report, lie.layer, lie.promise)) << lie.what << "\n" << to_text(report);
    EXPECT_FALSE(has_finding(report, "", "checksum")) << lie.what;
    EXPECT_EQ(read_category(path), lie.category) << lie.what;
  }
}

// A layer's entry among the promises, by position of the weight.
nlohmann::json& promise(ArtifactParts& parts, std::size_t index) { return parts.description.at("layers").at(index); }

void set_code(ArtifactParts& parts, const std::string& tensor, std::size_t index, std::int8_t code) {
  parts.tensor(tensor).bytes.at(index) = static_cast<std::byte>(code);
  parts.restate_checksums();
}

void set_float(ArtifactParts& parts, const std::string& tensor, std::size_t index, float value) {
  std::memcpy(parts.tensor(tensor).bytes.data() + index * sizeof(float), &value, sizeof(float));
  parts.restate_checksums();
}

TEST(Verify, FindsLiesAboutPatternsAndZeros) {
  Artifact artifact = testing::small_artifact(20, true);
  // conv2 promises 2:4 but is stored dense; fc1 and fc2 are stored 2:4; conv1 is dense.
  artifact.graph.initializers.at("conv2.weight") = decode_dense(artifact.graph.initializers.at("conv2.weight"));
  expect_found(
      artifact,
      {{"a wrong count of zeros, dense", "conv1", "zeros", kCorrupt,
        [](ArtifactParts& p) { promise(p, 0)["zeros"] = 7; }},
       {"a wrong count of zeros, packed", "fc1", "zeros", kCorrupt,
        [](ArtifactParts& p) { promise(p, 2)["zeros"] = promise(p, 2)["zeros"].get<int>() + 1; }},
       {"a zero that is none", "fc2", "zeros", kCorrupt,
        [](ArtifactParts& p) {
          auto& bytes = p.tensor("fc2.weight.values").bytes;
          const auto kept = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
          set_code(p, "fc2.weight.values", static_cast<std::size_t>(kept - bytes.begin()), 0);
        }},
       {"dense codes that break the pattern", "conv2", "pattern", kCorrupt,
        [](ArtifactParts& p) {
          for (std::size_t i = 0; i < 8; ++i) {
            set_code(p, "conv2.weight", i * 9, 1);  // one tap, all input channels
          }
        }},
       {"a pattern that the encoding contradicts", "fc1", "pattern", kCorrupt,
        [](ArtifactParts& p) { promise(p, 2)["pattern"] = "dense"; }},
       {"an unknown pattern", "conv1", "pattern", kUnsupported,
        [](ArtifactParts& p) { promise(p, 0)["pattern"] = "1:2"; }},
       {"positions that do not ascend", "fc1", "pattern", kCorrupt,
        [](ArtifactParts& p) {
          p.tensor("fc1.weight.indices").bytes.at(3) = std::byte{0x11};
          p.restate_checksums();
        }},
       {"equal positions", "fc2", "pattern", kCorrupt,
        [](ArtifactParts& p) {
          p.tensor("fc2.weight.indices").bytes.back() = std::byte{0xFF};
          p.restate_checksums();
        }},
       {"a promise too few", "", "structure", kCorrupt, [](ArtifactParts& p) { p.description["layers"].erase(0); }},
       {"a promise of no weight", "", "structure", kCorrupt,
        [](ArtifactParts& p) { promise(p, 0)["weight"] = "conv9.weight"; }}});
}

TEST(Verify, FindsPatternsThatNeverHeld) {
  expect_found(
      testing::odd_artifact(26, false),
      {{"a convolution's", "conv1", "pattern", kCorrupt, [](ArtifactParts& p) { promise(p, 0)["pattern"] = "2:4"; }},
       {"a matrix's", "fc2", "pattern", kCorrupt, [](ArtifactParts& p) { promise(p, 4)["pattern"] = "2:4"; }}});
}

TEST(Verify, FindsLiesAboutScalesAndRanges) {
  expect_found(
      testing::small_artifact(21, true),
      {{"scale 0", "conv2", "scale", kCorrupt, [](ArtifactParts& p) { set_float(p, "conv2.weight.scales", 3, 0.0F); }},
       {"negative scale", "fc1", "scale", kCorrupt,
        [](ArtifactParts& p) { set_float(p, "fc1.weight.scales", 0, -1.0F); }},
       {"scale NaN", "fc2", "scale", kCorrupt,
        [](ArtifactParts& p) { set_float(p, "fc2.weight.scales", 9, std::numeric_limits<float>::quiet_NaN()); }},
       {"infinite scale", "conv1", "scale", kCorrupt,
        [](ArtifactParts& p) { set_float(p, "conv1.weight.scales", 7, std::numeric_limits<float>::infinity()); }},
       {"denormal scale", "conv1", "scale", kCorrupt,
        [](ArtifactParts& p) { set_float(p, "conv1.weight.scales", 7, 1e-40F); }},
       {"scale of a value", "fc1", "scale", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["values"]["fc1.out"]["quantization"]["scale"] = 0; }},
       {"zero point of a value", "fc1", "scale", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["values"]["fc1.out"]["quantization"]["zero_point"] = 300; }},
       {"zero point of a weight", "fc1", "scale", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.weight")["quantization"]["zero_point"] = 3; }},
       {"axis of a weight", "fc1", "scale", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.weight")["quantization"]["axis"] = 1; }},
       {"code -128, dense", "conv1", "range", kCorrupt,
        [](ArtifactParts& p) { set_code(p, "conv1.weight", 11, -128); }},
       {"code -128, packed", "conv2", "range", kCorrupt,
        [](ArtifactParts& p) { set_code(p, "conv2.weight.values", 0, -128); }},
       {"bias beyond 2^30", "fc2", "range", kCorrupt,
        [](ArtifactParts& p) {
          p.tensor("fc2.bias").bytes[3] = std::byte{0x7F};
          p.restate_checksums();
        }},
       {"deviation 0", "", "range", kCorrupt, [](ArtifactParts& p) { p.description["preprocessing"]["std"] = {0}; }},
       {"two means", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["preprocessing"]["mean"] = {0, 0};
        }},
       {"a class name too many", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.description["class_names"].push_back("more"); }}});
}

TEST(Verify, FindsLiesAboutInt4Weights) {
  const auto set_byte = [](const std::string& tensor, std::size_t at, int byte) {
    return [=](ArtifactParts& p) {
      p.tensor(tensor).bytes[at] = static_cast<std::byte>(byte);
      p.restate_checksums();
    };
  };
  expect_found(
      testing::dynamic_artifact(22),
      {{"an infinite scale", "up", "pattern", kCorrupt, set_byte("up.weight.scales", 1, 0x7C)},
       {"positions that descend", "sparse", "pattern", kCorrupt, set_byte("sparse.weight.indices", 0, 0x11)},
       {"other groups", "up", "shape", kCorrupt, [](ArtifactParts& p) { p.initializer("up.weight")["group"] = 64; }},
       {"impossible groups", "up", "shape", kCorrupt,
        [](ArtifactParts& p) { p.initializer("up.weight")["group"] = 7; }},
       {"groups left out", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("up.weight").erase("group"); }},
       {"groups of int8", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("dynamic.weight")["group"] = 32; }},
       {"2:4 said to be dense", "sparse", "shape", kCorrupt,
        [](ArtifactParts& p) { p.initializer("sparse.weight")["encoding"] = "int4"; }},
       {"dense said to be 2:4", "up", "pattern", kCorrupt,
        [](ArtifactParts& p) { p.description["layers"][0]["pattern"] = "2:4"; }},
       {"zeros", "sparse", "zeros", kCorrupt, [](ArtifactParts& p) { p.description["layers"][1]["zeros"] = 1; }},
       {"a code that was 0", "up", "zeros", kCorrupt, [](ArtifactParts& p) {
          auto& byte = p.tensor("up.weight.values").bytes[0];
          byte = byte == std::byte{0} ? std::byte{0x11} : std::byte{0};
          p.restate_checksums();
        }}});
}

TEST(Verify, FindsLiesAboutShapesAndStructure) {
  const auto set_shape = [](const std::string& initializer, nlohmann::json shape) {
    return [=](ArtifactParts& p) { p.initializer(initializer)["shape"] = shape; };
  };
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  expect_found(
      testing::small_artifact(22, true),
      {{"shape of a weight", "conv1", "shape", kCorrupt, set_shape("conv1.weight", {8, 1, 9, 1})},
       {"shape of a packed weight", "fc1", "shape", kCorrupt, set_shape("fc1.weight", {16, 140})},
       {"shape whose packed bytes are the same", "fc1", "shape", kCorrupt,
        [](ArtifactParts& p) {
          auto& shape = p.initializer("fc1.weight")["shape"];
          shape = {shape[0], shape[1].get<int>() - 1};
        }},
       {"zero extent", "conv2", "shape", kCorrupt, set_shape("conv2.weight", {16, 0, 3, 3})},
       {"negative extent", "conv2", "shape", kCorrupt, set_shape("conv2.weight", {-16, -8, 3, 3})},
       {"absurd extents", "conv2", "shape", kCorrupt, set_shape("conv2.weight", {huge, huge, huge, huge})},
       {"rank 0", "conv2", "shape", kCorrupt, set_shape("conv2.weight", nlohmann::json::array())},
       {"rank 3, packed", "conv2", "shape", kCorrupt, set_shape("conv2.weight", {16, 8, 9})},
       {"rank 100000", "conv2", "shape", kCorrupt, set_shape("conv2.weight", std::vector<int>(100000, 1))},
       {"shape of a bias", "fc1", "shape", kCorrupt,
        [](ArtifactParts& p) {
          p.initializer("fc1.bias")["shape"] = {4, 4};
          p.tensor("fc1.bias").shape = {4, 4};
        }},
       {"shape of a value", "pool2", "shape", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["pool2.out"]["shape"] = {-1, 16, 3, 4};
        }},
       {"absurd image", "", "shape", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["input"]["shape"] = {-1, 1, 1 << 20, 1 << 20};
        }},
       {"image of rank 2", "quantize_input", "shape", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["input"]["shape"] = {-1, 144};
        }},
       {"element type", "fc1", "structure", kCorrupt,
        [](ArtifactParts& p) { p.tensor("fc1.weight.values").dtype = DType::kU8; }},
       {"element type in the description", "fc1", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["dtype"] = "F32"; }},
       {"unknown element type", "", "structure", kUnsupported,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["dtype"] = "F16"; }},
       {"unknown encoding", "", "structure", kUnsupported,
        [](ArtifactParts& p) { p.initializer("fc1.weight")["encoding"] = "4:8"; }},
       {"a tensor missing", "fc1", "structure", kCorrupt,
        [](ArtifactParts& p) {
          std::erase_if(p.tensors, [](const testing::OwnedTensor& t) { return t.name == "fc1.weight.indices"; });
        }},
       {"a tensor too many", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.tensors.push_back({"hidden", DType::kU8, {1}, {std::byte{1}}});
        }},
       {"a checksum missing", "fc1", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["xxh3"].clear(); }},
       {"a wrong checksum of a tensor", "fc1", "checksum", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["xxh3"]["fc1.bias"] = "0123456789abcdef"; }},
       {"a checksum that is none", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["xxh3"]["fc1.bias"] = "0x23456789abcdef"; }},
       {"a checksum of nothing", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.initializer("fc1.bias")["xxh3"]["nothing"] = "0123456789abcdef"; }},
       {"nodes out of order", "pool1", "structure", kCorrupt,
        [](ArtifactParts& p) { std::swap(p.node(1), p.node(2)); }},
       {"unknown operator", "pool1", "structure", kUnsupported,
        [](ArtifactParts& p) { p.node(2)["op_type"] = "MinPool"; }},
       {"stride 0", "conv1", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.node(1)["attributes"]["strides"] = {{"ints", {0, 0}}};
        }},
       {"padding of a whole screen", "conv1", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.node(1)["attributes"]["pads"] = {{"ints", {1 << 20, 0, 0, 0}}};
        }},
       {"an attribute of another type", "conv1", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.node(1)["attributes"]["pads"] = {{"floats", {1.0, 1.0, 1.0, 1.0}}};
        }},
       {"a cycle", "conv1", "structure", kCorrupt, [](ArtifactParts& p) { p.node(1)["inputs"][0] = "fc1.out"; }},
       {"logits in the middle", "fc2", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["fc1.out"].erase("quantization");
          p.description["graph"]["values"]["fc1.out"]["dtype"] = "F32";
        }},
       {"logits that are codes", "", "shape", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["logits"]["quantization"] = {{"scale", 0.5}, {"zero_point", 0}};
          p.description["graph"]["values"]["logits"]["dtype"] = "U8";
        }},
       {"no nodes", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["nodes"] = nlohmann::json::array(); }},
       {"too many nodes", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["nodes"] = std::vector<nlohmann::json>(kMaxNodes + 1, p.node(0));
        }},
       {"a newer version", "", "structure", kUnsupported,
        [](ArtifactParts& p) { p.metadata["format_version"] = std::to_string(kArtifactFormatVersion + 1); }},
       {"a version of no sense", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.metadata["format_version"] = "1x"; }},
       {"version 0", "", "structure", kCorrupt, [](ArtifactParts& p) { p.metadata["format_version"] = "0"; }},
       {"version beyond int", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.metadata["format_version"] = "99999999999999"; }},
       {"no version", "", "structure", kCorrupt, [](ArtifactParts& p) { p.metadata.erase("format_version"); }},
       {"another format", "", "structure", kCorrupt, [](ArtifactParts& p) { p.metadata["format"] = "pt"; }},
       {"no description", "", "structure", kCorrupt, [](ArtifactParts& p) { p.metadata.erase("pare"); }},
       {"further metadata", "", "structure", kCorrupt, [](ArtifactParts& p) { p.metadata["more"] = "x"; }},
       {"bytes cut another way", "fc1", "shape", kCorrupt,
        [](ArtifactParts& p) {
          std::swap(p.tensor("fc1.weight.values").shape[0], p.tensor("fc1.weight.values").shape[1]);
        }},
       {"a value without shape", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["values"]["fc1.out"]["shape"] = nlohmann::json::array(); }},
       {"an extent that wraps to the batch's", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["fc1.out"]["shape"][0] = std::numeric_limits<std::uint64_t>::max();
        }},
       {"a zero point that wraps to a good one", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["graph"]["values"]["fc1.out"]["quantization"]["zero_point"] = (std::int64_t{1} << 32) + 3;
        }},
       {"a scale beyond float32", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["values"]["fc1.out"]["quantization"]["scale"] = 1e39; }},
       {"a list that is an object", "", "structure", kCorrupt,
        [](ArtifactParts& p) {
          p.description["preprocessing"]["mean"] = {{"x", 0.5}};
        }},
       {"an object that is a list", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.node(0)["attributes"] = nlohmann::json::array(); }},
       {"an initializer that cannot be printed", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.description["graph"]["initializers"]["\x1b"] = p.initializer("fc1.bias"); }},
       {"an operator that cannot be printed", "", "structure", kCorrupt,
        [](ArtifactParts& p) { p.node(2)["op_type"] = "\x1b[2J"; }},
       {"a promise that cannot be printed", "", "structure", kCorrupt,
        [](ArtifactParts& p) { promise(p, 0)["pattern"] = "\x1b[2J"; }},
       {"an unknown key", "", "structure", kCorrupt, [](ArtifactParts& p) { p.description["more"] = 1; }},
       {"an unknown key of a node", "", "structure", kCorrupt, [](ArtifactParts& p) { p.node(1)["more"] = 1; }},
       {"a key missing", "", "structure", kCorrupt, [](ArtifactParts& p) { p.description["graph"].erase("output"); }}});
}

TEST(Verify, FindsEveryProblemNotOnlyTheFirst) {
  const TemporaryFolder folder;
  write_artifact(folder.path("sound.pare"), testing::small_artifact(23, true));
  ArtifactParts parts = take_apart(folder.path("sound.pare"));
  set_float(parts, "conv2.weight.scales", 0, 0.0F);
  set_code(parts, "fc1.weight.values", 0, -128);
  promise(parts, 3)["zeros"] = 0;
  put_together(folder.path("lying.pare"), parts);
  const VerifyReport report = verify_artifact(folder.path("lying.pare"));
  EXPECT_TRUE(has_finding(report, "conv2", "scale")) << to_text(report);
  EXPECT_TRUE(has_finding(report, "fc1", "range")) << to_text(report);
  EXPECT_TRUE(has_finding(report, "fc2", "zeros")) << to_text(report);
}

TEST(Verify, DescriptionsThatAreNoJsonAreRefused) {
  const TemporaryFolder folder;
  write_artifact(folder.path("sound.pare"), tiny_artifact(24, true));
  const ArtifactParts parts = take_apart(folder.path("sound.pare"));
  std::string twice = parts.description.dump();
  twice.insert(1, "\"class_names\":[],");
  const std::vector<std::string> texts{"",
                                       "{",
                                       "null",
                                       "[]",
                                       "1e999",
                                       "{\"graph\":1e999}",
                                       std::string(1 << 20, '['),
                                       [] {
                                         std::string text;
                                         for (int i = 0; i < 100000; ++i) {
                                           text += "{\"a\":";
                                         }
                                         return text;
                                       }(),
                                       parts.description.dump() + std::string(17 << 20, ' '),
                                       [] {
                                         std::string text = "[{}";
                                         for (int i = 0; i < 1 << 20; ++i) {
                                           text += ",{}";
                                         }
                                         return text + "]";
                                       }(),
                                       parts.description.dump() + "x",
                                       twice};
  const auto path = folder.path("text.pare");
  for (const std::string& text : texts) {
    put_together(path, parts, &text);
    const VerifyReport report = verify_artifact(path);
    ASSERT_EQ(report.findings.size(), 1U) << text.substr(0, 50);
    EXPECT_EQ(report.findings[0].promise, "structure");
    EXPECT_EQ(read_category(path), kCorrupt) << text.substr(0, 50);
  }
}

// Every part of the description, replaced by every kind of nonsense: whatever verify says, read says the same.
TEST(Verify, AgreesWithReadOnEveryNonsense) {
  const TemporaryFolder folder;
  const auto path = folder.path("nonsense.pare");
  write_artifact(folder.path("sound.pare"), tiny_artifact(25, true));
  ArtifactParts parts = take_apart(folder.path("sound.pare"));
  const nlohmann::json sound = parts.description;
  const std::vector<nlohmann::json> nonsense{nullptr,
                                             true,
                                             "",
                                             "x",
                                             -1,
                                             0,
                                             1,
                                             0.5,
                                             1e300,
                                             std::numeric_limits<std::int64_t>::min(),
                                             std::numeric_limits<std::uint64_t>::max(),
                                             nlohmann::json::array(),
                                             nlohmann::json::object(),
                                             {1, 2, 3},
                                             {{"x", 1}}};
  std::set<std::string> tried;
  int refused = 0;
  int accepted = 0;
  const nlohmann::json leaves = sound.flatten();
  for (const auto& entry : leaves.items()) {
    // The entry itself and everything that contains it.
    for (nlohmann::json::json_pointer pointer(entry.key());
         !pointer.empty() && tried.insert(pointer.to_string()).second; pointer = pointer.parent_pointer()) {
      for (const nlohmann::json& replacement : nonsense) {
        parts.description = sound;
        if (parts.description[pointer] == replacement) {
          continue;
        }
        parts.description[pointer] = replacement;
        put_together(path, parts);
        const bool verified = verify_artifact(path).ok();
        bool read = true;
        try {
          (void)read_artifact(path);
        } catch (const Error& error) {
          read = false;
          ASSERT_TRUE(is_refusal(error.category())) << pointer << " " << replacement << ": " << error.what();
        }
        ASSERT_EQ(verified, read) << pointer << " " << replacement;
        (read ? accepted : refused)++;
      }
    }
  }
  // Free texts, means, deviations and output scales may be anything that makes sense.
  EXPECT_GT(refused, 20 * accepted);
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace pare::graph
