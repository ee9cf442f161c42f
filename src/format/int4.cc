#include "pare/format/int4.h"

#include <algorithm>
#include <cmath>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/format/half.h"

namespace pare::format {
namespace {

std::size_t index(std::int64_t value) { return static_cast<std::size_t>(value); }

unsigned nibble_of(std::int8_t code) { return static_cast<unsigned>(code) & 0xFU; }

// Two codes a byte, the earlier in the low nibble; an odd last nibble is 0.
void pack_nibbles(std::span<const std::int8_t> codes, std::uint8_t* out) {
  for (std::size_t i = 0; i < codes.size(); i += 2) {
    const unsigned high = i + 1 < codes.size() ? nibble_of(codes[i + 1]) : 0;
    out[i / 2] = static_cast<std::uint8_t>(nibble_of(codes[i]) | high << 4);
  }
}

void unpack_nibbles(const std::uint8_t* packed, std::span<std::int8_t> codes) {
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = int4_from_nibble(i % 2 == 0 ? packed[i / 2] : packed[i / 2] >> 4);
  }
}

// The kept values of 2:4 weights, one a byte, as format/two_four.h has them.
std::vector<std::int8_t> two_four_values(std::span<const std::uint8_t> codes, const Int4Layout& layout) {
  std::vector<std::int8_t> values(2 * codes.size());
  PARE_CHECK(values.size() == index(layout.rows * layout.two_four().row_values_bytes()));
  unpack_nibbles(codes.data(), values);
  return values;
}

// The first (row, group) whose scale is not what its codes ask for, or "".
std::string explain_invalid_scales(std::span<const std::int8_t> codes, std::span<const std::uint16_t> scales,
                                   const Int4Layout& layout) {
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    for (std::int64_t group = 0; group < layout.groups_per_row(); ++group) {
      const std::int64_t first = group * layout.group;
      const auto of_group =
          codes.subspan(index(row * layout.k + first), index(std::min(layout.group, layout.k - first)));
      const bool zeros = std::all_of(of_group.begin(), of_group.end(), [](std::int8_t code) { return code == 0; });
      const std::uint16_t scale = scales[index(row * layout.groups_per_row() + group)];
      const auto fault = [&](const char* what) { return str_cat("row ", row, " group ", group, ": ", what); };
      if (scale > kLargestHalf) return fault("the scale is negative or not finite");
      if (zeros && scale != 0) return fault("all codes are 0, but the scale is not");
      if (!zeros && scale == 0) return fault("the scale is 0, but not all codes are");
    }
  }
  return "";
}

}  // namespace

std::uint16_t int4_scale(float largest, Int4Scale rule) {
  return std::min(half_from_float(largest / (rule == Int4Scale::kAmaxOver7 ? 7.0F : 7.5F)), kLargestHalf);
}

Int4Codes quantize_int4(std::span<const float> weights, const Int4Layout& layout, Int4Scale rule) {
  PARE_CHECK(weights.size() == index(layout.rows * layout.k) && is_int4_group(layout.group));
  Int4Codes quantized;
  quantized.codes.reserve(weights.size());
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    for (std::int64_t first = 0; first < layout.k; first += layout.group) {
      const auto group =
          weights.subspan(index(row * layout.k + first), index(std::min(layout.group, layout.k - first)));
      float largest = 0.0F;
      for (const float weight : group) largest = std::max(largest, std::fabs(weight));
      const std::uint16_t scale = int4_scale(largest, rule);
      quantized.scales.push_back(scale);
      for (const float weight : group) {
        const std::int32_t code = scale == 0 ? 0 : quantize(weight, {float_from_half(scale), 0}, int4_range(rule));
        quantized.codes.push_back(static_cast<std::int8_t>(code));
      }
    }
  }
  return quantized;
}

Int4Weights encode_int4(const Int4Codes& weights, const Int4Layout& layout) {
  PARE_CHECK(is_int4_group(layout.group));
  PARE_CHECK(weights.codes.size() == index(layout.rows * layout.k));
  PARE_CHECK(weights.scales.size() == index(layout.rows * layout.groups_per_row()));
  const std::string fault = explain_invalid_scales(weights.codes, weights.scales, layout);
  PARE_CHECK(fault.empty());
  for (const std::int8_t code : weights.codes) PARE_CHECK(code >= kInt4Range.qmin && code <= kInt4Range.qmax);
  Int4Weights encoded;
  encoded.layout = layout;
  encoded.scales = weights.scales;
  encoded.codes.resize(index(layout.rows * layout.row_codes_bytes()));
  const std::span<const std::int8_t> codes = weights.codes;
  if (layout.form == Int4Form::kTwoFour) {
    TwoFourWeights kept = encode_two_four(codes, layout.two_four());
    pack_nibbles(kept.values, encoded.codes.data());
    encoded.indices = std::move(kept.indices);
    return encoded;
  }
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    pack_nibbles(codes.subspan(index(row * layout.k), index(layout.k)),
                 encoded.codes.data() + row * layout.row_codes_bytes());
  }
  return encoded;
}

std::string explain_invalid_int4(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> indices,
                                 std::span<const std::uint16_t> scales, const Int4Layout& layout) {
  if (!is_int4_group(layout.group)) return str_cat("groups of ", layout.group, ", where 32, 64, 128 or 256 belong");
  if (layout.rows < 0 || layout.k < 0) return "the layout has a negative extent";
  const std::int64_t codes_bytes = layout.rows * layout.row_codes_bytes();
  const std::int64_t indices_bytes = layout.rows * layout.row_indices_bytes();
  const std::int64_t scale_count = layout.rows * layout.groups_per_row();
  if (codes.size() != index(codes_bytes) || indices.size() != index(indices_bytes) ||
      scales.size() != index(scale_count)) {
    return str_cat(codes.size(), " bytes of codes, ", indices.size(), " of indices and ", scales.size(),
                   " scales, where ", codes_bytes, ", ", indices_bytes, " and ", scale_count, " belong");
  }
  if (layout.form == Int4Form::kTwoFour) {
    std::string fault = explain_invalid_two_four(two_four_values(codes, layout), indices, layout.two_four());
    if (!fault.empty()) return fault;
  } else if (layout.k % 2 != 0) {
    for (std::int64_t row = 0; row < layout.rows; ++row) {
      if (codes[index((row + 1) * layout.row_codes_bytes() - 1)] >> 4 != 0) {
        return str_cat("row ", row, ": the padding after the last code is not 0");
      }
    }
  }
  return explain_invalid_scales(decode_int4(codes, indices, layout), scales, layout);
}

std::vector<std::int8_t> decode_int4(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> indices,
                                     const Int4Layout& layout) {
  PARE_CHECK(codes.size() == index(layout.rows * layout.row_codes_bytes()));
  if (layout.form == Int4Form::kTwoFour) {
    return decode_two_four(two_four_values(codes, layout), indices, layout.two_four());
  }
  std::vector<std::int8_t> dense(index(layout.rows * layout.k));
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    unpack_nibbles(codes.data() + row * layout.row_codes_bytes(),
                   std::span(dense).subspan(index(row * layout.k), index(layout.k)));
  }
  return dense;
}

}  // namespace pare::format
