#include "pare/format/safetensors.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "pare/base/checksum.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/testing.h"

namespace pare::format {
namespace {

using nlohmann::ordered_json;
using pare::testing::get_file;
using pare::testing::put_file;
using pare::testing::TempDir;

using Metadata = std::map<std::string, std::string>;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string little_endian(std::uint64_t value) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

// A file of that header and data with a true checksum at its end, however wrong the rest is. `header_bytes`: what the
// first eight bytes say, if not the truth.
std::string craft(std::string header, std::string data, std::uint64_t header_bytes = 0) {
  while ((8 + header.size()) % 64 != 0) header += ' ';
  std::string file = little_endian(header_bytes == 0 ? header.size() : header_bytes) + header + data;
  return file + little_endian(xxh3_64(bytes_of(file)));
}

ordered_json entry(const char* dtype, const std::vector<std::uint64_t>& shape, std::uint64_t begin, std::uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

// Two tensors of 64 bytes and the checksum; the tests below break one thing each.
ordered_json good_header() {
  ordered_json header;
  header["a"] = entry("F32", {4, 4}, 0, 64);
  header["b"] = entry("U8", {64}, 64, 128);
  header["pare.checksum"] = entry("I64", {1}, 128, 136);
  return header;
}

class SafetensorsTest : public ::testing::Test {
 protected:
  std::filesystem::path put(const std::string& contents) {
    put_file(dir_ / "a.safetensors", contents);
    return dir_ / "a.safetensors";
  }
  SafetensorsFile open(const std::string& contents) { return SafetensorsFile(put(contents)); }
  SafetensorsFile open_header(const std::string& header) { return open(craft(header, std::string(128, 'x'))); }
  SafetensorsFile open_json(const ordered_json& header) { return open_header(header.dump()); }

  std::string small_file() {
    const float weights[] = {1.5F, -2.0F, 0.0F};
    const TensorView tensors[] = {{"w", DType::kF32, {3}, std::as_bytes(std::span(weights))},
                                  {"none", DType::kS8, {0, 7}, {}},
                                  {"codes", DType::kU8, {2, 1}, bytes_of("xy")}};
    write_safetensors(dir_ / "small", {{"format", "pare"}}, tensors);
    return get_file(dir_ / "small");
  }

  TempDir dir_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  const std::string many(200, 'm');
  const float weights[] = {1.0F, -0.0F, 3e38F, 1e-45F};
  const TensorView tensors[] = {{"z.last name first", DType::kU8, {200}, bytes_of(many)},
                                {"w", DType::kF32, {2, 2}, std::as_bytes(std::span(weights))},
                                {"scalar", DType::kS64, {}, bytes_of("12345678")},
                                {"empty", DType::kF32, {3, 0}, {}},
                                {"\"quoted\\ ünïcode\n", DType::kBool, {1}, bytes_of(std::string_view("\1", 1))}};
  const Metadata metadata = {{"format", "pare"}, {"text", "{\"a\": [1, 2]}\n\"ü\""}, {"", ""}};
  write_safetensors(dir_ / "file", metadata, tensors);
  const SafetensorsFile file(dir_ / "file");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_TRUE(file.checksum_matches());
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(dir_ / "file"));
  ASSERT_EQ(file.tensors().size(), std::size(tensors));
  for (std::size_t i = 0; i < std::size(tensors); ++i) {
    const TensorView& read = file.tensors()[i];
    EXPECT_EQ(read.name, tensors[i].name);
    EXPECT_EQ(read.dtype, tensors[i].dtype);
    EXPECT_EQ(read.shape, tensors[i].shape);
    EXPECT_EQ(text_of(read.bytes), text_of(tensors[i].bytes));
    EXPECT_TRUE(file.contains(tensors[i].name));
    EXPECT_EQ(file.tensor(tensors[i].name).bytes.data(), read.bytes.data());
  }
}

TEST_F(SafetensorsTest, EveryTensorStandsOnA64ByteBoundary) {
  const std::string filling(130, 'x');
  for (std::size_t size = 0; size <= 130; ++size) {
    const auto part = bytes_of(filling).first(size);
    const Shape shape = {static_cast<std::int64_t>(size)};
    const TensorView tensors[] = {{"a", DType::kU8, shape, part}, {"b", DType::kU8, shape, part}};
    write_safetensors(dir_ / "file", {}, tensors);
    const SafetensorsFile file(dir_ / "file");
    ASSERT_EQ(file.tensors().size(), 2U);
    for (const TensorView& tensor : file.tensors()) {
      EXPECT_EQ((tensor.bytes.data() - file.owner().get()) % 64, 0) << size;
    }
    EXPECT_EQ((file.file_bytes() - 8) % 64, 0U);
  }
}

TEST_F(SafetensorsTest, FollowsTheSpecification) {
  const std::string file = small_file();
  std::uint64_t header_bytes = 0;
  ASSERT_EQ(std::endian::native, std::endian::little);
  std::memcpy(&header_bytes, file.data(), 8);
  EXPECT_EQ((8 + header_bytes) % 64, 0U);
  const auto header = ordered_json::parse(file.substr(8, header_bytes));
  EXPECT_EQ(header["__metadata__"]["format"], "pare");
  std::uint64_t end = 0;
  for (const auto& [name, description] : header.items()) {
    if (name == "__metadata__") continue;
    EXPECT_EQ(description["data_offsets"][0], end) << name;
    end = description["data_offsets"][1].get<std::uint64_t>();
  }
  EXPECT_EQ(8 + header_bytes + end, file.size());
  EXPECT_EQ(header["codes"], entry("U8", {2, 1}, 64, 66));
  EXPECT_EQ(file.substr(8 + header_bytes + 64, 2), "xy");
}

TEST_F(SafetensorsTest, SameInputGivesSameBytes) { EXPECT_EQ(small_file(), small_file()); }

TEST_F(SafetensorsTest, NoTensorsAtAll) {
  write_safetensors(dir_ / "file", {}, {});
  const SafetensorsFile file(dir_ / "file");
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_TRUE(file.metadata().empty());
}

TEST_F(SafetensorsTest, ViewsOutliveTheFileObject) {
  small_file();
  std::shared_ptr<const std::byte> owner;
  std::span<const std::byte> codes;
  {
    const SafetensorsFile file(dir_ / "small");
    owner = file.owner();
    codes = file.tensor("codes").bytes;
  }
  std::filesystem::remove(dir_ / "small");
  EXPECT_EQ(text_of(codes), "xy");
}

TEST_F(SafetensorsTest, EveryFlippedBitIsReported) {
  const std::string good = small_file();
  const auto path = put(good);
  // In place: thousands of new files would take most of the time.
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto set_byte = [&](std::size_t at, char value) {
    file.seekp(static_cast<std::streamoff>(at)).put(value).flush();
    ASSERT_TRUE(file.good());
  };
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    if (bit % 8 == 0 && bit > 0) set_byte(bit / 8 - 1, good[bit / 8 - 1]);
    set_byte(bit / 8, static_cast<char>(good[bit / 8] ^ (1 << (bit % 8))));
    ASSERT_PARE_ERROR(SafetensorsFile(path), kCorruptData, "") << "byte " << bit / 8 << " bit " << bit % 8;
    // Without the checksum many flips pass; none may do harm.
    const auto error = pare::testing::error_of([&] { return SafetensorsFile(path, SafetensorsFile::Checksum::kSkip); });
    if (!error) continue;
    ASSERT_EQ(error->category(), ErrorCategory::kCorruptData) << error->what();
  }
}

TEST_F(SafetensorsTest, SkippedChecksumIsStillCompared) {
  std::string bad = small_file();
  bad[bad.size() - 8 - 64] = static_cast<char>(bad[bad.size() - 8 - 64] ^ 1);  // the first byte of "codes"
  const SafetensorsFile file(put(bad), SafetensorsFile::Checksum::kSkip);
  EXPECT_FALSE(file.checksum_matches());
  EXPECT_EQ(text_of(file.tensor("codes").bytes), "yy");
  EXPECT_PARE_ERROR(open(bad), kCorruptData, "checksum");
}

TEST_F(SafetensorsTest, EveryTruncationIsReported) {
  const std::string good = small_file();
  for (std::size_t size = 0; size < good.size(); ++size) {
    const auto path = put(good.substr(0, size));
    EXPECT_PARE_ERROR(SafetensorsFile(path), kCorruptData, "") << size;
    EXPECT_PARE_ERROR(SafetensorsFile(path, SafetensorsFile::Checksum::kSkip), kCorruptData, "") << size;
  }
  EXPECT_PARE_ERROR(open(good + '\0'), kCorruptData, "");
}

TEST_F(SafetensorsTest, RandomDamageNeverCrashes) {
  const std::string good = small_file();
  Rng rng(14);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bad = good;
    const std::uint64_t edits = 1 + rng.below(8);
    for (std::uint64_t i = 0; i < edits; ++i) {
      // Mostly in the header, with the characters that JSON is made of.
      const std::size_t at = rng.below(rng.below(4) == 0 ? bad.size() : 400);
      constexpr std::string_view kCharacters = "{}[]:,\"\\0129-.eE u";
      bad[at] = rng.below(2) == 0 ? kCharacters[rng.below(kCharacters.size())] : static_cast<char>(rng.next());
    }
    if (rng.below(4) == 0) bad.resize(rng.below(bad.size() + 1));
    const auto path = put(bad);
    const auto error = pare::testing::error_of([&] { return SafetensorsFile(path, SafetensorsFile::Checksum::kSkip); });
    if (!error) continue;
    EXPECT_EQ(error->category(), ErrorCategory::kCorruptData) << error->what();
  }
}

