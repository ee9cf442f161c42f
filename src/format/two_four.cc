#include "pare/format/two_four.h"

#include <algorithm>
#include <array>
#include <bit>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::format {
namespace {

using Group = std::array<std::int8_t, 4>;

struct EncodedGroup {
  int first = 0;
  int second = 1;
  std::int8_t first_value = 0;
  std::int8_t second_value = 0;
  friend bool operator==(const EncodedGroup&, const EncodedGroup&) = default;
};

std::size_t index(std::int64_t value) { return static_cast<std::size_t>(value); }

std::int64_t count_non_zeros(const Group& group) { return 4 - std::count(group.begin(), group.end(), std::int8_t{0}); }

// Elements of group `g` of a row, the positions past the end of its run as zeros.
struct GroupSpan {
  std::int64_t offset = 0;  // from the start of the row
  std::int64_t elems = 0;   // 1 to 4
};

GroupSpan group_span(const TwoFourLayout& layout, std::int64_t g) {
  const std::int64_t in_segment = g % layout.groups_per_segment();
  const std::int64_t segment = g / layout.groups_per_segment();
  return {segment * layout.segment_elems + 4 * in_segment,
          std::min<std::int64_t>(4, layout.segment_elems - 4 * in_segment)};
}

Group load_group(std::span<const std::int8_t> row, const GroupSpan& where) {
  Group group{};
  std::copy_n(row.begin() + where.offset, where.elems, group.begin());
  return group;
}

// Precondition: at most two non-zeros.
EncodedGroup encode_group(const Group& group) {
  std::array<bool, 4> kept{};
  std::int64_t missing = 2 - count_non_zeros(group);
  for (std::size_t i = 0; i < 4; ++i) {
    kept[i] = group[i] != 0;
    if (!kept[i] && missing > 0) {
      kept[i] = true;
      --missing;
    }
  }
  EncodedGroup encoded;
  encoded.first = static_cast<int>(std::find(kept.begin(), kept.end(), true) - kept.begin());
  encoded.second = static_cast<int>(std::find(kept.begin() + encoded.first + 1, kept.end(), true) - kept.begin());
  encoded.first_value = group[index(encoded.first)];
  encoded.second_value = group[index(encoded.second)];
  return encoded;
}

Group decode_group(const EncodedGroup& encoded) {
  Group group{};
  group[index(encoded.first)] = encoded.first_value;
  group[index(encoded.second)] = encoded.second_value;
  return group;
}

EncodedGroup load_encoded(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                          const TwoFourLayout& layout, std::int64_t row, std::int64_t g) {
  const std::uint8_t byte = indices[index(row * layout.row_indices_bytes() + g / 2)];
  const int nibble = g % 2 == 0 ? byte & 0xF : byte >> 4;
  const std::size_t value = index(row * layout.row_values_bytes() + 2 * g);
  return {nibble & 3, nibble >> 2, values[value], values[value + 1]};
}

bool sizes_match(std::size_t values, std::size_t indices, const TwoFourLayout& layout) {
  return values == index(layout.rows * layout.row_values_bytes()) &&
         indices == index(layout.rows * layout.row_indices_bytes());
}

std::string explain_invalid_group(const EncodedGroup& encoded, std::int64_t elems) {
  if (encoded.first >= encoded.second) {
    return str_cat("positions ", encoded.first, ", ", encoded.second, " are not ascending");
  }
  const Group group = decode_group(encoded);
  if (std::any_of(group.begin() + elems, group.end(), [](std::int8_t value) { return value != 0; })) {
    return str_cat("a value stands past the end of a run, in a tail of ", elems);
  }
  const EncodedGroup canonical = encode_group(group);
  if (canonical != encoded) {
    return str_cat("positions ", encoded.first, ", ", encoded.second, " hold what positions ", canonical.first, ", ",
                   canonical.second, " must hold");
  }
  return "";
}

// explain_invalid_group() of a whole group, looked up: by its nibble, and by which of its values are 0.
constexpr std::array<bool, 64> make_valid_groups() {
  std::array<bool, 64> valid{};
  for (unsigned key = 0; key < valid.size(); ++key) {
    const unsigned first = key & 3;
    const unsigned second = key >> 2 & 3;
    const unsigned stored = 1U << first | 1U << second;
    unsigned kept = (key & 16U ? 1U << first : 0U) | (key & 32U ? 1U << second : 0U);
    for (unsigned position = 0; std::popcount(kept) < 2; ++position) kept |= 1U << position;
    valid[key] = first < second && kept == stored;
  }
  return valid;
}
constexpr std::array<bool, 64> kValidGroups = make_valid_groups();

bool is_valid_group(const std::int8_t* kept, int nibble) {
  return kValidGroups[static_cast<unsigned>(nibble) | (kept[0] != 0 ? 16U : 0U) | (kept[1] != 0 ? 32U : 0U)];
}

}  // namespace

