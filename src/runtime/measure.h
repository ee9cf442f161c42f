// How long a session takes, and each of its layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/runtime/session.h"

namespace pare::runtime {

struct MeasureOptions {
  std::int64_t batch = 64;
  std::int64_t rounds = 30;  // timed runs of one batch each, after three that are not timed
  std::uint64_t seed = 0;    // of the random images, or numbers in [-1, 1]
  bool by_layer = false;     // time every layer too, in as many rounds again
};

// Times of the same work, in the order they were taken. Never empty where it is asked for a time.
struct Seconds {
  std::vector<double> of_round;

  [[nodiscard]] double min() const;
  [[nodiscard]] double median() const;
};

// A layer's time beside its work. Work is that of the layer dense, so a layer that skips zeros can exceed the peak.
struct LayerProfile {
  PlannedLayer layer;
  Seconds time;                   // of a batch
  double share = 0.0;             // of all layers' median time
  double ops_per_second = 0.0;    // two a multiply-add, at the minimum
  double share_of_peak = 0.0;     // of peak_macs_per_second; 0 where there is no multiply-add
  std::int64_t bytes = 0;         // activations read and written, weights read once
  double bytes_per_second = 0.0;  // at the minimum
};

struct Measurement {
  Seconds time;
  std::vector<LayerProfile> layers;   // empty unless by_layer
  double peak_macs_per_second = 0.0;  // of all threads together, measured in between; 0 unless by_layer
};

// Throws kInvalidArgument for a batch or a number of rounds outside [1, 65536] and [1, 1000000].
[[nodiscard]] Measurement measure(Session& session, const MeasureOptions& options);

// Random inputs of a session: uniform raw pixels where it takes images, else numbers in [-1, 1).
class RandomInput {
 public:
  RandomInput(const Session& session, std::uint64_t seed, std::int64_t count);
  // Of all inputs, by a session of the same input.
  void run(Session& session, std::span<float> output) const;

 private:
  std::int64_t count_;
  std::vector<std::uint8_t> images_;
  std::vector<float> reals_;
};

// What that many threads reach at once when they do nothing but dot products of the instruction set, some 10 ms long:
// the sum of each one's best (kernels/peak/peak.h).
[[nodiscard]] double peak_macs_per_second(Isa isa, std::size_t threads);

}  // namespace pare::runtime
