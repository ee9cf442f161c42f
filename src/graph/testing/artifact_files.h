// Temporary folders, and artifacts that were tampered with: the container is written anew, so its checksum is right and
// only the description or a tensor lies. Test-only.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "pare/base/checksum.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"

namespace pare::graph::testing {

// Removed with all that is in it. In memory where the system has a place for that: tests write thousands of files, and
// each that is written atomically waits for the disk otherwise.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    for (const std::filesystem::path& parent :
         {std::filesystem::path("/dev/shm"), std::filesystem::temp_directory_path()}) {
      std::string name = (parent / "pare-test-XXXXXX").string();
      if (::mkdtemp(name.data()) != nullptr) {
        folder_ = name;
        return;
      }
    }
    throw std::runtime_error("no place for temporary files");
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::filesystem::path path(const std::string& file) const { return folder_ / file; }
  [[nodiscard]] bool is_empty() const { return std::filesystem::is_empty(folder_); }

 private:
  std::filesystem::path folder_;
};

[[nodiscard]] inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

struct OwnedTensor {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;
  std::vector<std::byte> bytes;
};

// All parts of an artifact's file, to be edited.
struct ArtifactParts {
  std::map<std::string, std::string> metadata;
  nlohmann::json description;
  std::vector<OwnedTensor> tensors;

  [[nodiscard]] OwnedTensor& tensor(const std::string& name) {
    for (OwnedTensor& item : tensors) {
      if (item.name == name) {
        return item;
      }
    }
    throw std::runtime_error("no tensor " + name);
  }
  [[nodiscard]] nlohmann::json& initializer(const std::string& name) {
    return description.at("graph").at("initializers").at(name);
  }
  [[nodiscard]] nlohmann::json& node(std::size_t index) { return description.at("graph").at("nodes").at(index); }

  // Makes the description's checksums those of the tensors.
  void restate_checksums() {
    for (auto& item : description.at("graph").at("initializers")) {
      for (auto& entry : item.at("xxh3").items()) {
        static constexpr char kDigits[] = "0123456789abcdef";
        const std::uint64_t sum = xxh3_64(tensor(entry.key()).bytes);
        std::string text;
        for (int shift = 60; shift >= 0; shift -= 4) {
          text += kDigits[sum >> shift & 15U];
        }
        entry.value() = text;
      }
    }
  }
};

[[nodiscard]] inline ArtifactParts take_apart(const std::filesystem::path& path) {
  const format::SafetensorsFile file(path);
  ArtifactParts parts;
  parts.metadata = file.metadata();
  parts.description = nlohmann::json::parse(parts.metadata.at("pare"));
  for (const format::TensorView& view : file.tensors()) {
    parts.tensors.push_back({view.name, view.dtype, view.shape, {view.bytes.begin(), view.bytes.end()}});
  }
  return parts;
}

// `description` replaces metadata["pare"]; `metadata` otherwise as it is.
inline void put_together(const std::filesystem::path& path, const ArtifactParts& parts,
                         const std::string* raw_description = nullptr) {
  std::map<std::string, std::string> metadata = parts.metadata;
  if (metadata.contains("pare")) {
    metadata["pare"] = raw_description != nullptr ? *raw_description : parts.description.dump();
  }
  std::vector<format::TensorView> views;
  for (const OwnedTensor& item : parts.tensors) {
    views.push_back({item.name, item.dtype, item.shape, item.bytes});
  }
  format::write_safetensors(path, metadata, views);
}

}  // namespace pare::graph::testing
