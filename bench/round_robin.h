// Times contestants side by side. A virtual machine's clock and caches drift by tens of percent within minutes, so a
// time means little; the ratio of two contestants that take turns within milliseconds does.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace pare::bench {

struct Contestant {
  std::string name;
  std::function<void()> run;
};

// What a call took: the calling thread's CPU time, in which time slices of other processes do not count; or wall time,
// for work that other threads take part in.
enum class Clock { kThread, kWall };

struct RoundRobinOptions {
  std::size_t rounds = 25;
  double visit_seconds = 0.003;  // a contestant's turn: as many calls as fit, at least one
  Clock clock = Clock::kThread;
};

// Seconds of one call: times[contestant][round]. Every round visits all contestants, starting one further on each time.
using Times = std::vector<std::vector<double>>;
[[nodiscard]] Times run_round_robin(const std::vector<Contestant>& contestants, const RoundRobinOptions& options);

[[nodiscard]] double median(std::vector<double> values);

// How many times as fast as `against` is `ours`, round by round.
struct Ratio {
  double min = 0.0;
  double median = 0.0;
  double max = 0.0;
};
[[nodiscard]] Ratio ratio_of(const std::vector<double>& ours, const std::vector<double>& against);

// Keeps this thread, and those that it starts from now on, on one core while it lives: the last of those that the
// process may run on, because the first tends to serve interrupts.
class PinToOneCore {
 public:
  PinToOneCore();
  ~PinToOneCore();
  PinToOneCore(const PinToOneCore&) = delete;
  PinToOneCore& operator=(const PinToOneCore&) = delete;

 private:
  std::vector<unsigned long> before_;  // affinity mask; empty if it could not be changed
};

}  // namespace pare::bench
