#include "pare/base/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "pare/base/rng.h"

namespace pare {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::byte> random_bytes(std::size_t size) {
  Rng rng(size);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.next());
  return bytes;
}

TEST(Crc32c, GivesThePublishedValues) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283U);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(std::vector<std::byte>(32)), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Xxh3, GivesThePublishedValues) {
  // xxhash 0.8 sanity test: XXH3_64bits of no bytes, seed 0.
  EXPECT_EQ(xxh3_64({}), 0x2D06800538D394C2U);
}

TEST(Xxh3, EverySingleBitCounts) {
  for (const std::size_t size : {1U, 8U, 17U, 129U, 300U}) {
    std::vector<std::byte> bytes = random_bytes(size);
    const std::uint64_t before = xxh3_64(bytes);
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      EXPECT_NE(xxh3_64(bytes), before) << size << " bytes, bit " << bit;
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    }
  }
}

TEST(Xxh3, StreamEqualsTheWholeWhereverItIsCut) {
  for (const std::size_t size : {0U, 1U, 16U, 240U, 241U, 1024U, 5000U}) {
    const std::vector<std::byte> bytes = random_bytes(size);
    for (const std::size_t piece : {1U, 63U, 64U, 256U, 4999U}) {
      Xxh3Stream stream;
      stream.update({});
      for (std::size_t at = 0; at < size; at += piece) {
        stream.update(std::span(bytes).subspan(at, std::min(piece, size - at)));
      }
      EXPECT_EQ(stream.digest(), xxh3_64(bytes)) << size << " bytes by " << piece;
      EXPECT_EQ(stream.digest(), stream.digest());
    }
  }
}

}  // namespace
}  // namespace pare
