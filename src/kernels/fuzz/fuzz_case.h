// What the cases of fuzz.h have in common.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/kernels/fuzz/fuzz.h"
#include "pare/kernels/testing/float_control.h"
#include "pare/kernels/testing/this_machine.h"

namespace pare::kernels::fuzz {

// A row of the table that runs here.
template <typename Kernel>
[[nodiscard]] const Kernel& pick(Choices& choices, std::span<const Kernel> table) {
  std::vector<const Kernel*> here;
  for (const Kernel& kernel : table) {
    if (testing::runs_here(kernel.isa)) here.push_back(&kernel);
  }
  return *here[static_cast<std::size_t>(choices.below(static_cast<std::int64_t>(here.size())))];
}

inline void fill(Rng& rng, std::span<std::uint8_t> codes) {
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(rng.below(256));
}

// Calls run() twice: under an unusual floating-point control, and then as the caller has it. Says what went wrong.
template <typename Run>
[[nodiscard]] std::string run_watched(const Run& run) {
  const std::uint64_t usual = testing::float_control();
  testing::set_float_control(testing::kUnusualFloatControl);
  run();
  const std::uint64_t unusual = testing::float_control();
  testing::set_float_control(usual);
  if (unusual != testing::kUnusualFloatControl) return "it changed the caller's unusual floating-point control";
  run();
  const std::uint64_t after = testing::float_control();
  testing::set_float_control(usual);
  return after == usual ? "" : "it changed the caller's floating-point control";
}

// Calls body(begin, end) for a few pieces of [0, count), the later ones first. Cuts are multiples of `unit`.
template <typename Body>
void in_pieces(std::int64_t count, std::int64_t first_cut, std::int64_t unit, const Body& body) {
  const std::int64_t cut = std::min(first_cut / unit * unit, count);
  body(cut, count);
  body(std::int64_t{0}, cut);
}

// The first difference.
[[nodiscard]] inline std::string compare(std::span<const std::uint8_t> actual, std::span<const std::uint8_t> expected) {
  const auto at = std::mismatch(actual.begin(), actual.end(), expected.begin()).first;
  if (at == actual.end()) return "";
  const auto index = static_cast<std::size_t>(at - actual.begin());
  return str_cat("byte ", index, " of ", actual.size(), " is ", int{actual[index]}, " instead of ",
                 int{expected[index]});
}

// Extents of a layer with a window, any that has at least one output: strides, dilations and paddings by axis, windows
// wholly in the padding.
struct WindowExtents {
  std::int64_t in, out, kernel, stride, dilation, pad;
};
[[nodiscard]] inline WindowExtents window_extents(Choices& choices) {
  WindowExtents w{choices.between(1, 13), 0, choices.between(1, 5), choices.between(1, 3), choices.between(1, 3), 0};
  const std::int64_t reach = w.dilation * (w.kernel - 1) + 1;
  w.pad = choices.between(0, reach);
  const std::int64_t room = w.in + w.pad + choices.between(0, reach) - reach;
  w.out = room < 0 ? 1 : room / w.stride + 1;
  return w;
}

template <typename Extents>
[[nodiscard]] std::string set_window(Choices& choices, Extents& to) {
  const WindowExtents h = window_extents(choices);
  const WindowExtents w = window_extents(choices);
  to.in_h = h.in;
  to.in_w = w.in;
  to.out_h = h.out;
  to.out_w = w.out;
  to.kernel_h = h.kernel;
  to.kernel_w = w.kernel;
  to.stride_h = h.stride;
  to.stride_w = w.stride;
  to.dilation_h = h.dilation;
  to.dilation_w = w.dilation;
  to.pad_top = h.pad;
  to.pad_left = w.pad;
  const auto by_axis = [](const WindowExtents& e) {
    return str_cat(e.in, " -> ", e.out, " kernel ", e.kernel, " stride ", e.stride, " dilation ", e.dilation, " pad ",
                   e.pad);
  };
  return str_cat("h ", by_axis(h), ", w ", by_axis(w));
}

}  // namespace pare::kernels::fuzz
