#include "pare/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

std::string reason(int error_number) { return std::generic_category().message(error_number); }

[[noreturn]] void throw_io(const std::string& what, const fs::path& path, int error_number) {
  std::string remedy;
  if (error_number == ENOSPC || error_number == EDQUOT) {
    remedy = "free some space or choose another folder";
  } else if (error_number == EACCES || error_number == EPERM || error_number == EROFS) {
    remedy = "check the permissions";
  }
  throw Error(ErrorCategory::kIo, str_cat(what, ": ", reason(error_number)), path.string(), remedy);
}

// Closes on every way out; the writers below close by hand, because there a failing close is an error.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

int open_for_reading(const fs::path& path) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      throw Error(ErrorCategory::kNotFound, "no such file", path.string());
    }
    throw_io("cannot open", path, errno);
  }
  return descriptor;
}

struct stat status_of(int descriptor, const fs::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) throw_io("cannot examine", path, errno);
  return status;
}

// A rename is on disk only once its folder is. Some file systems cannot sync a folder (EINVAL); there nothing is lost
// by going on.
void sync_folder(const fs::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() < 0) throw_io("cannot open the folder", folder, errno);
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) throw_io("cannot sync the folder", folder, errno);
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// Where the bytes finally go: through a symbolic link to its target, and never over a device, pipe or folder.
fs::path resolve_target(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw Error(ErrorCategory::kIo, fs::is_directory(status) ? "is a folder" : "is not a regular file", path.string(),
                "name a file to write");
  }
  if (fs::exists(status) && fs::is_symlink(fs::symlink_status(path, ignored))) {
    const fs::path target = fs::canonical(path, ignored);
    if (!target.empty()) return target;
  }
  if (!path.has_filename()) throw Error(ErrorCategory::kIo, "names no file", path.string(), "name a file to write");
  return path;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor descriptor(open_for_reading(path));
  const struct stat status = status_of(descriptor.get(), path);
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCategory::kIo, S_ISDIR(status.st_mode) ? "is a folder" : "is not a regular file", path.string());
  }
  if (status.st_size == 0) throw Error(ErrorCategory::kCorruptData, "the file is empty", path.string());
  size_ = static_cast<std::size_t>(status.st_size);
  void* const address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (address == MAP_FAILED) throw_io("cannot map", path, errno);
  data_ = std::shared_ptr<const std::byte>(
      static_cast<const std::byte*>(address),
      [size = size_](const std::byte* data) { ::munmap(const_cast<std::byte*>(data), size); });
}

std::string read_text_file(const fs::path& path, std::size_t max_bytes) {
  constexpr std::size_t kChunkBytes = std::size_t{64} << 10;
  const Descriptor descriptor(open_for_reading(path));
  if (S_ISDIR(status_of(descriptor.get(), path).st_mode)) {
    throw Error(ErrorCategory::kIo, "is a folder", path.string());
  }
  std::string text;
  for (;;) {
    const std::size_t size = text.size();
    text.resize(size + kChunkBytes);
    const ssize_t got = ::read(descriptor.get(), text.data() + size, kChunkBytes);
    text.resize(size + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return text;
    if (got < 0 && errno != EINTR) throw_io("cannot read", path, errno);
    if (text.size() > max_bytes) {
      throw Error(ErrorCategory::kCorruptData, str_cat("longer than ", max_bytes, " bytes"), path.string());
    }
  }
}

AtomicFileWriter::AtomicFileWriter(const fs::path& path) : path_(resolve_target(path)) {
  static std::atomic<unsigned> counter{0};
  // A process of the same id may have been killed here before: its leftover is passed over, not written into.
  constexpr int kMostTries = 1000;
  for (int attempt = 0; attempt < kMostTries; ++attempt) {
    temporary_path_ = path_;
    temporary_path_ += str_cat(".", ::getpid(), "-", counter.fetch_add(1), kTemporarySuffix);
    descriptor_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) return;
    if (errno != EEXIST && errno != EINTR) break;
  }
  throw_io("cannot write", path_, errno);
}

AtomicFileWriter::~AtomicFileWriter() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_path_.c_str());
  }
}

void AtomicFileWriter::write(std::span<const std::byte> bytes) {
  PARE_CHECK(descriptor_ >= 0);
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_io("cannot write", path_, errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFileWriter::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFileWriter::commit() {
  PARE_CHECK(descriptor_ >= 0);
  if (::fsync(descriptor_) != 0) throw_io("cannot write", path_, errno);
  // Network file systems report a full disk as late as here.
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    const int error_number = errno;
    ::unlink(temporary_path_.c_str());
    throw_io("cannot write", path_, error_number);
  }
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    const int error_number = errno;
    ::unlink(temporary_path_.c_str());
    throw_io("cannot replace", path_, error_number);
  }
  sync_folder(folder_of(path_));
}

bool file_exists(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  AtomicFileWriter writer(path);
  writer.write(contents);
  writer.commit();
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (std::error_code ignored; fs::exists(path, ignored) && !fs::is_directory(path, ignored)) {
    throw Error(ErrorCategory::kIo, "cannot create the folder: a file is in the way", path.string());
  }
  if (error) throw_io("cannot create the folder", path, error.value());
  if (::access(path.c_str(), W_OK | X_OK) != 0) throw_io("cannot write into the folder", path, errno);
}

}  // namespace pare