TEST_F(SafetensorsTest, CraftedGoodFileIsAccepted) {
  const SafetensorsFile file = open_json(good_header());
  EXPECT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.tensor("a").shape, (Shape{4, 4}));
}

TEST_F(SafetensorsTest, TensorsAreOrderedByTheirPlaceNotByTheHeader) {
  ordered_json header;
  header["pare.checksum"] = entry("I64", {1}, 128, 136);
  header["b"] = entry("U8", {64}, 64, 128);
  header["a"] = entry("U8", {64}, 0, 64);
  const SafetensorsFile file = open_json(header);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[1].name, "b");
}

TEST_F(SafetensorsTest, OffsetsThatContradictAreReported) {
  const auto with = [&](const char* name, const ordered_json& description) {
    ordered_json header = good_header();
    header[name] = description;
    return open_json(header);
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  EXPECT_PARE_ERROR(with("b", entry("U8", {128}, 0, 128)), kCorruptData, "inside the one before");
  EXPECT_PARE_ERROR(with("b", entry("U8", {96}, 32, 128)), kCorruptData, "inside the one before");
  EXPECT_PARE_ERROR(with("b", entry("U8", {63}, 65, 128)), kCorruptData, "belong to no tensor");
  EXPECT_PARE_ERROR(with("b", entry("U8", {64}, 64, 1000)), kCorruptData, "truncated");
  EXPECT_PARE_ERROR(with("b", entry("U8", {64}, 64, kHuge)), kCorruptData, "truncated");
  EXPECT_PARE_ERROR(with("b", entry("U8", {64}, kHuge, kHuge)), kCorruptData, "");
  EXPECT_PARE_ERROR(with("b", entry("U8", {64}, kHuge, 63)), kCorruptData, "");
  EXPECT_PARE_ERROR(with("b", entry("U8", {64}, 128, 64)), kCorruptData, "before it begins");
}

TEST_F(SafetensorsTest, ShapesThatDoNotFitTheirBytesAreReported) {
  const auto with_shape = [&](const ordered_json& shape) {
    ordered_json header = good_header();
    header["a"]["shape"] = shape;
    return open_json(header);
  };
  EXPECT_PARE_ERROR(with_shape({4, 5}), kCorruptData, "needs 80 bytes and has 64");
  EXPECT_PARE_ERROR(with_shape({0}), kCorruptData, "needs 0 bytes");
  EXPECT_PARE_ERROR(with_shape({1ULL << 32, 1ULL << 32}), kCorruptData, "2^40");
  EXPECT_PARE_ERROR(with_shape({1ULL << 62, 4, 4}), kCorruptData, "2^40");
  EXPECT_PARE_ERROR(with_shape({~0ULL}), kCorruptData, "extent");
  EXPECT_PARE_ERROR(with_shape({-4, -4}), kCorruptData, "negative");
  EXPECT_PARE_ERROR(with_shape({4.0, 4.0}), kCorruptData, "fraction");
  EXPECT_PARE_ERROR(with_shape("4x4"), kCorruptData, "a string");
  EXPECT_PARE_ERROR(with_shape(std::vector<int>(10'000, 1)), kCorruptData, "extents");
}

TEST_F(SafetensorsTest, UnknownTypeIsUnsupportedInAWholeFileAndDamageInAnAlteredOne) {
  ordered_json header = good_header();
  header["a"]["dtype"] = "BF16";
  EXPECT_PARE_ERROR(open_json(header), kUnsupported, "BF16");
  std::string altered = craft(header.dump(), std::string(128, 'x'));
  altered.back() = static_cast<char>(altered.back() ^ 1);
  EXPECT_PARE_ERROR(open(altered), kCorruptData, "BF16");
}

TEST_F(SafetensorsTest, HeadersThatAreNoHeaderAreReported) {
  EXPECT_PARE_ERROR(open_header("[]"), kCorruptData, "'{'");
  EXPECT_PARE_ERROR(open_header(" {}"), kCorruptData, "'{'");
  EXPECT_PARE_ERROR(open_header("{\"a\": "), kCorruptData, "no valid JSON");
  EXPECT_PARE_ERROR(open_header("{} {}"), kCorruptData, "no valid JSON");
  EXPECT_PARE_ERROR(open_header("{\"\xFF\": 1}"), kCorruptData, "no valid JSON");
  EXPECT_PARE_ERROR(open_header("{\"a\": 1}"), kCorruptData, "a number in tensor 'a'");
  EXPECT_PARE_ERROR(open_header("{\"a\": null}"), kCorruptData, "null");
  EXPECT_PARE_ERROR(open_header("{\"a\": true}"), kCorruptData, "boolean");
  EXPECT_PARE_ERROR(open_header("{\"a\": []}"), kCorruptData, "an array");
  EXPECT_PARE_ERROR(open_header("{\"a\": {}}"), kCorruptData, "missing");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"dtype\": \"U8\", \"shape\": [1]}}"), kCorruptData, "missing");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"dtype\": [1]}}"), kCorruptData, "an array");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"shape\": {}}}"), kCorruptData, "an object");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"shape\": [[1]]}}"), kCorruptData, "an array");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"shape\": [\"1\"]}}"), kCorruptData, "a string");
  EXPECT_PARE_ERROR(open_header("{\"a\": {\"stride\": 1}}"), kCorruptData, "unknown key 'stride'");
  EXPECT_PARE_ERROR(open_header("{\"__metadata__\": {\"a\": 1}}"), kCorruptData, "a number in __metadata__");
  EXPECT_PARE_ERROR(open_header("{\"__metadata__\": {\"a\": {}}}"), kCorruptData, "an object in __metadata__");
  EXPECT_PARE_ERROR(open_header("{\"__metadata__\": \"a\"}"), kCorruptData, "a string in __metadata__");
  EXPECT_PARE_ERROR(open_header("{}"), kCorruptData, "before the file does");
}

