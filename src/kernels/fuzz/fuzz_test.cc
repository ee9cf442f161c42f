#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "pare/base/cpu.h"
#include "pare/kernels/fuzz/fuzz.h"
#include "pare/kernels/testing/float_control.h"

namespace pare::kernels::fuzz {
namespace {

// PARE_FUZZ_CASES makes it longer; a failure prints the case, which PARE_FUZZ_FIRST runs again.
std::int64_t from_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

class KernelFuzz : public ::testing::TestWithParam<Operation> {};

TEST_P(KernelFuzz, EqualsTheReferenceAndKeepsToItsOperands) {
  const std::int64_t first = from_environment("PARE_FUZZ_FIRST", 0);
  const std::int64_t cases = from_environment("PARE_FUZZ_CASES", 150);
  std::set<std::string> kernels;
  for (std::int64_t i = first; i < first + cases; ++i) {
    Rng rng(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(GetParam()));
    std::array<std::uint8_t, kCaseBytes> bytes{};
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(rng.below(256));
    Choices choices(bytes);
    const Outcome outcome = fuzz(GetParam(), choices);
    ASSERT_EQ(outcome.problem, "") << outcome.kernel << ", case " << i;
    kernels.insert(outcome.kernel);
  }
  // One row of plain code, and others wherever this machine has more.
  EXPECT_GE(kernels.size(), supported_isas().size() > 1 && cases > 100 ? 2U : 1U);
  for (const std::string& kernel : kernels) std::printf("ran: %s\n", kernel.c_str());
}

std::string name_of(const ::testing::TestParamInfo<Operation>& operation) {
  constexpr const char* kNames[] = {"Gemm",          "Conv",           "Depthwise", "MaxPool", "AveragePool",
                                    "QuantizeTable", "QuantizeAffine", "Transpose", "Add"};
  return kNames[static_cast<int>(operation.param)];
}

INSTANTIATE_TEST_SUITE_P(Each, KernelFuzz,
                         ::testing::Values(Operation::kGemm, Operation::kConv, Operation::kDepthwise,
                                           Operation::kMaxPool, Operation::kAveragePool, Operation::kQuantizeTable,
                                           Operation::kQuantizeAffine, Operation::kTranspose, Operation::kAdd),
                         name_of);

// What the cases rely on when they say that a kernel left it alone.
TEST(FloatControl, IsReadBackAsItWasSet) {
  const std::uint64_t usual = testing::float_control();
  testing::set_float_control(testing::kUnusualFloatControl);
  const std::uint64_t unusual = testing::float_control();
  testing::set_float_control(usual);
  EXPECT_EQ(unusual, testing::kUnusualFloatControl);
  EXPECT_NE(unusual, usual);
  EXPECT_EQ(testing::float_control(), usual);
}

TEST(Choices, AreZeroAfterTheLastByte) {
  const std::array<std::uint8_t, 3> bytes{7, 1, 2};
  Choices choices(bytes);
  EXPECT_EQ(choices.below(10), 7);
  EXPECT_EQ(choices.below(1000), 258);
  EXPECT_EQ(choices.below(1000), 0);
  EXPECT_EQ(choices.between(5, 9), 5);
}

}  // namespace
}  // namespace pare::kernels::fuzz
