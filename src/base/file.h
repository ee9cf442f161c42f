// Files: whole reads, read-only maps, and writes that leave either the old file or the new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

// A whole file mapped read-only. The bytes stay valid while any copy of `bytes_owner()` lives.
// Throws kNotFound, kIo; kCorruptData for an empty file (nothing that pare reads may be empty).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_.get(), size_}; }
  [[nodiscard]] const std::shared_ptr<const std::byte>& bytes_owner() const noexcept { return data_; }

 private:
  std::shared_ptr<const std::byte> data_;
  std::size_t size_ = 0;
};

// Throws kNotFound, kIo, or kCorruptData if the file is longer than `max_bytes`.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         std::size_t max_bytes = std::size_t{64} << 20);

// What the names of AtomicFileWriter's temporary files end with. A process that is killed leaves them behind.
inline constexpr std::string_view kTemporarySuffix = ".pare-tmp";

// Collects a file under a temporary name beside `path`; commit() syncs it, renames it over `path` and syncs the folder.
// Without commit() the destructor removes the temporary file and `path` is untouched. A symbolic link is written
// through; a folder, device or pipe is refused. Throws kIo (disk full included). Not thread-safe; nothing is called
// after commit().
class AtomicFileWriter {
 public:
  explicit AtomicFileWriter(const std::filesystem::path& path);
  ~AtomicFileWriter();
  AtomicFileWriter(const AtomicFileWriter&) = delete;
  AtomicFileWriter& operator=(const AtomicFileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_path_;
  int descriptor_ = -1;
};

// Whether something of that name is there and can be looked at.
[[nodiscard]] bool file_exists(const std::filesystem::path& path);

void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Creates the folder and its parents. Throws kIo with the reason (not writable, a file is in the way).
void make_directories(const std::filesystem::path& path);

}  // namespace pare
