// Rows of scores and of results in lanes (real/lanes.h), compiled once for each instruction set.
#pragma once

#include "pare/kernels/attention/attention_args.h"
#include "pare/kernels/real/lanes.h"

namespace pare::kernels {
namespace {

inline float softmax_row(const float* scores, std::int64_t length, std::uint8_t* codes) {
  const std::int64_t whole = length / kRealLanes * kRealLanes;
  Lanes most = splat(scores[0]);
  for (std::int64_t j = 0; j < whole; j += kRealLanes) most = greater(load(scores + j), most);
  float greatest = fold_greatest(most);
  for (std::int64_t j = whole; j < length; ++j) greatest = format::greater(scores[j], greatest);
  const Lanes top = splat(greatest);
  Lanes sum = splat(0.0F);  // of whole numbers below 2^24: exact in any order
  const auto weigh = [&](std::int64_t j, Lanes row, std::int64_t count) {
    const Lanes weight = exp_nonpositive(row - top) * splat(255.0F);
    const Lanes rounded = (weight + splat(format::kRoundToWhole)) - splat(format::kRoundToWhole);
    sum = sum + first(rounded, count);
    store_codes(codes + j, rounded, 0, count);
  };
  for (std::int64_t j = 0; j < whole; j += kRealLanes) weigh(j, load(scores + j), kRealLanes);
  if (whole < length) weigh(whole, load(scores + whole, length - whole), length - whole);
  return 1.0F / fold_sum(sum);
}

inline void finish_row(const AttentionArgs& args, const float* sums, float inverse, std::int64_t first,
                       std::int64_t count) {
  const Lanes share = splat(inverse);
  const Lanes shift = splat(static_cast<float>(128 - args.v_zero_point));
  const Lanes scale = splat(args.v_scale);
  const LaneQuantizer quantizer(1.0F / args.y.scale, args.y.zero_point);
  for (std::int64_t c = 0; c < count; c += kRealLanes) {
    const Lanes real = (load(sums + c, count - c) * share + shift) * scale;
    if (args.y.codes == nullptr) {
      store(args.y.real + first + c, real, count - c);
    } else {
      quantizer.store(args.y.codes + first + c, real, count - c);
    }
  }
}

}  // namespace
}  // namespace pare::kernels
