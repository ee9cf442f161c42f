// A run that takes a second: small synthetic images in IDX files, and a recipe for them. For tests only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "pare/base/testing.h"

namespace pare::testing {

// IDX files of `count` images of 8 x 8 pixels in 4 classes: noise, and one bright quarter that is the class.
void write_tiny_images(const std::filesystem::path& folder, const std::string& name, int count, std::uint64_t seed);

// The [model] and [data] of a recipe over write_tiny_images' "train" and "test".
[[nodiscard]] std::string tiny_header();

// All of it: dense, sparse (2:4, cubic), qat; `epochs` for each stage.
[[nodiscard]] std::string tiny_recipe(const std::string& epochs = "1");

// A folder with data and tiny.toml.
class TinyRun {
 public:
  explicit TinyRun(const std::string& recipe = tiny_recipe());
  [[nodiscard]] std::filesystem::path recipe() const { return folder_ / "tiny.toml"; }
  [[nodiscard]] std::filesystem::path out(const std::string& name = "out") const { return folder_ / name; }
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  void write_recipe(const std::string& text) const;

 private:
  TempDir folder_;
};

}  // namespace pare::testing
