// In which order a layer's channels should stand so that sparse patterns keep the most of its weights. Plain memory;
// knows nothing of graphs.
//
// Channels stand in *slots*. Two kinds of weights care about which channel is in which:
//   * Those that read the channels (ColumnTerm): m neighbouring columns form a group, of which each row, or block of
//   rows,
//     keeps the n largest. Few large columns should meet in one group. (Pool and Yu, "Channel Permutations for N:M
//     Sparsity", NeurIPS 2021.)
//   * Those that write them in V:N:M (RowTerm): v neighbouring rows form a block with one mask. Rows with alike
//   importance
//     should meet in one block. (Balanced clustering, as in gyro-permutation: Yu et al., arXiv 2407.20496.)
// Both speak about one permutation, so that one search serves every weight that a channel set touches: greedy swaps of
// two channels, the best first, until none gains, then a bounded number of escapes from that optimum by random swaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace pare::channels {

struct ColumnTerm {
  std::int64_t n = 2;
  std::int64_t m = 4;
  std::int64_t rows = 0;          // those with a mask of their own: blocks of rows times taps
  std::vector<float> importance;  // channels x rows, >= 0: what keeping the channel's element in that row is worth
};

struct RowTerm {
  std::int64_t v = 64;
  std::int64_t n = 2;
  std::int64_t m = 4;
  std::int64_t segments = 1;       // a row is that many runs,
  std::int64_t segment_elems = 0;  // each cut into groups of m on its own
  std::vector<float> importance;   // channels x (segments * segment_elems), >= 0
};

struct OrderProblem {
  std::int64_t channels = 0;
  std::vector<ColumnTerm> columns;
  std::vector<RowTerm> rows;
};

struct OrderSearchOptions {
  std::uint64_t seed = 0;
  int escapes = 8;
  // Asked before the table is made and after every round of swaps; false ends the search with the best order so far.
  std::function<bool()> keep_going = nullptr;
};

struct OrderSearchResult {
  std::vector<std::int64_t> order;  // channel order[i] belongs to slot i
  double kept_before = 0.0;         // sum over all terms of the importance that the patterns keep
  double kept_after = 0.0;          // never less
  std::int64_t swaps = 0;
};

// What the patterns keep with channel order[i] in slot i. Tail groups and blocks are shorter, and keep up to n of what
// they have.
[[nodiscard]] double kept_importance(const OrderProblem& problem, const std::vector<std::int64_t>& order);

// The same result for the same problem and seed, unless keep_going ends it. Memory: 2 channels^2 floats beside the
// importances. Time: about (channels^2 + 2 m swaps channels) * rows additions a column term.
// Preconditions: 1 <= n <= m <= 16, v >= 1, sizes match, importances are finite and not negative.
[[nodiscard]] OrderSearchResult search_order(const OrderProblem& problem, const OrderSearchOptions& options);

}  // namespace pare::channels
