// A benchmark program's main: runs the registered kernels, then prints each sparse format beside dense.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>

namespace pare::kernels::testing {

// Named "<shape>/<format>/<isa>/<kernel>".
template <typename Body>
void register_case(const std::string& shape, const std::string& format, const std::string& isa,
                   const std::string& kernel, Body body) {
  const std::string name = shape + "/" + format + "/" + isa + "/" + kernel;
  benchmark::RegisterBenchmark(name.c_str(), std::move(body))->Unit(benchmark::kMicrosecond);
}

// Remembers the fastest repetition of each case.
class RatioReporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.error_occurred || run.run_type != Run::RT_Iteration) continue;
      const std::string& name = run.run_name.function_name;
      const std::size_t shape_end = name.find('/');
      const std::size_t format_end = name.find('/', shape_end + 1);
      const std::size_t isa_end = name.find('/', format_end + 1);
      const std::string key = name.substr(0, shape_end) + "  " + name.substr(format_end + 1, isa_end - format_end - 1);
      double& best = times_[key][name.substr(shape_end + 1, format_end - shape_end - 1)];
      const double time = run.GetAdjustedRealTime();
      best = best == 0.0 || time < best ? time : best;
    }
  }

  void print_ratios() const {
    std::printf("\n%-48s %-8s %12s %12s %10s\n", "shape  isa", "format", "dense us", "us", "ratio");
    for (const auto& [key, by_format] : times_) {
      const auto dense = by_format.find("dense");
      if (dense == by_format.end()) continue;
      for (const auto& [format, time] : by_format) {
        if (format == "dense") continue;
        std::printf("%-48s %-8s %12.1f %12.1f %10.2f\n", key.c_str(), format.c_str(), dense->second, time,
                    time / dense->second);
      }
    }
  }

 private:
  std::map<std::string, std::map<std::string, double>> times_;
};

inline int run_and_print_ratios(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  RatioReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.print_ratios();
  return 0;
}

}  // namespace pare::kernels::testing