TEST_F(SafetensorsTest, DuplicateNamesAreReported) {
  const std::string good = good_header().dump();
  const std::string tensor = entry("F32", {4, 4}, 0, 64).dump();
  EXPECT_PARE_ERROR(open_header("{\"a\":" + tensor + "," + good.substr(1)), kCorruptData, "'a' stands there twice");
  EXPECT_PARE_ERROR(open_header("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}"), kCorruptData, "'dtype' stands twice");
  EXPECT_PARE_ERROR(open_header("{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}"), kCorruptData, "'x' stands twice");
  EXPECT_PARE_ERROR(open_header("{\"__metadata__\":{},\"__metadata__\":{}}"), kCorruptData, "twice");
}

TEST_F(SafetensorsTest, DeepNestingIsReportedAtOnce) {
  EXPECT_PARE_ERROR(open_header("{\"a\":" + std::string(1'000'000, '[')), kCorruptData, "an array");
  std::string objects = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) objects += "{\"shape\":";
  EXPECT_PARE_ERROR(open_header(objects), kCorruptData, "an object");
}

TEST_F(SafetensorsTest, AbsurdHeaderLengthsAreReported) {
  const std::string header = good_header().dump();
  const std::string data(128, 'x');
  EXPECT_PARE_ERROR(open(craft(header, data, ~0ULL)), kCorruptData, "too long");
  EXPECT_PARE_ERROR(open(craft(header, data, 100'000'001)), kCorruptData, "too long");
  EXPECT_PARE_ERROR(open(craft(header, data, 100'000'000)), kCorruptData, "truncated");
  EXPECT_PARE_ERROR(open(craft(header, data, 1)), kCorruptData, "no multiple of 64");
}

