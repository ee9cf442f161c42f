#include "pare/format/idx.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <numeric>

#include "pare/base/rng.h"
#include "pare/base/testing.h"

namespace pare::format {
namespace {

using pare::testing::get_file;
using pare::testing::put_file;
using pare::testing::TempDir;

std::string idx_header(const std::vector<std::uint32_t>& extents, char type = 0x08) {
  std::string text = {'\0', '\0', type, static_cast<char>(extents.size())};
  for (const std::uint32_t extent : extents) {
    for (const int shift : {24, 16, 8, 0}) text += static_cast<char>(extent >> shift);
  }
  return text;
}

std::string counting_bytes(std::size_t size) {
  std::string text(size, '\0');
  std::iota(text.begin(), text.end(), '\0');
  return text;
}

// The file at `path` holds `contents`, gzip-compressed.
void put_gzip(const std::filesystem::path& path, std::string_view contents) {
  const gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, contents.data(), static_cast<unsigned>(contents.size())), static_cast<int>(contents.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

TEST(Idx, ReadsPlainAndCompressedAlike) {
  const TempDir dir;
  const std::string contents = idx_header({2, 3, 5}) + counting_bytes(30);
  put_file(dir / "plain", contents);
  put_gzip(dir / "packed.gz", contents);
  for (const char* name : {"plain", "packed.gz"}) {
    const IdxArray array = read_idx(dir / name);
    EXPECT_EQ(array.shape, (Shape{2, 3, 5}));
    ASSERT_EQ(array.data.size(), 30U);
    for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(array.data[i], i);
  }
}

TEST(Idx, ReadsSizesAroundTheChunk) {
  const TempDir dir;
  constexpr std::uint32_t kChunk = 1U << 20;
  for (const std::uint32_t size : {1U, kChunk - 1, kChunk, kChunk + 1, 3 * kChunk + 7}) {
    const std::string bytes = counting_bytes(size);
    put_gzip(dir / "a", idx_header({size}) + bytes);
    const IdxArray array = read_idx(dir / "a");
    EXPECT_EQ(array.shape, Shape{size});
    EXPECT_TRUE(std::equal(array.data.begin(), array.data.end(), bytes.begin(), bytes.end(),
                           [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); }));
  }
}

TEST(Idx, EveryTruncationIsReported) {
  const TempDir dir;
  const std::string contents = idx_header({4, 3}) + counting_bytes(12);
  put_gzip(dir / "whole.gz", contents);
  const std::string packed = get_file(dir / "whole.gz");
  for (std::size_t size = 0; size < contents.size(); ++size) {
    put_file(dir / "cut", contents.substr(0, size));
    EXPECT_PARE_ERROR(read_idx(dir / "cut"), kCorruptData, size == 0 ? "empty" : "truncated") << size;
  }
  for (std::size_t size = 0; size < packed.size(); ++size) {
    put_file(dir / "cut.gz", packed.substr(0, size));
    EXPECT_PARE_ERROR(read_idx(dir / "cut.gz"), kCorruptData, "") << size << " of " << packed.size();
  }
}

TEST(Idx, DamagedCompressedDataIsReported) {
  const TempDir dir;
  Rng rng(12);
  std::string contents = idx_header({40, 50});
  for (int i = 0; i < 2000; ++i) contents += static_cast<char>(rng.below(16));
  put_gzip(dir / "whole.gz", contents);
  const std::string packed = get_file(dir / "whole.gz");
  const IdxArray whole = read_idx(dir / "whole.gz");
  std::size_t reported = 0;
  for (std::size_t at = 0; at < packed.size(); ++at) {
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << rng.below(8)));
    put_file(dir / "damaged.gz", damaged);
    // The header holds times and names, the last block unused bits: what they say may change, not what is read.
    IdxArray array;
    const auto error = pare::testing::error_of([&] { return (array = read_idx(dir / "damaged.gz")).data.size(); });
    if (error) {
      EXPECT_EQ(error->category(), ErrorCategory::kCorruptData) << error->what();
      ++reported;
    } else {
      EXPECT_EQ(array.data, whole.data) << "byte " << at << " of " << packed.size();
    }
  }
  EXPECT_GT(reported, packed.size() - 16);
}

TEST(Idx, WrongMagicIsReported) {
  const TempDir dir;
  const auto read = [&](const std::string& contents) {
    put_file(dir / "a", contents);
    return read_idx(dir / "a");
  };
  EXPECT_PARE_ERROR(read("PK\x03\x04 some archive"), kCorruptData, "not an IDX file");
  EXPECT_PARE_ERROR(read(std::string("\0\1\x08\1\0\0\0\1x", 9)), kCorruptData, "not an IDX file");
  EXPECT_PARE_ERROR(read(idx_header({1}, 0x0D) + "abcd"), kCorruptData, "element type 13");
  EXPECT_PARE_ERROR(read(idx_header({}) + "abcd"), kCorruptData, "rank 0");
}

TEST(Idx, SurplusBytesAreReported) {
  const TempDir dir;
  const std::string contents = idx_header({4}) + "abcde";
  put_file(dir / "plain", contents);
  put_gzip(dir / "packed.gz", contents);
  EXPECT_PARE_ERROR(read_idx(dir / "plain"), kCorruptData, "left over");
  EXPECT_PARE_ERROR(read_idx(dir / "packed.gz"), kCorruptData, "left over");
}

