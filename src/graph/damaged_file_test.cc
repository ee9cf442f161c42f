// Files that lost or changed bytes: verify_artifact finds it, read_artifact refuses it.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"
#include "pare/graph/artifact.h"
#include "pare/graph/testing/artifact_files.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/graph/testing/verdicts.h"

namespace pare::graph {
namespace {

using testing::has_finding;
using testing::is_refusal;
using testing::read_bytes;
using testing::read_category;
using testing::TemporaryFolder;
using testing::tiny_artifact;
using testing::to_text;
using testing::write_bytes;

TEST(Verify, FindsEveryFlippedBit) {
  const TemporaryFolder folder;
  const auto path = folder.path("flipped.pare");
  for (const bool two_four : {false, true}) {
    write_artifact(path, tiny_artifact(1, two_four));
    const std::string bytes = read_bytes(path);
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto put = [&](std::size_t at, char byte) {
      stream.seekp(static_cast<std::streamoff>(at));
      stream.put(byte).flush();
    };
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      put(bit / 8, static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8)));
      ASSERT_FALSE(verify_artifact(path).ok()) << "bit " << bit << " of " << bytes.size() * 8;
      ASSERT_TRUE(is_refusal(read_category(path))) << "bit " << bit;
      put(bit / 8, bytes[bit / 8]);
    }
    ASSERT_TRUE(verify_artifact(path).ok());
  }
}

TEST(Verify, NamesTheLayerWhoseTensorIsDamaged) {
  const TemporaryFolder folder;
  const auto path = folder.path("damaged.pare");
  for (const Artifact& artifact :
       {testing::odd_artifact(2, false), testing::odd_artifact(2, true), testing::dynamic_artifact(2)}) {
    write_artifact(path, artifact);
    const std::string sound = read_bytes(path);
    const format::SafetensorsFile file(path);
    std::set<std::string> layers;
    for (const format::TensorView& tensor : file.tensors()) {
      const auto offset =
          static_cast<std::size_t>(tensor.bytes.data() - file.tensors().front().bytes.data() +
                                   (static_cast<std::ptrdiff_t>(sound.find(
                                       std::string(reinterpret_cast<const char*>(file.tensors().front().bytes.data()),
                                                   file.tensors().front().bytes.size())))));
      const std::string layer = tensor.name.substr(0, tensor.name.find('.'));
      layers.insert(layer);
      for (const std::size_t at : {std::size_t{0}, tensor.bytes.size() / 2, tensor.bytes.size() - 1}) {
        std::string bytes = sound;
        bytes[offset + at] = static_cast<char>(bytes[offset + at] ^ 0x10);
        write_bytes(folder.path("copy.pare"), bytes);
        const VerifyReport report = verify_artifact(folder.path("copy.pare"));
        EXPECT_TRUE(has_finding(report, "", "checksum")) << to_text(report);
        EXPECT_TRUE(has_finding(report, layer, "checksum")) << tensor.name << "\n" << to_text(report);
        for (const VerifyFinding& finding : report.findings) {
          EXPECT_TRUE(finding.layer == layer || finding.layer.empty()) << to_text(report);
        }
      }
    }
    EXPECT_EQ(layers.size(), artifact.promises.size());
  }
}

TEST(Verify, FindsEveryTruncation) {
  const TemporaryFolder folder;
  const auto path = folder.path("short.pare");
  write_artifact(path, tiny_artifact(3, true));
  const std::string bytes = read_bytes(path);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    write_bytes(path, bytes.substr(0, length));
    ASSERT_FALSE(verify_artifact(path).ok()) << length;
    ASSERT_EQ(read_category(path), ErrorCategory::kCorruptData) << length;
  }
  for (const std::size_t surplus : {1U, 63U, 64U, 4096U}) {
    write_bytes(path, bytes + std::string(surplus, '\0'));
    ASSERT_FALSE(verify_artifact(path).ok()) << surplus;
    ASSERT_EQ(read_category(path), ErrorCategory::kCorruptData) << surplus;
  }
}

TEST(Verify, FindsExchangedBlocks) {
  const TemporaryFolder folder;
  const auto path = folder.path("random.pare");
  write_artifact(path, testing::small_artifact(4, true));
  const std::string sound = read_bytes(path);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    std::string bytes = sound;
    const std::size_t length = 1 + rng.below(64);
    const std::size_t from = rng.below(bytes.size() - length);
    for (std::size_t i = 0; i < length; ++i) {
      bytes[from + i] = static_cast<char>(rng.next());
    }
    if (bytes == sound) {
      continue;
    }
    write_bytes(path, bytes);
    ASSERT_FALSE(verify_artifact(path).ok()) << "seed " << seed;
    ASSERT_TRUE(is_refusal(read_category(path))) << "seed " << seed;
  }
}

TEST(Verify, OtherFilesAreNoArtifacts) {
  const TemporaryFolder folder;
  const auto path = folder.path("other.pare");
  const std::vector<std::string> contents{std::string(1, '\0'),        std::string(4096, '\0'),
                                          std::string(100000, '\xff'), "{}",
                                          "PK\x03\x04 something",      std::string("\x02\0\0\0\0\0\0\0{}", 10)};
  for (const std::string& content : contents) {
    write_bytes(path, content);
    EXPECT_FALSE(verify_artifact(path).ok());
    EXPECT_EQ(read_category(path), ErrorCategory::kCorruptData);
  }
  format::write_safetensors(path, {}, {});
  EXPECT_FALSE(verify_artifact(path).ok());
  EXPECT_EQ(read_category(path), ErrorCategory::kCorruptData);
}

}  // namespace
}  // namespace pare::graph
