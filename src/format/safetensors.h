// The safetensors container: 8 bytes of header length (little endian), a JSON header, the tensors.
//
// Artifacts and checkpoints are such files, so that any safetensors reader opens them. Beyond the specification pare
// keeps every tensor on a 64-byte boundary of the file: the header is padded with spaces, and between tensors stand
// filler tensors named "pare.pad.N" (U8, all 0), because the specification allows no holes. The last tensor is
// "pare.checksum" (I64, shape [1]): XXH3-64 of every byte of the file before it. So no bit of the file is unprotected.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pare/format/dtype.h"

namespace pare::format {

struct TensorView {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;
  std::span<const std::byte> bytes;
};

// Writes atomically. `metadata` becomes "__metadata__". Tensors are written in the order given; names must be unique
// and must not start with "pare.pad" or "pare.checksum". Throws kIo.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata,
                       std::span<const TensorView> tensors);

// A mapped file whose header, extents, fillers and alignment were validated. Views stay valid while `owner` lives.
class SafetensorsFile {
 public:
  enum class Checksum { kVerify, kSkip };

  // Throws kNotFound, kIo, or kCorruptData that says what contradicts what: truncated, header too long, offsets that
  // overlap or leave the file, a shape that does not match its bytes, a wrong checksum.
  // kSkip leaves only the file's checksum unverified, for a caller that wants to name the damaged tensor itself.
  explicit SafetensorsFile(const std::filesystem::path& path, Checksum checksum = Checksum::kVerify);

  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  // In file order, without fillers and checksum.
  [[nodiscard]] const std::vector<TensorView>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] bool contains(const std::string& name) const { return by_name_.contains(name); }
  // Throws kCorruptData with the nearest names.
  [[nodiscard]] const TensorView& tensor(const std::string& name) const;
  [[nodiscard]] const std::shared_ptr<const std::byte>& owner() const noexcept { return owner_; }
  [[nodiscard]] std::size_t file_bytes() const noexcept { return file_bytes_; }
  [[nodiscard]] bool checksum_matches() const noexcept { return checksum_matches_; }

 private:
  std::shared_ptr<const std::byte> owner_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t> by_name_;
  std::size_t file_bytes_ = 0;
  bool checksum_matches_ = false;
};

}  // namespace pare::format
