#include "pare/base/cpu.h"

#if !defined(PARE_WITHOUT_CPUINFO)
#include <cpuinfo.h>
#endif

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

#if !defined(PARE_WITHOUT_CPUINFO)
// False in a sandbox that hides what cpuinfo reads; then the scalar code is all that is safe.
bool cpuinfo_ready() {
  static const bool ready = cpuinfo_initialize();
  return ready;
}
#endif

#if defined(__aarch64__) && defined(__linux__)
// The kernel's own word: Debian 12's cpuinfo does not know i8mm and reads files that an emulator does not have.
// Bits of linux/arch/arm64/include/uapi/asm/hwcap.h.
bool has_neon_dotprod() { return (::getauxval(AT_HWCAP) & (1UL << 20)) != 0; }
bool has_neon_i8mm() { return has_neon_dotprod() && (::getauxval(AT_HWCAP2) & (1UL << 13)) != 0; }
#else
bool has_neon_dotprod() { return false; }
bool has_neon_i8mm() { return false; }
#endif

#if defined(__x86_64__) && !defined(PARE_WITHOUT_CPUINFO)
bool has_avx2() { return cpuinfo_ready() && cpuinfo_has_x86_avx2(); }
bool has_avx512vnni() {
  return cpuinfo_ready() && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512dq() &&
         cpuinfo_has_x86_avx512vl() && cpuinfo_has_x86_avx512vnni();
}
bool has_avx512vbmi() { return has_avx512vnni() && cpuinfo_has_x86_avx512vbmi() && cpuinfo_has_x86_avx512vbmi2(); }
#else
bool has_avx2() { return false; }
bool has_avx512vnni() { return false; }
bool has_avx512vbmi() { return false; }
#endif

bool is_supported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return has_avx2();
    case Isa::kAvx512Vnni:
      return has_avx512vnni();
    case Isa::kAvx512Vbmi:
      return has_avx512vbmi();
    case Isa::kNeonDotprod:
      return has_neon_dotprod();
    case Isa::kNeonI8mm:
      return has_neon_i8mm();
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
#if !defined(PARE_WITHOUT_CPUINFO)
  if (!cpuinfo_ready() || cpuinfo_get_cores_count() == 0) return CpuVendor::kOther;
  switch (cpuinfo_get_core(0)->vendor) {
    case cpuinfo_vendor_amd:
      return CpuVendor::kAmd;
    case cpuinfo_vendor_intel:
      return CpuVendor::kIntel;
    default:
      break;
  }
#endif
  return CpuVendor::kOther;
}

std::string cpu_name() {
  std::string name;
#if !defined(PARE_WITHOUT_CPUINFO)
  if (cpuinfo_ready() && cpuinfo_get_packages_count() != 0) name = cpuinfo_get_package(0)->name;
#endif
  return name.empty() ? "unknown CPU" : name;
}

}  // namespace pare
