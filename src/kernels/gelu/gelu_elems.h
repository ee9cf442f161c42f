// The kernel in lanes (real/lanes.h), compiled once for each instruction set.
#pragma once

#include "pare/kernels/gelu/gelu_args.h"
#include "pare/kernels/real/lanes.h"

namespace pare::kernels {
namespace {

template <typename Store>
void run_gelu(const GeluArgs& args, std::int64_t begin, std::int64_t end, const Store& store_lanes) {
  for (std::int64_t i = begin; i < end; i += kRealLanes) {
    store_lanes(i, gelu(load(args.x + i, end - i)), end - i);
  }
}

inline void run_gelu(const GeluArgs& args, std::int64_t begin, std::int64_t end) {
  const RealOutput y = args.y;
  if (y.codes == nullptr) {
    run_gelu(args, begin, end,
             [&](std::int64_t i, Lanes value, std::int64_t count) { store(y.real + i, value, count); });
  } else {
    const LaneQuantizer quantizer(1.0F / y.scale, y.zero_point);
    run_gelu(args, begin, end,
             [&](std::int64_t i, Lanes value, std::int64_t count) { quantizer.store(y.codes + i, value, count); });
  }
}

}  // namespace
}  // namespace pare::kernels
