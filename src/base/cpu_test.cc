#include "pare/base/cpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "pare/base/testing.h"

namespace pare {
namespace {

// Sets PARE_ISA and puts back what was there.
class ForcedIsa {
 public:
  explicit ForcedIsa(const char* name) {
    if (const char* const old = std::getenv("PARE_ISA")) old_ = old;
    set(name);
  }
  ~ForcedIsa() { set(old_ ? old_->c_str() : nullptr); }
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  static void set(const char* name) {
    if (name == nullptr) {
      ::unsetenv("PARE_ISA");
    } else {
      ::setenv("PARE_ISA", name, 1);
    }
  }
  std::optional<std::string> old_;
};

constexpr Isa kAll[] = {Isa::kScalar,     Isa::kAvx2,        Isa::kAvx512Vnni,
                        Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm};

TEST(Cpu, ScalarIsAlwaysThereAndFirst) {
  const std::vector<Isa> isas = supported_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::kScalar);
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
  EXPECT_EQ(std::adjacent_find(isas.begin(), isas.end()), isas.end());
}

TEST(Cpu, AgreesWithTheKernelsList) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::vector<std::string> flags;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::string word;
    while (words >> word) flags.push_back(word);
    break;
  }
  if (flags.empty()) GTEST_SKIP() << "no /proc/cpuinfo here";
  const auto has = [&](const char* flag) { return std::find(flags.begin(), flags.end(), flag) != flags.end(); };
  const std::vector<Isa> isas = supported_isas();
  const auto supported = [&](Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  EXPECT_EQ(supported(Isa::kAvx2), has("avx2"));
  const bool vnni = has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl") && has("avx512_vnni");
  EXPECT_EQ(supported(Isa::kAvx512Vnni), vnni);
  EXPECT_EQ(supported(Isa::kAvx512Vbmi), vnni && has("avx512vbmi") && has("avx512_vbmi2"));
  EXPECT_EQ(supported(Isa::kNeonDotprod), has("asimddp"));
  EXPECT_EQ(supported(Isa::kNeonI8mm), has("asimddp") && has("i8mm"));
}

TEST(Cpu, BestSupportedIsChosenUnlessForced) {
  const ForcedIsa none(nullptr);
  EXPECT_EQ(chosen_isa(), supported_isas().back());
  const ForcedIsa empty("");
  EXPECT_EQ(chosen_isa(), supported_isas().back());
}

TEST(Cpu, EnvironmentForcesOrFails) {
  const std::vector<Isa> isas = supported_isas();
  for (const Isa isa : kAll) {
    const ForcedIsa forced(std::string(to_string(isa)).c_str());
    if (std::find(isas.begin(), isas.end(), isa) != isas.end()) {
      EXPECT_EQ(chosen_isa(), isa);
    } else {
      EXPECT_PARE_ERROR(chosen_isa(), kUnsupported, "it has: scalar");
    }
  }
  const ForcedIsa misspelt("avx-2");
  EXPECT_PARE_ERROR(chosen_isa(), kInvalidArgument, "did you mean 'avx2'");
}

TEST(Cpu, VendorAgreesWithTheKernelsName) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("vendor_id")) {
  }
  if (line.empty()) GTEST_SKIP() << "no vendor_id in /proc/cpuinfo here";
  EXPECT_EQ(cpu_vendor() == CpuVendor::kAmd, line.ends_with("AuthenticAMD"));
  EXPECT_EQ(cpu_vendor() == CpuVendor::kIntel, line.ends_with("GenuineIntel"));
}

TEST(Cpu, HasAName) { EXPECT_FALSE(cpu_name().empty()); }

}  // namespace
}  // namespace pare
