// The cases of fuzz.h with bytes that libFuzzer chooses (Clang only): the target kernels_fuzz of -DPARE_FUZZ=ON.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "pare/kernels/fuzz/fuzz.h"

// libFuzzer gives the name. NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pare::kernels::fuzz;
  Choices choices({data, size});
  const auto operation = static_cast<Operation>(choices.below(static_cast<std::int64_t>(Operation::kCount)));
  const Outcome outcome = fuzz(operation, choices);
  if (!outcome.problem.empty()) {
    std::fprintf(stderr, "%s: %s\n", outcome.kernel, outcome.problem.c_str());
    std::abort();
  }
  return 0;
}
