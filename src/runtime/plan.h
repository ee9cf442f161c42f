// From an artifact to steps that can be run: layouts, places in the arena, kernels, packed weights. Internal to
// runtime/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/graph/artifact.h"
#include "pare/runtime/format_choice.h"
#include "pare/runtime/operators.h"
#include "pare/runtime/session.h"

namespace pare::runtime {

// Where a value lives while a slice runs.
struct PlannedValue {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;                 // without batch: [C, H, W] or [K]
  bool channels_last = false;  // [C, H, W] stored as [H][W][C]
  std::int64_t elems = 0;      // of one image
  std::size_t offset = 0;      // into the arena
};

struct Step {
  PlannedLayer layer;
  std::unique_ptr<Operator> op;
  PlannedValue output;
};

struct Plan {
  Isa isa = Isa::kScalar;
  Shape input_shape;  // [C, H, W]
  std::int64_t input_elems = 0;
  std::int64_t classes = 0;
  std::vector<Step> steps;  // the last one writes the logits
  std::size_t arena_bytes = 0;
  std::size_t scratch_bytes = 0;  // for one thread, a multiple of kAlignmentBytes
};

// Values of rank 4 are kept as NHWC; Flatten restores NCHW order, in which the columns of a Gemm's weight count.
// `overrides`: of layers whose form was chosen elsewhere. Precondition: the artifact passed read_artifact. Throws
// kUnsupported for what no kernel can run, kInvalidArgument for an arena beyond all measure.
[[nodiscard]] Plan make_plan(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch,
                             const FormatOverrides& overrides = {});

}  // namespace pare::runtime