TEST(Idx, BytesAfterTheGzipStreamAreReported) {
  const TempDir dir;
  put_gzip(dir / "whole.gz", idx_header({4}) + "abcd");
  const std::string packed = get_file(dir / "whole.gz");
  for (const std::string& surplus : {std::string("x"), std::string(1, '\0'), std::string(100000, 'x')}) {
    put_file(dir / "more.gz", packed + surplus);
    EXPECT_PARE_ERROR(read_idx(dir / "more.gz"), kCorruptData, "left over after the end of the gzip stream");
    const auto error = pare::testing::error_of([&] { return read_idx(dir / "more.gz"); });
    ASSERT_TRUE(error);
    EXPECT_NE(error->where().find("more.gz"), std::string::npos);
    EXPECT_FALSE(error->remedy().empty());
  }
  // What looks like another member is read as one.
  put_file(dir / "more.gz", packed + "\x1f");
  EXPECT_PARE_ERROR(read_idx(dir / "more.gz"), kCorruptData, "truncated");
  put_file(dir / "more.gz", packed + "\x1fnot gzip");
  EXPECT_PARE_ERROR(read_idx(dir / "more.gz"), kCorruptData, "damaged");
  put_file(dir / "more.gz", packed + packed);
  EXPECT_PARE_ERROR(read_idx(dir / "more.gz"), kCorruptData, "left over after the 4 of shape");
}

TEST(Idx, ReadsACompressedFileOfSeveralMembers) {
  const TempDir dir;
  put_gzip(dir / "a.gz", idx_header({4}) + "a");
  put_gzip(dir / "b.gz", "bc");
  put_gzip(dir / "c.gz", "");
  put_gzip(dir / "d.gz", "d");
  put_file(dir / "all.gz",
           get_file(dir / "a.gz") + get_file(dir / "b.gz") + get_file(dir / "c.gz") + get_file(dir / "d.gz"));
  EXPECT_EQ(read_idx(dir / "all.gz").data, (std::vector<std::uint8_t>{'a', 'b', 'c', 'd'}));
}

TEST(Idx, ImpossibleExtentsAreReported) {
  const TempDir dir;
  const auto read = [&](const std::vector<std::uint32_t>& extents) {
    put_file(dir / "a", idx_header(extents) + "abcd");
    return read_idx(dir / "a");
  };
  EXPECT_PARE_ERROR(read({0}), kCorruptData, "extent of 0");
  EXPECT_PARE_ERROR(read({4, 0}), kCorruptData, "extent of 0");
  EXPECT_PARE_ERROR(read({0x80000001U}), kCorruptData, "2^31");
  EXPECT_PARE_ERROR(read({65536, 65536}), kCorruptData, "2^31");
  EXPECT_PARE_ERROR(read(std::vector<std::uint32_t>(255, 0xFFFFFFFFU)), kCorruptData, "2^31");
}

TEST(Idx, MemoryGrowsWithTheDataNotWithThePromise) {
  const TempDir dir;
  put_file(dir / "a", idx_header({0x80000000U}) + "abcd");
  rusage before{};
  rusage after{};
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &before), 0);
  EXPECT_PARE_ERROR(read_idx(dir / "a"), kCorruptData, "truncated");
  ASSERT_EQ(::getrusage(RUSAGE_SELF, &after), 0);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10) << "KiB, of the 2 GiB that the header claims";
}

TEST(Idx, FilesThatCannotBeReadAreReported) {
  const TempDir dir;
  EXPECT_PARE_ERROR(read_idx(dir / "missing"), kNotFound, "missing");
  EXPECT_PARE_ERROR(read_idx(dir.path()), kIo, "cannot read");
}

TEST(Idx, ImagesAndLabelsMustBelongTogether) {
  const TempDir dir;
  put_file(dir / "images", idx_header({2, 2, 3}) + counting_bytes(12));
  put_file(dir / "labels", idx_header({2}) + "\x01\x09");
  put_file(dir / "three", idx_header({3}) + "\x01\x02\x03");
  const LabelledImages set = read_idx_images(dir / "images", dir / "labels");
  EXPECT_EQ(set.images.shape, (Shape{2, 2, 3}));
  EXPECT_EQ(set.labels.data, (std::vector<std::uint8_t>{1, 9}));
  EXPECT_PARE_ERROR(read_idx_images(dir / "labels", dir / "labels"), kCorruptData, "not that of images");
  EXPECT_PARE_ERROR(read_idx_images(dir / "images", dir / "images"), kCorruptData, "not that of labels");
  EXPECT_PARE_ERROR(read_idx_images(dir / "images", dir / "three"), kCorruptData, "3 labels for the 2 images");
}

TEST(Idx, ArbitraryBytesNeverCrash) {
  const TempDir dir;
  Rng rng(13);
  for (int trial = 0; trial < 2000; ++trial) {
    // Mostly plausible starts, so that the later checks are reached as well.
    std::string contents = trial % 3 == 0 ? std::string("\x1f\x8b\x08", 3) : std::string("\0\0\x08", 3);
    const std::uint64_t size = rng.below(40);
    for (std::uint64_t i = 0; i < size; ++i) contents += static_cast<char>(rng.below(rng.below(2) == 0 ? 4 : 256));
    put_file(dir / "a", contents);
    const auto error = pare::testing::error_of([&] { return read_idx(dir / "a"); });
    if (!error) continue;
    EXPECT_EQ(error->category(), ErrorCategory::kCorruptData) << error->what();
  }
}

}  // namespace
}  // namespace pare::format
