// Where to cut the range of an activation: histograms of its values, and searches over them. Plain memory, no LibTorch.
//
// A range that holds every value wastes codes on the rare ones; a narrower one clips them. Each search weighs the two.
#pragma once

#include <cstdint>
#include <vector>

#include "pare/format/affine.h"

namespace pare::quant {

struct ValueRange {
  float min = 0.0F;
  float max = 0.0F;
  friend bool operator==(const ValueRange&, const ValueRange&) = default;
};

// Counts of values in bins of one width. torch.ao.quantization.HistogramObserver's: when a batch goes beyond the range,
// old bins are split into 16 parts, which fall to the new bins where their middles lie.
class Histogram {
 public:
  static constexpr std::int64_t kBins = 2048;

  Histogram() : counts_(kBins, 0.0F) {}
  // As state() of another one. Precondition: kBins counts.
  Histogram(ValueRange range, std::vector<float> counts) : range_(range), counts_(std::move(counts)), empty_(false) {}

  // Precondition: values are finite. No values change nothing.
  void add(const float* values, std::int64_t count);

  [[nodiscard]] bool empty() const { return empty_; }
  [[nodiscard]] ValueRange range() const { return range_; }
  [[nodiscard]] const std::vector<float>& counts() const { return counts_; }
  [[nodiscard]] double bin_width() const;

 private:
  [[nodiscard]] std::vector<float> count(const float* values, std::int64_t count, ValueRange range) const;
  [[nodiscard]] std::vector<float> moved_to(ValueRange range) const;

  ValueRange range_;
  std::vector<float> counts_;
  bool empty_ = true;
};

// HistogramObserver's search: both ends move inwards, a quantile of 1e-5 at a time, the one first whose next values lie
// farther away, for as long as the squared error of `levels` evenly spaced codes, values spread evenly within bins,
// does not grow. Precondition: the histogram is not empty.
[[nodiscard]] ValueRange search_least_error_inwards(const Histogram& histogram, std::int64_t levels = 256);

// All but a fraction `outside` of the values, half of it at each end (as TensorRT's and NNCF's percentile calibration);
// of values of one sign, all of it at the far end. Precondition: 0 <= outside < 1, not empty.
[[nodiscard]] ValueRange search_percentile(const Histogram& histogram, double outside);

// Of the range shrunk by factors from 1 to 1/100 towards 0 the one whose codes (format::choose_qparams_affine) lose
// least in squared error over the bins' middles. Precondition: not empty.
[[nodiscard]] ValueRange search_least_squares(const Histogram& histogram, format::QuantRange codes);

}  // namespace pare::quant
