// Random numbers that are the same on every machine, library version and thread count.
#pragma once

#include <cstdint>
#include <span>

namespace pare {

// SplitMix64 (Steele, Lea, Flood 2014). Streams are derived, not stored: Rng(seed, stage, epoch) always gives the same
// sequence, so a resumed run needs no saved generator state.
class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream_a = 0, std::uint64_t stream_b = 0) noexcept;

  std::uint64_t next() noexcept;
  // Uniform in [0, bound), without modulo bias. Precondition: bound > 0.
  std::uint64_t below(std::uint64_t bound) noexcept;
  // Uniform in [0, 1), 24 random bits.
  float uniform() noexcept;
  // Standard normal (Box-Muller).
  float normal() noexcept;
  // Fisher-Yates.
  void shuffle(std::span<std::uint32_t> items) noexcept;

 private:
  std::uint64_t state_;
};

}  // namespace pare
