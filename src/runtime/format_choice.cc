#include "pare/runtime/format_choice.h"

#include <algorithm>
#include <array>

#include "pare/base/strings.h"
#include "pare/format/block.h"
#include "pare/format/vnm.h"
#include "pare/graph/weights.h"

namespace pare::runtime {

namespace {

using kernels::WeightFormat;

// Multiply-adds that a core does in the time in which it reads one byte of weights from memory: 64 a cycle against some
// 8 bytes a cycle. It only separates layers that are bound by their weights (m = 1) from those that are not.
constexpr double kMacsPerByte = 8.0;
// Below this the forms count as equal, and the simpler one runs.
constexpr double kLeastSpeedUp = 1.05;

// Of how many activations of a tap sparse kernels take a whole number.
constexpr std::int64_t kTwoFourStep = 8;
constexpr std::int64_t kBlockStep = 32;  // blocks of 2:4 on NEON, and what is gathered at once
constexpr std::int64_t kKeptStep = 4;    // kept ones of V:N:M that are not gathered

// Time of the multiplications of a layer over those of the same layer dense.
struct Costs {
  Isa isa;
  CpuVendor vendor;  // kOther: any that has no row of its own
  double two_four;
  std::int64_t two_four_step;
  double two_four_end;  // for every tap that ends within a step, times kTapCost
  double vnm_product;   // times n / m
  double vnm_gather;    // once for 64 outputs, or for as many as share a mask
};

// AMD and AVX2: measured on Zen 4. Elsewhere the 512-bit shuffle of 2:4 shares its only port with the dot product, and
// so do the 6 or 7 that VBMI adds to 24 dot products of V:N:M; without VBMI activations are gathered apart from the
// products. NEON: counted in instructions, not measured.
constexpr std::array kCosts = {
    Costs{Isa::kAvx512Vbmi, CpuVendor::kAmd, 0.70, kTwoFourStep, 1.0, 1.05, 0.0},
    Costs{Isa::kAvx512Vbmi, CpuVendor::kOther, 1.00, kTwoFourStep, 1.0, 1.30, 0.0},
    Costs{Isa::kAvx512Vnni, CpuVendor::kAmd, 0.70, kTwoFourStep, 1.0, 1.03, 0.13},
    Costs{Isa::kAvx512Vnni, CpuVendor::kOther, 1.00, kTwoFourStep, 1.0, 1.03, 0.13},
    Costs{Isa::kAvx2, CpuVendor::kOther, 0.66, kTwoFourStep, 0.0, 1.05, 0.045},
    Costs{Isa::kNeonDotprod, CpuVendor::kOther, 1.10, kBlockStep, 0.0, 1.05, 0.05},
    Costs{Isa::kNeonI8mm, CpuVendor::kOther, 1.10, kBlockStep, 0.0, 1.05, 0.05},
};

// What small layers pay on top, measured on Zen 4 with 3x3 convolutions of 4 to 128 channels to 16 to 128 outputs:
// pointers and the turn of the loop for every tap, in dense activations; as much again where AVX-512 copies the end of
// a tap (two_four_end); and shuffles that only one vector of outputs shares.
constexpr double kTapCost = 4.0;
constexpr double kTwoFourNarrow = 1.20;
constexpr double kVnmNarrow = 1.45;
constexpr std::int64_t kNarrow = 16;

// Multiplied by the activations that a kernel takes for those of a tap.
double padded(double cost, std::int64_t tap, std::int64_t step) {
  const std::int64_t taken = (tap + step - 1) / step * step;
  return cost * static_cast<double>(taken) / static_cast<double>(tap);
}

double two_four_cost(const Costs& costs, const LayerWork& work) {
  const double ends = work.tap % costs.two_four_step == 0 ? 0.0 : costs.two_four_end;
  return padded(costs.two_four, work.tap, costs.two_four_step) * (work.n <= kNarrow ? kTwoFourNarrow : 1.0) +
         kTapCost * (1.0 + ends) / static_cast<double>(work.tap);
}

double vnm_cost(const Costs& costs, const LayerWork& work, const format::VnmPattern& vnm) {
  const double product = costs.vnm_product * static_cast<double>(vnm.n) / static_cast<double>(vnm.m);
  const double taps = kTapCost / static_cast<double>(work.tap);
  if (costs.vnm_gather == 0.0) {
    return padded(product, work.tap, kKeptStep * vnm.m / vnm.n) * (work.n <= kNarrow ? kVnmNarrow : 1.0) + taps;
  }
  const std::int64_t outputs = std::min({(work.n + kNarrow - 1) / kNarrow * kNarrow, vnm.v, std::int64_t{64}});
  return padded(product + costs.vnm_gather * 64.0 / static_cast<double>(outputs), work.tap, kBlockStep) + taps;
}

// The scalar kernels expand everything to dense when they pack it, at no cost beside.
double multiply_cost(const LayerWork& work, WeightFormat format, const format::VnmPattern& vnm, Isa isa,
                     CpuVendor vendor) {
  if (format == WeightFormat::kDense || isa == Isa::kScalar) return 1.0;
  const auto find = [isa](CpuVendor wanted) {
    return std::find_if(kCosts.begin(), kCosts.end(),
                        [&](const Costs& costs) { return costs.isa == isa && costs.vendor == wanted; });
  };
  auto costs = find(vendor);
  if (costs == kCosts.end()) costs = find(CpuVendor::kOther);
  if (costs == kCosts.end()) return 1.0;
  return format == WeightFormat::kTwoFour ? two_four_cost(*costs, work) : vnm_cost(*costs, work, vnm);
}

double weight_bytes(WeightFormat format, const format::VnmPattern& vnm) {
  switch (format) {
    case WeightFormat::kTwoFour:
      return 0.625;
    case WeightFormat::kVnm:
      return static_cast<double>(vnm.n) / static_cast<double>(vnm.m) * (1.0 + 1.0 / static_cast<double>(vnm.v));
    case WeightFormat::kDense:
    case WeightFormat::kBlock:
      break;
  }
  return 1.0;
}

// Blocks: rows are what is vectorized, 16 at a time, so fewer cost as much. Activations are transposed once for all
// outputs; then a step costs a broadcast, and the loads of activations unless four outputs share them. Measured on Zen
// 4 from 10 to 50 % kept, with one vector of rows and with four.
double block_cost(const LayerWork& work, const BlockSparsity& block, Isa isa) {
  if (isa != Isa::kAvx512Vnni && isa != Isa::kAvx512Vbmi) return 1.0;
  // Blocks narrower than a step of four leave zeros in it.
  const double steps = std::min(1.0, block.kept * std::max(1.0, 4.0 / static_cast<double>(block.pattern.columns)));
  const double transposing = 24.0 / static_cast<double>(work.n);
  const std::int64_t vectors = (work.m + 15) / 16;
  const double rounded = 16.0 * static_cast<double>(vectors) / static_cast<double>(work.m);
  const bool fours = block.pattern.rows % 4 == 0;
  const double step = work.m <= 16 ? (fours ? 1.8 : 3.0) : (fours ? 1.1 : 1.5);
  return rounded * (transposing + steps * step);
}

}  // namespace

kernels::CanonicalWeights canonical_shape(const Shape& weight_shape, std::int64_t line_segments) {
  const format::TwoFourLayout layout = graph::two_four_layout(weight_shape);
  kernels::CanonicalWeights weights;
  weights.n = layout.rows;
  weights.segments = layout.segments;
  weights.segment_elems = layout.segment_elems;
  weights.line_segments = line_segments;
  return weights;
}

LayerWork work_of(std::int64_t m, const kernels::CanonicalWeights& weights) {
  return {m, weights.n, weights.k(), weights.tap_elems()};
}

FormatChoice choose_format(const LayerWork& work, WeightFormat stored, const format::VnmPattern& vnm, Isa isa,
                           CpuVendor vendor, const BlockSparsity& block) {
  const auto cost = [&](WeightFormat format) {
    return format == WeightFormat::kBlock ? block_cost(work, block, isa)
                                          : multiply_cost(work, format, vnm, isa, vendor);
  };
  const auto bytes = [&](WeightFormat format) {
    // With every four of a block's rows, or every row, goes an index of two bytes.
    if (format == WeightFormat::kBlock) return block.kept * (block.pattern.rows % 4 == 0 ? 1.125 : 1.5);
    return weight_bytes(format, vnm);
  };
  const auto time = [&](WeightFormat format) {
    const double multiplying = static_cast<double>(work.m) * cost(format) / kMacsPerByte;
    return std::max(multiplying, bytes(format));  // per weight of the dense layer
  };
  FormatChoice choice;
  choice.format = stored;
  const double weights = static_cast<double>(work.n) * static_cast<double>(work.k);
  choice.time = weights * time(WeightFormat::kDense);
  if (stored == WeightFormat::kDense || isa == Isa::kScalar) return choice;
  choice.speed_up = time(WeightFormat::kDense) / time(stored);
  if (choice.speed_up < kLeastSpeedUp) {
    choice.format = WeightFormat::kDense;
    const std::string name = stored == WeightFormat::kTwoFour ? "2:4"
                             : stored == WeightFormat::kBlock ? format::to_string(block.pattern)
                                                              : format::to_string(vnm);
    choice.note = str_cat("stored ", name, ", run dense: on this processor ", to_string(isa), " gains nothing from ",
                          name, " at ", work.m, " rows an image, n = ", work.n, ", k = ", work.k);
  } else {
    choice.time = weights * time(stored);
  }
  return choice;
}

}  // namespace pare::runtime
