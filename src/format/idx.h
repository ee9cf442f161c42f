// IDX files (the MNIST format), plain or gzip-compressed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "pare/format/dtype.h"

namespace pare::format {

// Unsigned bytes, row-major. Magic 0x00 0x00 0x08 <rank>, then big-endian extents, then the data.
struct IdxArray {
  Shape shape;
  std::vector<std::uint8_t> data;
};

// Throws kNotFound, kIo; kCorruptData for a wrong magic, an element type other than u8, extents of 0 or beyond 2^31
// elements in all, missing or surplus bytes, or a broken gzip stream. Memory is claimed as data arrives, not as the
// header promises.
[[nodiscard]] IdxArray read_idx(const std::filesystem::path& path);

struct LabelledImages {
  IdxArray images;  // [count, height, width]
  IdxArray labels;  // [count]
};

// Both files, checked against each other: ranks 3 and 1, equal counts.
[[nodiscard]] LabelledImages read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels);

}  // namespace pare::format
