// An artifact as a file that goes away with the test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/graph/artifact.h"

namespace pare::runtime::testing {

class TemporaryArtifact {
 public:
  explicit TemporaryArtifact(const graph::Artifact& artifact) { graph::write_artifact(path(), artifact); }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "model.pare"; }

 private:
  pare::testing::TempDir folder_;
};

// Raw images, `elems` pixels each: some random, every fourth one flat, as saturation is where mistakes hide.
inline std::vector<std::uint8_t> random_images(std::uint64_t seed, std::int64_t count, std::int64_t elems) {
  Rng rng(seed, 77);
  std::vector<std::uint8_t> images(static_cast<std::size_t>(count * elems));
  for (std::int64_t image = 0; image < count; ++image) {
    const auto flat = static_cast<std::uint8_t>(rng.below(2) * 255);
    for (std::int64_t i = 0; i < elems; ++i) {
      images[static_cast<std::size_t>(image * elems + i)] =
          image % 4 == 3 ? flat : static_cast<std::uint8_t>(rng.below(256));
    }
  }
  return images;
}

}  // namespace pare::runtime::testing
