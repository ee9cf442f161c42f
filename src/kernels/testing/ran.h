// Proof of which kernels a test has run on this machine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pare/base/cpu.h"

namespace pare::kernels::testing {

[[nodiscard]] inline bool runs_here(Isa isa) {
  const std::vector<Isa> here = supported_isas();
  return std::find(here.begin(), here.end(), isa) != here.end();
}

// Counts the cases that each kernel of a table was run on.
template <typename Kernel>
class Ran {
 public:
  explicit Ran(std::span<const Kernel> table) : table_(table) {}

  void add(const Kernel& kernel) { ++cases_[kernel.name]; }

  // Every kernel for an instruction set of this machine has run. Prints the list.
  void expect_kernels() {
    for (const Kernel& kernel : table_) {
      const int cases = cases_[kernel.name];
      EXPECT_EQ(cases > 0, runs_here(kernel.isa)) << kernel.name;
      std::printf("%s: %s on %s, %d cases\n", cases > 0 ? "ran" : "not run here", kernel.name,
                  std::string(to_string(kernel.isa)).c_str(), cases);
      ::testing::Test::RecordProperty(kernel.name, cases);
    }
  }

  // The same, and every such set has kernels of its own.
  void expect_all() {
    expect_kernels();
    for (const Isa isa : supported_isas()) {
      EXPECT_TRUE(std::any_of(table_.begin(), table_.end(), [isa](const Kernel& k) { return k.isa == isa; }))
          << "no kernel for " << to_string(isa);
    }
  }

 private:
  std::span<const Kernel> table_;
  std::map<std::string_view, int> cases_;
};

}  // namespace pare::kernels::testing
