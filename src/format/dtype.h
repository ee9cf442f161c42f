// Element types, and the names that safetensors gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

enum class DType { kF32, kF64, kF16, kU8, kS8, kS32, kS64, kBool };

using Shape = std::vector<std::int64_t>;

[[nodiscard]] std::size_t size_bytes(DType dtype);
[[nodiscard]] std::string_view safetensors_name(DType dtype);  // "F32", "F64", "F16", "U8", "I8", "I32", "I64", "BOOL"
// Throws kUnsupported for a name that pare has no type for.
[[nodiscard]] DType dtype_from_safetensors_name(std::string_view name);

// Product of the extents. Throws kInvalidArgument for a negative extent or a product beyond 2^40 elements.
[[nodiscard]] std::int64_t element_count(const Shape& shape);
[[nodiscard]] std::string to_string(const Shape& shape);  // "[64, 32, 3, 3]"

}  // namespace pare
