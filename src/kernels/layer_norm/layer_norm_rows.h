// The kernel in lanes (real/lanes.h), compiled once for each instruction set.
#pragma once

#include "pare/kernels/layer_norm/layer_norm_args.h"
#include "pare/kernels/real/lanes.h"

namespace pare::kernels {
namespace {

// Calls each(i, x[i ...], count) for 16 elements at a time.
template <typename Each>
void for_lanes(const float* x, std::int64_t n, const Each& each) {
  std::int64_t i = 0;
  for (; i + kRealLanes <= n; i += kRealLanes) each(i, load(x + i), kRealLanes);
  if (i < n) each(i, load(x + i, n - i), n - i);
}

template <typename Store>
void run_layer_norm(const LayerNormArgs& args, std::int64_t begin, std::int64_t end, const Store& store_lanes) {
  const std::int64_t n = args.features;
  const auto count_of_all = static_cast<float>(n);
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * n;
    Lanes sum = splat(0.0F);
    for_lanes(x, n, [&](std::int64_t, Lanes value, std::int64_t) { sum = sum + value; });
    const float mean = fold_sum(sum) / count_of_all;
    const Lanes means = splat(mean);
    Lanes squares = splat(0.0F);
    for_lanes(x, n, [&](std::int64_t, Lanes value, std::int64_t count) {
      const Lanes d = first(value - means, count);  // else lanes past the row would count
      squares = squares + d * d;
    });
    const float variance = fold_sum(squares) / count_of_all;
    const Lanes factor = splat(1.0F / __builtin_sqrtf(variance + args.epsilon));
    for_lanes(x, n, [&](std::int64_t i, Lanes value, std::int64_t count) {
      const Lanes y = ((value - means) * factor) * load(args.weight + i, count) + load(args.bias + i, count);
      store_lanes(row * n + i, y, count);
    });
  }
}

inline void run_layer_norm(const LayerNormArgs& args, std::int64_t begin, std::int64_t end) {
  const RealOutput y = args.y;
  if (y.codes == nullptr) {
    run_layer_norm(args, begin, end,
                   [&](std::int64_t i, Lanes value, std::int64_t count) { store(y.real + i, value, count); });
  } else {
    const LaneQuantizer quantizer(1.0F / y.scale, y.zero_point);
    run_layer_norm(args, begin, end, [&](std::int64_t i, Lanes value, std::int64_t count) {
      quantizer.store(y.codes + i, value, count);
    });
  }
}

}  // namespace
}  // namespace pare::kernels
