#include "bench/round_robin.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "pare/base/error.h"

namespace pare::bench {
namespace {

double now(Clock clock) {
  timespec time{};
  clock_gettime(clock == Clock::kThread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of_calls(const Contestant& contestant, std::int64_t calls, Clock clock) {
  const double start = now(clock);
  for (std::int64_t i = 0; i < calls; ++i) contestant.run();
  return (now(clock) - start) / static_cast<double>(calls);
}

long interruptions() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// A visit in which another process took the core is repeated, a few times: the other one has used the caches, too.
double visit(const Contestant& contestant, std::int64_t calls, Clock clock) {
  constexpr int kMostRepeats = 5;
  double seconds = 0.0;
  for (int repeat = 0; repeat < kMostRepeats; ++repeat) {
    contestant.run();
    const long before = interruptions();
    seconds = seconds_of_calls(contestant, calls, clock);
    if (interruptions() == before) break;
  }
  return seconds;
}

}  // namespace

Times run_round_robin(const std::vector<Contestant>& contestants, const RoundRobinOptions& options) {
  std::vector<std::int64_t> calls;
  for (const Contestant& contestant : contestants) {
    contestant.run();
    const double seconds =
        std::min(seconds_of_calls(contestant, 1, options.clock), seconds_of_calls(contestant, 1, options.clock));
    calls.push_back(
        std::max<std::int64_t>(1, static_cast<std::int64_t>(options.visit_seconds / std::max(seconds, 1e-9))));
  }
  Times times(contestants.size());
  for (std::size_t round = 0; round < options.rounds; ++round) {
    for (std::size_t turn = 0; turn < contestants.size(); ++turn) {
      const std::size_t index = (turn + round) % contestants.size();
      times[index].push_back(visit(contestants[index], calls[index], options.clock));
    }
  }
  return times;
}

double median(std::vector<double> values) {
  PARE_CHECK(!values.empty());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2.0;
}

Ratio ratio_of(const std::vector<double>& ours, const std::vector<double>& against) {
  PARE_CHECK(ours.size() == against.size());
  std::vector<double> ratios;
  for (std::size_t round = 0; round < ours.size(); ++round) ratios.push_back(against[round] / ours[round]);
  const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
  return {.min = *least, .median = median(ratios), .max = *most};
}

PinToOneCore::PinToOneCore() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  int last = CPU_SETSIZE - 1;
  while (last > 0 && !CPU_ISSET(last, &mask)) --last;
  before_.resize(sizeof mask / sizeof before_[0]);
  std::memcpy(before_.data(), &mask, sizeof mask);
  CPU_ZERO(&mask);
  CPU_SET(last, &mask);
  if (sched_setaffinity(0, sizeof mask, &mask) != 0) before_.clear();
}

PinToOneCore::~PinToOneCore() {
  if (!before_.empty()) {
    sched_setaffinity(0, before_.size() * sizeof before_[0], reinterpret_cast<const cpu_set_t*>(before_.data()));
  }
}

}  // namespace pare::bench