TEST_F(SafetensorsTest, UnalignedTensorsAreReported) {
  ordered_json header = good_header();
  header["a"] = entry("U8", {10}, 0, 10);
  header["b"] = entry("U8", {118}, 10, 128);
  EXPECT_PARE_ERROR(open_json(header), kCorruptData, "no multiple of 64");
}

TEST_F(SafetensorsTest, FillersThatHideSomethingAreReported) {
  const auto with_filler = [&](const ordered_json& filler, std::uint64_t begin, const std::string& data) {
    ordered_json header;
    header["a"] = entry("U8", {begin}, 0, begin);
    header["pare.pad.0"] = filler;
    header["pare.checksum"] = entry("I64", {1}, 128, 136);
    return open(craft(header.dump(), data));
  };
  const std::string zeros(128, '\0');
  EXPECT_EQ(with_filler(entry("U8", {28}, 100, 128), 100, zeros).tensors().size(), 1U);
  std::string hidden = zeros;
  hidden[127] = 1;
  EXPECT_PARE_ERROR(with_filler(entry("U8", {28}, 100, 128), 100, hidden), kCorruptData, "filler");
  EXPECT_PARE_ERROR(with_filler(entry("U8", {64}, 64, 128), 64, zeros), kCorruptData, "filler");
  EXPECT_PARE_ERROR(with_filler(entry("F32", {7}, 100, 128), 100, zeros), kCorruptData, "filler");
}

