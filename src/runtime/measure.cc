#include "pare/runtime/measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"
#include "pare/base/threads.h"
#include "pare/kernels/peak/peak.h"

namespace pare::runtime {

namespace {

constexpr int kWarmUpRounds = 3;

void require_between(std::int64_t value, std::int64_t low, std::int64_t high, const char* what) {
  if (value < low || value > high) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(value, " is outside ", low, " to ", high), what);
  }
}

template <typename Run>
double seconds_of(const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

LayerProfile profile_of(const PlannedLayer& layer, Seconds time, std::int64_t batch, double peak) {
  LayerProfile profile;
  profile.layer = layer;
  // A layer that does nothing may take less than the clock's tick.
  const double least = std::max(time.min(), 1e-9);
  const auto macs = static_cast<double>(layer.macs * batch);
  profile.ops_per_second = 2.0 * macs / least;
  profile.share_of_peak = macs / least / peak;
  profile.bytes = layer.activation_bytes * batch + layer.weight_bytes;
  profile.bytes_per_second = static_cast<double>(profile.bytes) / least;
  profile.time = std::move(time);
  return profile;
}

}  // namespace

double Seconds::min() const { return *std::min_element(of_round.begin(), of_round.end()); }

double Seconds::median() const {
  std::vector<double> sorted = of_round;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2.0;
}

RandomInput::RandomInput(const Session& session, std::uint64_t seed, std::int64_t count) : count_(count) {
  const auto numbers = static_cast<std::size_t>(count * session.input_elems());
  Rng rng(seed);
  if (session.takes_images()) {
    images_.resize(numbers);
    for (std::uint8_t& pixel : images_) pixel = static_cast<std::uint8_t>(rng.below(256));
  } else {
    reals_.resize(numbers);
    for (float& real : reals_) real = 2.0F * rng.uniform() - 1.0F;
  }
}

void RandomInput::run(Session& session, std::span<float> output) const {
  if (session.takes_images()) {
    session.run(std::span<const std::uint8_t>(images_), count_, output);
  } else {
    session.run(std::span<const float>(reals_), count_, output);
  }
}

double peak_macs_per_second(Isa isa, std::size_t threads) {
  constexpr double kRoundSeconds = 2.5e-4;
  constexpr int kRounds = 20;
  const kernels::PeakKernel& kernel = kernels::find_peak_kernel(isa);
  std::atomic<std::int64_t> done = 0;  // used, so that the work is
  const auto least_of = [&](int rounds, std::int64_t iterations) {
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < rounds; ++i) {
      least = std::min(least, seconds_of([&] { done += kernel.run(iterations); }));
    }
    return least;
  };
  std::int64_t iterations = 256;
  while (iterations < kernels::kMostPeakIterations && least_of(3, iterations) < kRoundSeconds) iterations *= 2;
  // Each thread reads its own clock: what it waits for the others, on a machine that is busy, is not their work.
  ThreadPool pool(threads);
  std::vector<double> least(pool.threads());
  pool.parallel_for_slots(
      pool.threads(), [&](std::size_t /*slot*/, std::size_t index) { least[index] = least_of(kRounds, iterations); });
  double sum = 0.0;
  for (const double seconds : least) sum += static_cast<double>(kernel.macs * iterations) / std::max(seconds, 1e-9);
  return sum;
}

Measurement measure(Session& session, const MeasureOptions& options) {
  require_between(options.batch, 1, 65536, "batch");
  require_between(options.rounds, 1, 1000000, "rounds");
  const RandomInput input(session, options.seed, options.batch);
  std::vector<float> logits(static_cast<std::size_t>(options.batch * session.classes()));

  Measurement result;
  const auto run = [&] { input.run(session, logits); };
  for (int round = 0; round < kWarmUpRounds; ++round) run();
  for (std::int64_t round = 0; round < options.rounds; ++round) result.time.of_round.push_back(seconds_of(run));
  if (!options.by_layer) return result;

  // Apart, because reading the clock around every layer takes time itself.
  std::vector<Seconds> times(session.layers().size());
  for (std::int64_t round = 0; round < options.rounds; ++round) {
    session.enable_profile(true);
    run();
    const std::vector<LayerTime> layers = session.profile();
    for (std::size_t i = 0; i < layers.size(); ++i) times[i].of_round.push_back(layers[i].seconds);
  }
  session.enable_profile(false);
  result.peak_macs_per_second = peak_macs_per_second(session.isa(), session.threads());
  double all = 0.0;
  for (std::size_t i = 0; i < times.size(); ++i) {
    result.layers.push_back(
        profile_of(session.layers()[i], std::move(times[i]), options.batch, result.peak_macs_per_second));
    all += result.layers.back().time.median();
  }
  for (LayerProfile& layer : result.layers) layer.share = all > 0.0 ? layer.time.median() / all : 0.0;
  return result;
}

}  // namespace pare::runtime
