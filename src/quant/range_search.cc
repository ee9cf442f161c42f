#include "pare/quant/range_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace pare::quant {
namespace {

constexpr std::int64_t kUpsample = 16;  // parts that an old bin is split into
constexpr double kQuantileStep = 1e-5;
constexpr int kShrinkSteps = 100;

std::int64_t bin_of(double position) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::floor(position)), 0, Histogram::kBins - 1);
}

// Integral of density * t^2 for t from `begin` to `end`.
double second_moment(double begin, double end, double density) {
  return density * (end * end * end - begin * begin * begin) / 3.0;
}

// Squared error of `levels` codes over the bins [first, last]; values beyond go to the nearest code. Positions count
// from the beginning of bin `first`.
double quantization_error(const Histogram& histogram, std::int64_t first, std::int64_t last, std::int64_t levels) {
  const double width = histogram.bin_width();
  const double code_width = width * static_cast<double>(last - first + 1) / static_cast<double>(levels);
  const double half = code_width / 2.0;
  const auto code_of = [&](double position) {
    return std::clamp(std::floor(position / code_width), 0.0, static_cast<double>(levels - 1));
  };
  double error = 0.0;
  for (std::int64_t bin = 0; bin < Histogram::kBins; ++bin) {
    const double density = static_cast<double>(histogram.counts()[static_cast<std::size_t>(bin)]) / width;
    if (density == 0.0) {
      continue;
    }
    const double begin = static_cast<double>(bin - first) * width;
    const double end = begin + width;
    const double first_code = code_of(begin);
    const double last_code = code_of(end);
    // From the bin's beginning to the end of its first code, whole codes, and from the last code's beginning.
    error += second_moment(begin - (first_code * code_width + half), half, density);
    error += (last_code - first_code - 1.0) * second_moment(-half, half, density);
    error += second_moment(-half, end - (last_code * code_width + half), density);
  }
  return error;
}

ValueRange range_of_bins(const Histogram& histogram, std::int64_t first, std::int64_t last) {
  const double min = histogram.range().min;
  return {static_cast<float>(min + histogram.bin_width() * static_cast<double>(first)),
          static_cast<float>(min + histogram.bin_width() * static_cast<double>(last + 1))};
}

std::vector<double> cumulative(const Histogram& histogram) {
  std::vector<double> sums(histogram.counts().size());
  std::partial_sum(histogram.counts().begin(), histogram.counts().end(), sums.begin(), std::plus<double>());
  return sums;
}

}  // namespace

double Histogram::bin_width() const {
  return (static_cast<double>(range_.max) - static_cast<double>(range_.min)) / static_cast<double>(kBins);
}

std::vector<float> Histogram::count(const float* values, std::int64_t count, ValueRange range) const {
  std::vector<float> counts(kBins, 0.0F);
  const double min = range.min;
  const double scale =
      range.max > range.min ? static_cast<double>(kBins) / (static_cast<double>(range.max) - min) : 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    counts[static_cast<std::size_t>(bin_of((values[i] - min) * scale))] += 1.0F;
  }
  return counts;
}

std::vector<float> Histogram::moved_to(ValueRange range) const {
  std::vector<float> counts(kBins, 0.0F);
  const double min = range.min;
  const double scale = static_cast<double>(kBins) / (static_cast<double>(range.max) - min);
  const double part = bin_width() / kUpsample;
  for (std::int64_t i = 0; i < kBins * kUpsample; ++i) {
    const double middle = static_cast<double>(range_.min) + (static_cast<double>(i) + 0.5) * part;
    counts[static_cast<std::size_t>(bin_of((middle - min) * scale))] +=
        counts_[static_cast<std::size_t>(i / kUpsample)] / static_cast<float>(kUpsample);
  }
  return counts;
}

