// Where the windows of a pool lie: what the files for one instruction set share. In an unnamed namespace, because code
// that is compiled for a newer processor must not stand in for that of an older one.
#pragma once

#include <cstdint>

#include "pare/kernels/pool/pool_args.h"

namespace pare::kernels {
namespace {

// Taps of one window that lie in the input: [first, last) of each dimension.
struct Taps {
  std::int64_t first, last;
};

inline Taps taps_within(std::int64_t begin, std::int64_t kernel, std::int64_t dilation, std::int64_t extent) {
  Taps taps{0, kernel};
  if (begin < 0) taps.first = (-begin + dilation - 1) / dilation;
  const std::int64_t fit = begin >= extent ? 0 : (extent - 1 - begin) / dilation + 1;
  if (fit < taps.last) taps.last = fit;
  return taps;
}

// Windows of 2 x 2 side by side that lie wholly in the input: what most networks have.
inline bool is_plain_2x2(const MaxPoolArgs& args) {
  return args.kernel_h == 2 && args.kernel_w == 2 && args.stride_h == 2 && args.stride_w == 2 && args.dilation_h == 1 &&
         args.dilation_w == 1 && args.pad_top == 0 && args.pad_left == 0 && 2 * args.out_h <= args.in_h &&
         2 * args.out_w <= args.in_w;
}

}  // namespace
}  // namespace pare::kernels
