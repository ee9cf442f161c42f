// What pare-run bench has measured, and the forms in which it shows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pare/runtime/measure.h"

namespace pare::cli {

struct BenchReport {
  std::string model;
  std::string cpu;
  std::string isa;
  std::int64_t batch = 0;
  std::size_t threads = 0;
  std::int64_t rounds = 0;
  std::size_t arena_bytes = 0;
  std::vector<std::string> notes;  // of the session
  runtime::Measurement result;
};

// "batch 64, 2 threads, 30 rounds, AMD EPYC …, instruction set avx512vbmi".
[[nodiscard]] std::string conditions_of(const BenchReport& report);

// One page without scripts, styles or images from elsewhere: bars of where the time goes, and a table of the layers.
// Precondition: measured by layer.
[[nodiscard]] std::string bench_html(const BenchReport& report);

}  // namespace pare::cli
