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
  Shape shape;                 // without batch: [C, H, W], or whatever else a value that is no image has
  bool channels_last = false;  // an image: [C, H, W] stored as [H][W][C]
  std::int64_t elems = 0;      // of one image
  std::size_t offset = 0;      // into the arena, or kGraphInput
};

struct Step {
  PlannedLayer layer;
  std::unique_ptr<Operator> op;
  PlannedValue output;
};

struct Plan {
  Isa isa = Isa::kScalar;
  bool takes_images = false;
  Shape input_shape;  // [C, H, W] of an image
  std::int64_t input_elems = 0;
  Shape output_shape;  // [classes], or [length, features]
  std::int64_t output_elems = 0;
  std::vector<Step> steps;  // the last one writes the graph's output
  std::size_t arena_bytes = 0;
  std::size_t scratch_bytes = 0;  // for one thread, a multiple of kAlignmentBytes
};

// Images are kept as NHWC; Flatten restores NCHW order, in which the columns of a Gemm's weight count. All other values
// are row-major. `overrides`: of layers whose form was chosen elsewhere. Precondition: the artifact passed
// read_artifact. Throws kUnsupported for what no kernel can run, kInvalidArgument for an arena beyond all measure.
[[nodiscard]] Plan make_plan(const graph::Artifact& artifact, Isa isa, std::int64_t max_batch,
                             const FormatOverrides& overrides = {});

}  // namespace pare::runtime
