// How much a channel matters, and how many go: the criteria of structured pruning on plain memory. The channels with
// the least scores are pruned.
//
// A weight is a row-major matrix of rows x cols float32, one row a channel ([O, I, kh, kw] as O rows of I * kh * kw).
// Sums run in double. Preconditions: sizes match, numbers are finite (prune_network checks that).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pare::channels {

enum class RowNorm { kL1, kL2 };

// Sum of |w| of each row, or the square root of the sum of w^2 (Li et al., arXiv 1608.08710;
// torch.ao.pruning's SaliencyPruner with kL1).
[[nodiscard]] std::vector<double> saliency_scores(std::span<const float> weight, std::int64_t rows, RowNorm norm);

// Sum of each row's distances to all rows: what lies near the geometric median can be replaced by the others (He et
// al., "Filter Pruning via Geometric Median", arXiv 1811.00250; torch.ao.pruning's FPGMPruner).
[[nodiscard]] std::vector<double> fpgm_scores(std::span<const float> weight, std::int64_t rows, RowNorm norm);

// |gamma| of the batch norm behind the layer (Liu et al., "Network Slimming", arXiv 1708.06519).
[[nodiscard]] std::vector<double> batch_norm_scale_scores(std::span<const float> gamma);

// (sum of w * gradient)^2 of each row: the squared change of the loss, to first order, if the row became 0 (Molchanov
// et al., arXiv 1906.10771). `gradient` has the weight's shape; the caller averages it, or adds up the scores of
// batches.
[[nodiscard]] std::vector<double> taylor_scores(std::span<const float> weight, std::span<const float> gradient,
                                                std::int64_t rows);

// How torch turns a level and a number of channels into how many go.
enum class CountRounding {
  kHalfToEven,  // FPGMPruner, unstructured
  kTruncate,    // SaliencyPruner
};
// Precondition: 0 <= level <= 1.
[[nodiscard]] std::int64_t pruned_count(std::int64_t channels, double level, CountRounding rounding);

// The least multiple of `multiple` that is `kept` or more, at most `channels`, at least 1: kernels work on whole panels
// of output channels (8, 16 or 64), so a width in between costs the time of the next one. Precondition: multiple >= 1.
[[nodiscard]] std::int64_t rounded_width(std::int64_t kept, std::int64_t multiple, std::int64_t channels);

// The channels, ascending, that stay when the `pruned` with the least scores go. Among equals the first stay.
// Precondition: 0 <= pruned <= scores.size().
[[nodiscard]] std::vector<std::int64_t> kept_channels(std::span<const double> scores, std::int64_t pruned);

}  // namespace pare::channels