PatternViolation find_two_four_violation(std::span<const std::int8_t> dense, const TwoFourLayout& layout) {
  PARE_CHECK(dense.size() == index(layout.rows * layout.row_elems()));
  PatternViolation found;
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    const auto codes = dense.subspan(index(row * layout.row_elems()), index(layout.row_elems()));
    for (std::int64_t g = 0; g < layout.groups_per_row(); ++g) {
      if (count_non_zeros(load_group(codes, group_span(layout, g))) <= 2) continue;
      if (found.violations++ == 0) {
        found.row = row;
        found.group = g;
      }
    }
  }
  return found;
}

TwoFourWeights encode_two_four(std::span<const std::int8_t> dense, const TwoFourLayout& layout) {
  PARE_CHECK(dense.size() == index(layout.rows * layout.row_elems()));
  TwoFourWeights weights;
  weights.layout = layout;
  weights.values.resize(index(layout.rows * layout.row_values_bytes()));
  weights.indices.resize(index(layout.rows * layout.row_indices_bytes()));
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    const auto codes = dense.subspan(index(row * layout.row_elems()), index(layout.row_elems()));
    for (std::int64_t g = 0; g < layout.groups_per_row(); ++g) {
      const Group group = load_group(codes, group_span(layout, g));
      PARE_CHECK(count_non_zeros(group) <= 2);
      const EncodedGroup encoded = encode_group(group);
      const std::size_t value = index(row * layout.row_values_bytes() + 2 * g);
      weights.values[value] = encoded.first_value;
      weights.values[value + 1] = encoded.second_value;
      const int nibble = encoded.first | (encoded.second << 2);
      std::uint8_t& byte = weights.indices[index(row * layout.row_indices_bytes() + g / 2)];
      byte = static_cast<std::uint8_t>(byte | (g % 2 == 0 ? nibble : nibble << 4));
    }
  }
  return weights;
}

std::string explain_invalid_two_four(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                     const TwoFourLayout& layout) {
  if (layout.rows < 0 || layout.segments < 0 || layout.segment_elems < 0) return "the layout has a negative extent";
  if (!sizes_match(values.size(), indices.size(), layout)) {
    return str_cat(values.size(), " bytes of values and ", indices.size(), " of indices, where ",
                   layout.rows * layout.row_values_bytes(), " and ", layout.rows * layout.row_indices_bytes(),
                   " belong");
  }
  const std::int64_t row_groups = layout.groups_per_row();
  const std::int64_t segment_groups = layout.groups_per_segment();
  const bool has_tails = layout.segment_elems % 4 != 0;
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    const std::int8_t* row_values = values.data() + row * layout.row_values_bytes();
    const std::uint8_t* row_indices = indices.data() + row * layout.row_indices_bytes();
    for (std::int64_t g = 0; g < row_groups; ++g) {
      const bool is_tail = has_tails && (g + 1) % segment_groups == 0;
      if (!is_tail && is_valid_group(row_values + 2 * g, row_indices[g / 2] >> (4 * (g % 2)) & 0xF)) continue;
      const EncodedGroup encoded = load_encoded(values, indices, layout, row, g);
      const std::string problem = explain_invalid_group(encoded, group_span(layout, g).elems);
      if (!problem.empty()) return str_cat("row ", row, " group ", g, ": ", problem);
    }
    const bool has_padding = layout.groups_per_row() % 2 != 0;
    if (has_padding && indices[index((row + 1) * layout.row_indices_bytes() - 1)] >> 4 != 0) {
      return str_cat("row ", row, ": the padding after the last group is not 0");
    }
  }
  return "";
}

std::vector<std::int8_t> decode_two_four(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                         const TwoFourLayout& layout) {
  PARE_CHECK(sizes_match(values.size(), indices.size(), layout));
  std::vector<std::int8_t> dense(index(layout.rows * layout.row_elems()));
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    for (std::int64_t g = 0; g < layout.groups_per_row(); ++g) {
      const Group group = decode_group(load_encoded(values, indices, layout, row, g));
      const GroupSpan where = group_span(layout, g);
      std::copy_n(group.begin(), where.elems, dense.begin() + row * layout.row_elems() + where.offset);
    }
  }
  return dense;
}

}  // namespace pare::format
