#include "pare/format/dtype.h"

#include <algorithm>
#include <array>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare {
namespace {

struct DTypeRow {
  DType dtype;
  std::size_t bytes;
  std::string_view name;
};

constexpr std::array kDTypes = {
    DTypeRow{DType::kF32, 4, "F32"},   DTypeRow{DType::kF64, 8, "F64"}, DTypeRow{DType::kU8, 1, "U8"},
    DTypeRow{DType::kS8, 1, "I8"},     DTypeRow{DType::kS32, 4, "I32"}, DTypeRow{DType::kS64, 8, "I64"},
    DTypeRow{DType::kBool, 1, "BOOL"}, DTypeRow{DType::kF16, 2, "F16"},
};

const DTypeRow& row_of(DType dtype) {
  const auto* const row = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& r) { return r.dtype == dtype; });
  PARE_CHECK(row != kDTypes.end());
  return *row;
}

}  // namespace

std::size_t size_bytes(DType dtype) { return row_of(dtype).bytes; }

std::string_view safetensors_name(DType dtype) { return row_of(dtype).name; }

DType dtype_from_safetensors_name(std::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  std::vector<std::string> names;
  for (const DTypeRow& row : kDTypes) names.emplace_back(row.name);
  throw Error(ErrorCategory::kUnsupported, str_cat("element type '", name, "' is not supported"), {},
              "supported: " + join(names, ", "));
}

std::int64_t element_count(const Shape& shape) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 40;
  for (const std::int64_t extent : shape) {
    if (extent < 0)
      throw Error(ErrorCategory::kInvalidArgument, "shape " + to_string(shape) + " has a negative extent");
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent > kMostElements / count) {
      throw Error(ErrorCategory::kInvalidArgument, "shape " + to_string(shape) + " has more than 2^40 elements");
    }
    count *= extent;
  }
  return count;
}

std::string to_string(const Shape& shape) {
  std::vector<std::string> extents;
  extents.reserve(shape.size());
  for (const std::int64_t extent : shape) extents.push_back(std::to_string(extent));
  return str_cat("[", join(extents, ", "), "]");
}

}  // namespace pare