void Histogram::add(const float* values, std::int64_t count_of_values) {
  if (count_of_values == 0) {
    return;
  }
  const auto [least, greatest] = std::minmax_element(values, values + count_of_values);
  ValueRange range{*least, *greatest};
  if (empty_) {
    counts_ = count(values, count_of_values, range);
    range_ = range;
    empty_ = false;
    return;
  }
  range = {std::min(range.min, range_.min), std::max(range.max, range_.max)};
  if (!(range == range_)) {
    counts_ = moved_to(range);
    range_ = range;
  }
  const std::vector<float> fresh = count(values, count_of_values, range);
  std::transform(counts_.begin(), counts_.end(), fresh.begin(), counts_.begin(), std::plus<float>());
}

ValueRange search_least_error_inwards(const Histogram& histogram, std::int64_t levels) {
  if (histogram.bin_width() == 0.0) {
    return histogram.range();
  }
  const std::vector<double> sums = cumulative(histogram);
  const double total = sums.back();
  double low_quantile = 0.0;
  double high_quantile = 1.0;
  std::int64_t first = 0;
  std::int64_t last = Histogram::kBins - 1;
  double least = std::numeric_limits<double>::infinity();
  while (low_quantile < high_quantile) {
    const double next_low = low_quantile + kQuantileStep;
    const double next_high = high_quantile - kQuantileStep;
    std::int64_t left = first;
    while (left < last && sums[static_cast<std::size_t>(left)] < next_low * total) {
      ++left;
    }
    std::int64_t right = last;
    while (right > first && sums[static_cast<std::size_t>(right)] > next_high * total) {
      --right;
    }
    std::int64_t next_first = first;
    std::int64_t next_last = last;
    if (left - first > last - right) {
      next_first = left;
      low_quantile = next_low;
    } else {
      next_last = right;
      high_quantile = next_high;
    }
    if (next_first == first && next_last == last) {
      continue;
    }
    const double error = quantization_error(histogram, next_first, next_last, levels);
    if (error > least) {
      break;
    }
    least = error;
    first = next_first;
    last = next_last;
  }
  return range_of_bins(histogram, first, last);
}

ValueRange search_percentile(const Histogram& histogram, double outside) {
  if (histogram.bin_width() == 0.0) {
    return histogram.range();
  }
  const std::vector<double> sums = cumulative(histogram);
  const ValueRange range = histogram.range();
  double below = outside / 2.0 * sums.back();
  double above = below;
  if (range.min >= 0.0F) {
    above += below;
    below = 0.0;
  } else if (range.max <= 0.0F) {
    below += above;
    above = 0.0;
  }
  // The bins that hold the two quantiles stay inside.
  const auto first = std::upper_bound(sums.begin(), sums.end(), below) - sums.begin();
  const auto last = std::lower_bound(sums.begin(), sums.end(), sums.back() - above) - sums.begin();
  return range_of_bins(histogram, std::min<std::int64_t>(first, last), std::max<std::int64_t>(first, last));
}

ValueRange search_least_squares(const Histogram& histogram, format::QuantRange codes) {
  const ValueRange whole = histogram.range();
  ValueRange best = whole;
  double least = std::numeric_limits<double>::infinity();
  for (int step = kShrinkSteps; step >= 1; --step) {
    const float factor = static_cast<float>(step) / static_cast<float>(kShrinkSteps);
    const ValueRange range{whole.min * factor, whole.max * factor};
    const format::AffineParams params = format::choose_qparams_affine(range.min, range.max, codes);
    double error = 0.0;
    for (std::int64_t bin = 0; bin < Histogram::kBins; ++bin) {
      const double count = histogram.counts()[static_cast<std::size_t>(bin)];
      if (count == 0.0) {
        continue;
      }
      const auto middle =
          static_cast<float>(static_cast<double>(whole.min) + (static_cast<double>(bin) + 0.5) * histogram.bin_width());
      const double difference = static_cast<double>(format::fake_quantize(middle, params, codes)) - middle;
      error += count * difference * difference;
    }
    if (error < least) {
      least = error;
      best = range;
    }
  }
  return best;
}

}  // namespace pare::quant
