// One call of one kernel, made up from bytes: shapes, strides, paddings, formats, cuts, numbers. It is compared with
// the scalar reference, between pages that may not be touched, and must leave the caller's floating-point control
// alone.
//
// kernels_fuzz_test draws the bytes from a seeded generator; fuzz_libfuzzer.cc lets libFuzzer choose them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "pare/base/rng.h"
#include "pare/kernels/testing/guarded.h"

namespace pare::kernels::fuzz {

// Decisions read from bytes; after the last one all are 0.
class Choices {
 public:
  explicit Choices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::int64_t below(std::int64_t bound) {
    std::uint64_t value = 0;
    for (std::int64_t range = 1; range < bound; range *= 256) value = value * 256 + byte();
    return static_cast<std::int64_t>(value % static_cast<std::uint64_t>(bound));
  }
  [[nodiscard]] std::int64_t between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
  [[nodiscard]] bool flip() { return below(2) == 1; }
  [[nodiscard]] testing::Against against() { return flip() ? testing::Against::kStart : testing::Against::kEnd; }
  [[nodiscard]] std::uint8_t poison() { return testing::kPoisons[below(2)]; }
  // For numbers: codes, scales, biases.
  [[nodiscard]] Rng numbers() { return Rng(static_cast<std::uint64_t>(below(std::int64_t{1} << 32))); }

 private:
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }

  std::span<const std::uint8_t> bytes_;
};

// Bytes that decide everything about a case.
inline constexpr std::size_t kCaseBytes = 64;

struct Outcome {
  const char* kernel = "";
  std::string problem;  // "" if the kernel did as the reference does
};

enum class Operation : std::uint8_t {
  kGemm,
  kConv,
  kDepthwise,
  kMaxPool,
  kAveragePool,
  kQuantizeTable,
  kQuantizeAffine,
  kTranspose,
  kAdd,
  kCount
};

[[nodiscard]] Outcome fuzz(Operation operation, Choices& choices);

// By operation; fuzz() calls them.
[[nodiscard]] Outcome fuzz_gemm(Choices& choices);
[[nodiscard]] Outcome fuzz_conv(Choices& choices);
[[nodiscard]] Outcome fuzz_depthwise(Choices& choices);
[[nodiscard]] Outcome fuzz_max_pool(Choices& choices);
[[nodiscard]] Outcome fuzz_average_pool(Choices& choices);
[[nodiscard]] Outcome fuzz_quantize_table(Choices& choices);
[[nodiscard]] Outcome fuzz_quantize_affine(Choices& choices);
[[nodiscard]] Outcome fuzz_transpose(Choices& choices);
[[nodiscard]] Outcome fuzz_add(Choices& choices);

}  // namespace pare::kernels::fuzz
