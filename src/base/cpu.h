// What the CPU can do, and the choice of instruction set that kernels are taken from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pare {

// kAvx512Vnni: AVX-512 F, BW, DQ, VL and VNNI (Cascade Lake). kAvx512Vbmi: that and VBMI, VBMI2 (Ice Lake, Zen 4).
enum class Isa { kScalar, kAvx2, kAvx512Vnni, kAvx512Vbmi, kNeonDotprod, kNeonI8mm };

[[nodiscard]] std::string_view to_string(Isa isa);

// Weakest first; kScalar is always there.
[[nodiscard]] std::vector<Isa> supported_isas();

// The best supported one, or the one that the environment variable PARE_ISA names ("scalar", "avx2", …).
// Throws kUnsupported if the machine lacks that one and kInvalidArgument if there is no such name.
[[nodiscard]] Isa chosen_isa();

enum class CpuVendor { kAmd, kIntel, kOther };
[[nodiscard]] CpuVendor cpu_vendor();

// For reports: "AMD EPYC …".
[[nodiscard]] std::string cpu_name();

}  // namespace pare
