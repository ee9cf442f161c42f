// Which form of a layer's weights to run: as they are stored, or the same weights expanded to dense.
//
// Zeros pay only where a kernel makes use of them faster than the dense kernel multiplies by them, and that depends on
// the processor: shuffles that sit beside the dot products on one machine take their turns on another. The choice is
// made by a table of measured costs, not by hope, and it never changes a result.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "pare/base/cpu.h"
#include "pare/format/dtype.h"
#include "pare/kernels/weights.h"

namespace pare::runtime {

struct LayerWork {
  std::int64_t m = 1;  // rows of A, or output pixels, of one image
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t tap = 0;  // of k, what kernels read at a time: kernels::CanonicalWeights::tap_elems()
};

// What kernels know of a weight [O, I, kh, kw] or [n, k] without its bytes and its pattern. `line_segments`: of
// CanonicalWeights. Precondition: rank 4 or 2.
[[nodiscard]] kernels::CanonicalWeights canonical_shape(const Shape& weight_shape, std::int64_t line_segments);
[[nodiscard]] LayerWork work_of(std::int64_t m, const kernels::CanonicalWeights& weights);

// What the cost of a block-sparse layer depends on.
struct BlockSparsity {
  format::BlockPattern pattern;
  double kept = 1.0;  // share of the weights that are stored
};

struct FormatChoice {
  kernels::WeightFormat format = kernels::WeightFormat::kDense;
  double speed_up = 1.0;  // predicted, of the form as stored over dense
  double time = 0.0;      // predicted, of the form that runs: in times of reading one byte of weights from memory
  std::string note;       // why a form that is not the stored one was chosen, or ""
};

// A choice that takes the place of the table's: asked for, or measured.
struct FormatOverride {
  bool as_stored = true;
  std::string note;
};
using FormatOverrides = std::map<std::string, FormatOverride>;  // by node

// Time of a layer is the larger of two: multiplying (m n k, times the format's cost of a dense multiply-add, which
// depends on n and tap where they are small) and reading the weights (n k, times its bytes a weight). `stored`: as in
// the file.
[[nodiscard]] FormatChoice choose_format(const LayerWork& work, kernels::WeightFormat stored,
                                         const format::VnmPattern& vnm, Isa isa, CpuVendor vendor,
                                         const BlockSparsity& block = {});

}  // namespace pare::runtime
