// The caller's rounding mode, treatment of denormals and exception masks: what no kernel may change. Test-only.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pare::kernels::testing {

// Without the flags of exceptions that have occurred.
[[nodiscard]] inline std::uint64_t float_control() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~0x3FU;
#elif defined(__aarch64__)
  std::uint64_t control = 0;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  return control;
#else
  return 0;
#endif
}

inline void set_float_control(std::uint64_t control) {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<unsigned>(control));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" : : "r"(control));
#else
  static_cast<void>(control);
#endif
}

// Rounding toward zero, denormals flushed: nothing that a program starts with.
#if defined(__x86_64__)
inline constexpr std::uint64_t kUnusualFloatControl = 0x1F80 | 0x6000 | 0x8000 | 0x0040;
#elif defined(__aarch64__)
inline constexpr std::uint64_t kUnusualFloatControl = std::uint64_t{3} << 22 | std::uint64_t{1} << 24;
#else
inline constexpr std::uint64_t kUnusualFloatControl = 0;
#endif

}  // namespace pare::kernels::testing
