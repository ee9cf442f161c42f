// One own kernel on one shape behind a C interface, so that bench/peers/linear_layers.py can let it race runtimes that
// only Python reaches. pare itself has no such interface: single kernels are no product.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "bench/contestants.h"
#include "bench/real_contestants.h"
#include "pare/base/cpu.h"

namespace {

using pare::bench::Pattern;

Pattern pattern_of(const std::string& text) {
  long long v = 0;
  long long n = 0;
  long long m = 0;
  if (std::sscanf(text.c_str(), "%lld:%lld:%lld", &v, &n, &m) == 3) return pare::bench::vnm_pattern(v, n, m);
  return text == "2:4" ? pare::bench::two_four_pattern() : pare::bench::dense_pattern();
}

pare::bench::Prepared own_of(const pare::bench::GemmShape& shape, const std::string& text) {
  const std::string int4 = "int4 ";
  if (text.starts_with(int4)) {
    return pare::bench::RealGemmField(shape, 1).int4(pattern_of(text.substr(int4.size())), 32, pare::chosen_isa());
  }
  return pare::bench::GemmField(shape, 1).own(pattern_of(text), pare::chosen_isa());
}

}  // namespace

extern "C" {

// `pattern`: "dense", "2:4", "64:1:4"; "int4 dense" and "int4 2:4" take real activations. Null if the kernel's result
// is wrong; `text` gets its name, or what is wrong.
__attribute__((visibility("default"))) void* pare_bench_gemm_make(std::int64_t m, std::int64_t n, std::int64_t k,
                                                                  std::int64_t layers, const char* pattern, char* text,
                                                                  std::int64_t text_bytes) {
  std::string name;
  void* made = nullptr;
  try {
    const pare::bench::GemmShape shape{.m = m, .n = n, .k = k, .layers = layers};
    auto own = std::make_unique<pare::bench::Prepared>(own_of(shape, pattern));
    name = own->trouble.empty() ? own->contestant.name : own->trouble.front();
    if (own->trouble.empty()) made = own.release();
  } catch (const std::exception& error) {
    name = error.what();
  }
  std::snprintf(text, static_cast<std::size_t>(text_bytes), "%s", name.c_str());
  return made;
}

__attribute__((visibility("default"))) void pare_bench_gemm_run(void* gemm) {
  static_cast<pare::bench::Prepared*>(gemm)->contestant.run();
}

__attribute__((visibility("default"))) void pare_bench_gemm_free(void* gemm) {
  delete static_cast<pare::bench::Prepared*>(gemm);
}

}  // extern "C"
