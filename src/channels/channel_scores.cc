#include "pare/channels/channel_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "pare/base/error.h"

namespace pare::channels {
namespace {

// Of numbers that were taken absolutely or squared already.
double finish(double sum, RowNorm norm) { return norm == RowNorm::kL1 ? sum : std::sqrt(sum); }
double term(double value, RowNorm norm) { return norm == RowNorm::kL1 ? std::abs(value) : value * value; }

std::size_t row_elems(std::span<const float> weight, std::int64_t rows) {
  PARE_CHECK(rows > 0 && weight.size() % static_cast<std::size_t>(rows) == 0);
  return weight.size() / static_cast<std::size_t>(rows);
}

}  // namespace

std::vector<double> saliency_scores(std::span<const float> weight, std::int64_t rows, RowNorm norm) {
  const std::size_t cols = row_elems(weight, rows);
  std::vector<double> scores(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < scores.size(); ++r) {
    double sum = 0.0;
    for (const float w : weight.subspan(r * cols, cols)) sum += term(w, norm);
    scores[r] = finish(sum, norm);
  }
  return scores;
}

std::vector<double> fpgm_scores(std::span<const float> weight, std::int64_t rows, RowNorm norm) {
  const std::size_t cols = row_elems(weight, rows);
  std::vector<double> scores(static_cast<std::size_t>(rows), 0.0);
  for (std::size_t a = 0; a < scores.size(); ++a) {
    for (std::size_t b = a + 1; b < scores.size(); ++b) {
      double sum = 0.0;
      for (std::size_t c = 0; c < cols; ++c) {
        sum += term(static_cast<double>(weight[a * cols + c]) - weight[b * cols + c], norm);
      }
      scores[a] += finish(sum, norm);
      scores[b] += finish(sum, norm);
    }
  }
  return scores;
}

std::vector<double> batch_norm_scale_scores(std::span<const float> gamma) {
  std::vector<double> scores(gamma.size());
  std::ranges::transform(gamma, scores.begin(), [](float g) { return std::abs(static_cast<double>(g)); });
  return scores;
}

std::vector<double> taylor_scores(std::span<const float> weight, std::span<const float> gradient, std::int64_t rows) {
  PARE_CHECK(weight.size() == gradient.size());
  const std::size_t cols = row_elems(weight, rows);
  std::vector<double> scores(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < scores.size(); ++r) {
    double sum = 0.0;
    for (std::size_t i = r * cols; i < (r + 1) * cols; ++i) sum += static_cast<double>(weight[i]) * gradient[i];
    scores[r] = sum * sum;
  }
  return scores;
}

std::int64_t pruned_count(std::int64_t channels, double level, CountRounding rounding) {
  PARE_CHECK(level >= 0.0 && level <= 1.0);
  const double exact = level * static_cast<double>(channels);
  // The default rounding mode, which pare never changes, is half to even.
  return static_cast<std::int64_t>(rounding == CountRounding::kTruncate ? std::trunc(exact) : std::nearbyint(exact));
}

std::int64_t rounded_width(std::int64_t kept, std::int64_t multiple, std::int64_t channels) {
  PARE_CHECK(multiple >= 1 && channels >= 1);
  const std::int64_t wanted = std::max<std::int64_t>(kept, 1);
  return std::min((wanted + multiple - 1) / multiple * multiple, channels);
}

std::vector<std::int64_t> kept_channels(std::span<const double> scores, std::int64_t pruned) {
  PARE_CHECK(pruned >= 0 && pruned <= static_cast<std::int64_t>(scores.size()));
  std::vector<std::int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(),
                           [&](std::int64_t channel) { return scores[static_cast<std::size_t>(channel)]; });
  order.resize(scores.size() - static_cast<std::size_t>(pruned));
  std::ranges::sort(order);
  return order;
}

}  // namespace pare::channels
