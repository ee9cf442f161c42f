#include "pare/format/idx.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::format {
namespace {

constexpr std::int64_t kMostElements = std::int64_t{1} << 31;
constexpr std::uint8_t kTypeU8 = 0x08;

// Bytes of a plain or gzip-compressed file, one after the other. zlib's own gzread() is not used, because it passes
// over whatever follows the compressed data without a word.
class ByteSource {
 public:
  explicit ByteSource(const std::filesystem::path& path)
      : name_(path.string()), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), buffer_(kBufferBytes) {
    if (descriptor_ < 0) {
      if (errno == ENOENT || errno == ENOTDIR) throw Error(ErrorCategory::kNotFound, "no such file", name_);
      throw Error(ErrorCategory::kIo, "cannot open: " + std::generic_category().message(errno), name_);
    }
    try {
      fill();
      compressed_ = stream_.avail_in >= 2 && buffer_[0] == kGzipMagic[0] && buffer_[1] == kGzipMagic[1];
      if (compressed_ && inflateInit2(&stream_, kGzipWindow) != Z_OK) {
        throw Error(ErrorCategory::kIo, "cannot read: out of memory", name_);
      }
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
  }
  ~ByteSource() {
    if (compressed_) inflateEnd(&stream_);
    ::close(descriptor_);
  }
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Fills `out`, or less of it where the file ends. The number of bytes read.
  [[nodiscard]] std::size_t read(std::span<std::uint8_t> out) {
    std::size_t done = 0;
    while (done < out.size() && (stream_.avail_in > 0 || fill())) {
      done += compressed_ ? inflate_some(out.subspan(done)) : copy_some(out.subspan(done));
    }
    if (done < out.size() && compressed_ && !member_ended_) corrupt("truncated: the gzip stream ends early");
    return done;
  }

  [[noreturn]] void corrupt(const std::string& problem) const {
    throw Error(ErrorCategory::kCorruptData, problem, name_, "fetch the file again");
  }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
  static constexpr std::array<std::uint8_t, 2> kGzipMagic = {0x1F, 0x8B};
  static constexpr int kGzipWindow = 15 + 16;  // the largest window; gzip headers only

  // Reads the next piece of the file. False at its end.
  bool fill() {
    std::size_t have = 0;
    while (have < buffer_.size()) {
      const ssize_t got = ::read(descriptor_, buffer_.data() + have, buffer_.size() - have);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        throw Error(ErrorCategory::kIo, "cannot read: " + std::generic_category().message(errno), name_);
      }
      if (got == 0) break;
      have += static_cast<std::size_t>(got);
    }
    stream_.next_in = buffer_.data();
    stream_.avail_in = static_cast<uInt>(have);
    return have > 0;
  }

  std::size_t copy_some(std::span<std::uint8_t> out) {
    const std::size_t bytes = std::min<std::size_t>(out.size(), stream_.avail_in);
    std::copy_n(stream_.next_in, bytes, out.data());
    stream_.next_in += bytes;
    stream_.avail_in -= static_cast<uInt>(bytes);
    return bytes;
  }

  // Precondition: there is input, and room in `out`.
  std::size_t inflate_some(std::span<std::uint8_t> out) {
    if (member_ended_) {
      // Another compressed member may follow (RFC 1952, 2.2); anything else does not belong to the file.
      if (*stream_.next_in != kGzipMagic[0]) corrupt("bytes left over after the end of the gzip stream");
      inflateReset(&stream_);
      member_ended_ = false;
    }
    constexpr std::size_t kMostBytes = std::size_t{1} << 30;  // zlib counts in unsigned int
    const auto room = static_cast<uInt>(std::min(out.size(), kMostBytes));
    stream_.next_out = out.data();
    stream_.avail_out = room;
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_MEM_ERROR) throw Error(ErrorCategory::kIo, "cannot read: out of memory", name_);
    if (status != Z_OK && status != Z_STREAM_END) {
      corrupt(str_cat("the gzip stream is damaged: ", stream_.msg != nullptr ? stream_.msg : "unknown reason"));
    }
    member_ended_ = status == Z_STREAM_END;
    return room - stream_.avail_out;
  }

  std::string name_;
  int descriptor_;
  std::vector<std::uint8_t> buffer_;
  z_stream stream_{};  // its input is the unread rest of buffer_, compressed or not
  bool compressed_ = false;
  bool member_ended_ = false;  // between two gzip members, or at the end
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
  // Reading on to the end also makes zlib compare the stream's own checksum, and shows what comes after it.
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
