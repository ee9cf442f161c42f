#include "pare/runtime/measure.h"

#include <algorithm>
#include <chrono>

#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/strings.h"

namespace pare::runtime {

namespace {

constexpr int kWarmUpRounds = 3;

void require_between(std::int64_t value, std::int64_t low, std::int64_t high, const char* what) {
  if (value < low || value > high) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(value, " is outside ", low, " to ", high), what);
  }
}

}  // namespace

double Measurement::min_seconds() const { return *std::min_element(round_seconds.begin(), round_seconds.end()); }

double Measurement::median_seconds() const {
  std::vector<double> sorted = round_seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2.0;
}

Measurement measure(Session& session, const MeasureOptions& options) {
  require_between(options.batch, 1, 65536, "batch");
  require_between(options.rounds, 1, 1000000, "rounds");
  const auto numbers = static_cast<std::size_t>(options.batch * session.input_elems());
  std::vector<float> logits(static_cast<std::size_t>(options.batch * session.classes()));
  std::vector<std::uint8_t> images;
  std::vector<float> reals;
  Rng rng(options.seed);
  if (session.takes_images()) {
    images.resize(numbers);
    for (std::uint8_t& pixel : images) pixel = static_cast<std::uint8_t>(rng.below(256));
  } else {
    reals.resize(numbers);
    for (float& real : reals) real = 2.0F * rng.uniform() - 1.0F;
  }

  Measurement result;
  const auto run = [&] {
    if (session.takes_images()) {
      session.run(images, options.batch, logits);
    } else {
      session.run(reals, options.batch, logits);
    }
  };
  for (int round = 0; round < kWarmUpRounds; ++round) run();
  for (std::int64_t round = 0; round < options.rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    result.round_seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  // Apart, because reading the clock around every layer takes time itself.
  if (options.by_layer) {
    session.enable_profile(true);
    for (std::int64_t round = 0; round < options.rounds; ++round) run();
    session.enable_profile(false);
    result.layers = session.profile();
  }
  return result;
}

}  // namespace pare::runtime
