#include "pare/format/idx.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::format {
namespace {

constexpr std::int64_t kMostElements = std::int64_t{1} << 31;
constexpr std::uint8_t kTypeU8 = 0x08;

// Bytes of a plain or gzip-compressed file, one after the other.
class ByteSource {
 public:
  explicit ByteSource(const std::filesystem::path& path) : name_(path.string()) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      if (errno == ENOENT || errno == ENOTDIR) throw Error(ErrorCategory::kNotFound, "no such file", name_);
      throw Error(ErrorCategory::kIo, "cannot open: " + std::generic_category().message(errno), name_);
    }
    file_.reset(gzdopen(descriptor, "rb"));
    if (file_ == nullptr) {
      ::close(descriptor);
      throw Error(ErrorCategory::kIo, "cannot read: out of memory", name_);
    }
  }

  // Fills `out`, or less of it where the file ends. The number of bytes read.
  [[nodiscard]] std::size_t read(std::span<std::uint8_t> out) {
    const int got = gzread(file_.get(), out.data(), static_cast<unsigned>(out.size()));
    if (got < 0 || static_cast<std::size_t>(got) < out.size()) throw_if_failed();
    return static_cast<std::size_t>(got);
  }

  [[noreturn]] void corrupt(const std::string& problem) const {
    throw Error(ErrorCategory::kCorruptData, problem, name_, "fetch the file again");
  }

 private:
  struct Close {
    void operator()(gzFile file) const { gzclose_r(file); }
  };

  void throw_if_failed() const {
    int status = Z_OK;
    errno = 0;
    const std::string text = gzerror(file_.get(), &status);
    if (status == Z_OK || status == Z_STREAM_END) return;
    if (status == Z_ERRNO) throw Error(ErrorCategory::kIo, "cannot read: " + text, name_);
    if (status == Z_BUF_ERROR) corrupt("truncated: the gzip stream ends early");
    corrupt("the gzip stream is damaged: " + text);
  }

  std::string name_;
  std::unique_ptr<gzFile_s, Close> file_;
};

Shape read_header(ByteSource& source) {
  std::array<std::uint8_t, 4> magic{};
  const std::size_t got = source.read(magic);
  if (got == 0) source.corrupt("the file is empty");
  if (got < magic.size()) source.corrupt("truncated inside the magic number");
  if (magic[0] != 0 || magic[1] != 0) source.corrupt("not an IDX file: it does not start with two bytes of 0");
  if (magic[2] != kTypeU8) {
    source.corrupt(str_cat("element type ", int{magic[2]}, " in the magic number, where 8 (unsigned byte) belongs"));
  }
  if (magic[3] == 0) source.corrupt("the magic number says rank 0");

  Shape shape;
  for (int axis = 0; axis < magic[3]; ++axis) {
    std::array<std::uint8_t, 4> extent{};
    if (source.read(extent) < extent.size()) source.corrupt("truncated inside the extents");
    shape.push_back((std::int64_t{extent[0]} << 24) | (std::int64_t{extent[1]} << 16) | (std::int64_t{extent[2]} << 8) |
                    std::int64_t{extent[3]});
  }
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) {
    if (extent == 0) source.corrupt("shape " + to_string(shape) + " has an extent of 0");
    if (extent > kMostElements / elements) source.corrupt("shape " + to_string(shape) + " has more than 2^31 elements");
    elements *= extent;
  }
  return shape;
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path) {
  constexpr std::size_t kFirstChunkBytes = std::size_t{1} << 20;
  ByteSource source(path);
  IdxArray array;
  array.shape = read_header(source);
  const auto total = static_cast<std::size_t>(element_count(array.shape));
  // Twice what has arrived already: a header that lies costs a megabyte, not what it claims.
  while (array.data.size() < total) {
    const std::size_t have = array.data.size();
    array.data.resize(std::min(total, have + std::max(have, kFirstChunkBytes)));
    const std::size_t wanted = array.data.size() - have;
    const std::size_t got = source.read(std::span(array.data).subspan(have));
    if (got < wanted) {
      source.corrupt(str_cat("truncated: shape ", to_string(array.shape), " needs ", total, " bytes, the file holds ",
                             have + got));
    }
  }
  // Reading on to the end also makes zlib compare the stream's own checksum.
  std::array<std::uint8_t, 1> surplus{};
  if (source.read(surplus) != 0)
    source.corrupt(str_cat("bytes left over after the ", total, " of shape ", to_string(array.shape)));
  return array;
}

LabelledImages read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels) {
  LabelledImages set{read_idx(images), read_idx(labels)};
  if (set.images.shape.size() != 3) {
    throw Error(ErrorCategory::kCorruptData,
                "shape " + to_string(set.images.shape) + " is not that of images [count, height, width]",
                images.string());
  }
  if (set.labels.shape.size() != 1) {
    throw Error(ErrorCategory::kCorruptData, "shape " + to_string(set.labels.shape) + " is not that of labels [count]",
                labels.string());
  }
  if (set.images.shape[0] != set.labels.shape[0]) {
    throw Error(ErrorCategory::kCorruptData,
                str_cat(set.labels.shape[0], " labels for the ", set.images.shape[0], " images of ", images.string()),
                labels.string(), "name files that belong together");
  }
  return set;
}

}  // namespace pare::format
