// Checksums: XXH3 for artifacts and checkpoints, CRC-32C for TensorBoard records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace pare {

// XXH3, 64 bits, seed 0 (xxhash 0.8 specification).
[[nodiscard]] std::uint64_t xxh3_64(std::span<const std::byte> bytes) noexcept;

// The same sum of bytes that come in pieces. Movable, not thread-safe.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(Xxh3Stream&&) noexcept;
  Xxh3Stream& operator=(Xxh3Stream&&) noexcept;

  void update(std::span<const std::byte> bytes) noexcept;
  // Of all bytes so far; more may follow.
  [[nodiscard]] std::uint64_t digest() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// CRC-32C (Castagnoli, RFC 3720 appendix B.4); crc of "123456789" is 0xE3069283.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

}  // namespace pare
