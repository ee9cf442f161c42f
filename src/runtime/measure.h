// How long a session takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pare/runtime/session.h"

namespace pare::runtime {

struct MeasureOptions {
  std::int64_t batch = 64;
  std::int64_t rounds = 30;  // timed runs of one batch each, after three that are not timed
  std::uint64_t seed = 0;    // of the random images, or numbers in [-1, 1]
  bool by_layer = false;     // time every layer too, in as many rounds again
};

struct Measurement {
  std::vector<double> round_seconds;  // in the order they were taken
  std::vector<LayerTime> layers;      // sums over all rounds; empty unless by_layer

  [[nodiscard]] double min_seconds() const;
  [[nodiscard]] double median_seconds() const;
};

// Throws kInvalidArgument for a batch or a number of rounds outside [1, 65536] and [1, 1000000].
[[nodiscard]] Measurement measure(Session& session, const MeasureOptions& options);

}  // namespace pare::runtime