TEST_F(SafetensorsTest, ChecksumMustBeTheLastTensorAndOneInteger) {
  ordered_json none = good_header();
  none["other"] = none["pare.checksum"];
  none.erase("pare.checksum");
  EXPECT_PARE_ERROR(open_json(none), kCorruptData, "pare did not write this file");
  ordered_json mistyped = good_header();
  mistyped["pare.checksum"] = entry("U8", {8}, 128, 136);
  EXPECT_PARE_ERROR(open_json(mistyped), kCorruptData, "not one I64");
  mistyped["pare.checksum"] = entry("I64", {1, 1}, 128, 136);
  EXPECT_PARE_ERROR(open_json(mistyped), kCorruptData, "not one I64");
}

TEST_F(SafetensorsTest, UnknownTensorNamesTheNearest) {
  small_file();
  const SafetensorsFile file(dir_ / "small");
  EXPECT_FALSE(file.contains("code"));
  EXPECT_PARE_ERROR(file.tensor("code"), kCorruptData, "there is no tensor 'code'; did you mean 'codes'");
  EXPECT_FALSE(file.contains("pare.checksum"));
}

TEST_F(SafetensorsTest, WriterRefusesNamesThatCannotBeRead) {
  const auto write = [&](const std::vector<std::string>& names, const Metadata& metadata = {}) {
    std::vector<TensorView> tensors;
    for (const std::string& name : names) tensors.push_back({name, DType::kU8, {0}, {}});
    write_safetensors(dir_ / "refused", metadata, tensors);
    return 0;
  };
  EXPECT_PARE_ERROR(write({"a", "b", "a"}), kInvalidArgument, "two tensors are called 'a'");
  EXPECT_PARE_ERROR(write({"pare.pad.0"}), kInvalidArgument, "reserved");
  EXPECT_PARE_ERROR(write({"pare.checksum"}), kInvalidArgument, "reserved");
  EXPECT_PARE_ERROR(write({"__metadata__"}), kInvalidArgument, "reserved");
  EXPECT_PARE_ERROR(write({"\xFF"}), kInvalidArgument, "UTF-8");
  EXPECT_PARE_ERROR(write({"a"}, {{"key", "\xC3"}}), kInvalidArgument, "UTF-8");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "refused"));
}

TEST_F(SafetensorsTest, FilesThatCannotBeOpenedAreReported) {
  EXPECT_PARE_ERROR(SafetensorsFile(dir_ / "missing"), kNotFound, "missing");
  EXPECT_PARE_ERROR(SafetensorsFile(dir_.path()), kIo, "is a folder");
  EXPECT_PARE_ERROR((write_safetensors(dir_ / "no/such/folder", {}, {}), 0), kIo, "");
}

TEST_F(SafetensorsTest, WrongByteCountIsOurBug) {
  const TensorView tensors[] = {{"a", DType::kF32, {2}, bytes_of("1234")}};
  EXPECT_DEATH(write_safetensors(dir_ / "file", {}, tensors), "safetensors.cc");
}

}  // namespace
}  // namespace pare::format
