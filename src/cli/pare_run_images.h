// Images and labels from files, as a session takes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pare/format/dtype.h"

namespace pare::cli {

struct Images {
  std::int64_t count = 0;
  std::vector<std::uint8_t> pixels;  // [count] images of the shape asked for
};

// IDX(.gz) of rank 3 ([count, h, w], one channel) or 4 ([count, c, h, w]); a PGM (P5, at most 255 grey levels); or raw
// bytes, exactly one image. What it is follows from the contents. Throws kNotFound, kIo, kCorruptData; kInvalidArgument
// if the images do not have the shape [c, h, w].
[[nodiscard]] Images read_images(const std::filesystem::path& path, const Shape& shape);

// IDX(.gz) of rank 1. Throws as above; kInvalidArgument if there are not `count` labels.
[[nodiscard]] std::vector<std::uint8_t> read_labels(const std::filesystem::path& path, std::int64_t count);

struct TestSet {
  std::filesystem::path images;
  std::filesystem::path labels;
};

// Names for known_test_set: "fashion-mnist".
[[nodiscard]] std::vector<std::string> known_test_set_names();

// The test files of a known set, found under $PARE_DATA (files there, or in a folder of the set's name) or where its
// Debian package puts them. Throws kNotFound that says where it looked and which package to install, kInvalidArgument
// for an unknown name.
[[nodiscard]] TestSet known_test_set(const std::string& name);

}  // namespace pare::cli
