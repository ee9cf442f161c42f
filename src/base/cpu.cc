#include "pare/base/cpu.h"

#include <cpuinfo.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare {
namespace {

constexpr std::array kAllIsas = {Isa::kScalar,     Isa::kAvx2,        Isa::kAvx512Vnni,
                                 Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm};

// False in a sandbox that hides what cpuinfo reads; then the scalar code is all that is safe.
bool cpuinfo_ready() {
  static const bool ready = cpuinfo_initialize();
  return ready;
}

#if defined(__aarch64__) && defined(__linux__)
// Debian 12's cpuinfo does not know this feature: bit 13 of AT_HWCAP2 (Linux, arch/arm64/include/uapi/asm/hwcap.h).
bool has_arm_i8mm() { return (::getauxval(AT_HWCAP2) & (1UL << 13)) != 0; }
#else
bool has_arm_i8mm() { return false; }
#endif

bool has_avx512vnni() {
  return cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512dq() &&
         cpuinfo_has_x86_avx512vl() && cpuinfo_has_x86_avx512vnni();
}

bool is_supported(Isa isa) {
  if (isa == Isa::kScalar) return true;
  if (!cpuinfo_ready()) return false;
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return cpuinfo_has_x86_avx2();
    case Isa::kAvx512Vnni:
      return has_avx512vnni();
    case Isa::kAvx512Vbmi:
      return has_avx512vnni() && cpuinfo_has_x86_avx512vbmi() && cpuinfo_has_x86_avx512vbmi2();
    case Isa::kNeonDotprod:
      return cpuinfo_has_arm_neon_dot();
    case Isa::kNeonI8mm:
      return cpuinfo_has_arm_neon_dot() && has_arm_i8mm();
  }
  return false;
}

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Vbmi:
      return "avx512vbmi";
    case Isa::kNeonDotprod:
      return "neon_dotprod";
    case Isa::kNeonI8mm:
      return "neon_i8mm";
  }
  PARE_CHECK(!"an Isa without a name");
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  std::copy_if(kAllIsas.begin(), kAllIsas.end(), std::back_inserter(isas), is_supported);
  return isas;
}

Isa chosen_isa() {
  const std::vector<Isa> supported = supported_isas();
  const char* const wanted = std::getenv("PARE_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported.back();

  std::vector<std::string> names;
  for (const Isa isa : kAllIsas) {
    names.emplace_back(to_string(isa));
    if (to_string(isa) != wanted) continue;
    if (is_supported(isa)) return isa;
    std::vector<std::string> supported_names;
    for (const Isa other : supported) supported_names.emplace_back(to_string(other));
    throw Error(ErrorCategory::kUnsupported, str_cat("this machine has no ", wanted), "PARE_ISA",
                "it has: " + join(supported_names, ", "));
  }
  throw Error(ErrorCategory::kInvalidArgument, str_cat("no instruction set is called '", wanted, "'"), "PARE_ISA",
              did_you_mean(wanted, names));
}

CpuVendor cpu_vendor() {
  if (!cpuinfo_ready() || cpuinfo_get_cores_count() == 0) return CpuVendor::kOther;
  switch (cpuinfo_get_core(0)->vendor) {
    case cpuinfo_vendor_amd:
      return CpuVendor::kAmd;
    case cpuinfo_vendor_intel:
      return CpuVendor::kIntel;
    default:
      return CpuVendor::kOther;
  }
}

std::string cpu_name() {
  if (!cpuinfo_ready() || cpuinfo_get_packages_count() == 0) return "unknown CPU";
  const std::string name = cpuinfo_get_package(0)->name;
  return name.empty() ? "unknown CPU" : name;
}

}  // namespace pare
