#include "pare/format/vnm.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "pare/base/strings.h"

namespace pare::format {

namespace {

// A group of a block of rows: which rows, and which elements of a row.
struct Group {
  std::int64_t row_begin, row_end;
  std::int64_t elem_begin, elem_end;
};

Group group_of(const VnmLayout& layout, std::int64_t block, std::int64_t group) {
  const std::int64_t segment = group / layout.groups_per_segment();
  const std::int64_t in_segment = group % layout.groups_per_segment() * layout.pattern.m;
  const std::int64_t begin = segment * layout.segment_elems + in_segment;
  return {block * layout.pattern.v, std::min((block + 1) * layout.pattern.v, layout.rows), begin,
          begin + std::min(layout.pattern.m, layout.segment_elems - in_segment)};
}

// Bit i is set where some row of the block is not 0 at position i.
unsigned used_positions(std::span<const std::int8_t> dense, const VnmLayout& layout, const Group& group) {
  unsigned used = 0;
  for (std::int64_t row = group.row_begin; row < group.row_end; ++row) {
    for (std::int64_t elem = group.elem_begin; elem < group.elem_end; ++elem) {
      if (dense[static_cast<std::size_t>(row * layout.row_elems() + elem)] != 0)
        used |= 1U << (elem - group.elem_begin);
    }
  }
  return used;
}

// The positions that are kept: those in use, filled up from below.
unsigned kept_positions(unsigned used, std::int64_t n) {
  for (int position = 0; std::popcount(used) < n; ++position) used |= 1U << position;
  return used;
}

template <typename Body>
void for_groups(const VnmLayout& layout, const Body& body) {
  for (std::int64_t block = 0; block < layout.blocks(); ++block) {
    for (std::int64_t group = 0; group < layout.groups_per_row(); ++group) body(block, group);
  }
}

bool is_pattern(const VnmPattern& p) { return p.v >= 1 && p.v <= 65536 && p.n >= 1 && p.n <= p.m && p.m <= 16; }

}  // namespace

std::string to_string(const VnmPattern& pattern) { return str_cat(pattern.v, ":", pattern.n, ":", pattern.m); }

std::optional<VnmPattern> parse_vnm(std::string_view text) {
  VnmPattern pattern;
  const char* position = text.data();
  const char* const end = text.data() + text.size();
  for (std::int64_t* const number : {&pattern.v, &pattern.n, &pattern.m}) {
    if (number != &pattern.v && (position == end || *position++ != ':')) return std::nullopt;
    const auto parsed = std::from_chars(position, end, *number);
    if (parsed.ec != std::errc()) return std::nullopt;
    position = parsed.ptr;
  }
  // Canonical digits only: "064:2:4" would be a second name.
  if (position != end || !is_pattern(pattern) || to_string(pattern) != text) return std::nullopt;
  return pattern;
}

VnmViolation find_vnm_violation(std::span<const std::int8_t> dense, const VnmLayout& layout) {
  VnmViolation violation;
  for_groups(layout, [&](std::int64_t block, std::int64_t group) {
    if (std::popcount(used_positions(dense, layout, group_of(layout, block, group))) <= layout.pattern.n) return;
    if (violation.violations++ == 0) {
      violation.block = block;
      violation.group = group;
    }
  });
  return violation;
}

VnmWeights encode_vnm(std::span<const std::int8_t> dense, const VnmLayout& layout) {
  VnmWeights weights;
  weights.layout = layout;
  weights.values.resize(static_cast<std::size_t>(layout.rows * layout.row_kept()));
  weights.indices.resize(static_cast<std::size_t>(layout.blocks() * layout.row_kept()));
  for_groups(layout, [&](std::int64_t block, std::int64_t group) {
    const Group g = group_of(layout, block, group);
    const unsigned kept = kept_positions(used_positions(dense, layout, g), layout.pattern.n);
    std::int64_t slot = group * layout.pattern.n;
    for (std::int64_t position = 0; position < layout.pattern.m; ++position) {
      if ((kept >> position & 1U) == 0) continue;
      weights.indices[static_cast<std::size_t>(block * layout.row_kept() + slot)] = static_cast<std::uint8_t>(position);
      for (std::int64_t row = g.row_begin; row < g.row_end && g.elem_begin + position < g.elem_end; ++row) {
        weights.values[static_cast<std::size_t>(row * layout.row_kept() + slot)] =
            dense[static_cast<std::size_t>(row * layout.row_elems() + g.elem_begin + position)];
      }
      ++slot;
    }
  });
  return weights;
}

std::string explain_invalid_vnm(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                const VnmLayout& layout) {
  const VnmPattern& p = layout.pattern;
  if (!is_pattern(p)) return str_cat(to_string(p), " is no pattern: 1 <= N <= M <= 16 and 1 <= V <= 65536");
  if (std::ssize(values) != layout.rows * layout.row_kept()) {
    return str_cat(values.size(), " values, but ", layout.rows, " rows keep ", layout.row_kept(), " each");
  }
  if (std::ssize(indices) != layout.blocks() * layout.row_kept()) {
    return str_cat(indices.size(), " indices, but ", layout.blocks(), " blocks have ", layout.row_kept(), " each");
  }
  std::string problem;
  for_groups(layout, [&](std::int64_t block, std::int64_t group) {
    if (!problem.empty()) return;
    const Group g = group_of(layout, block, group);
    const std::int64_t first = group * p.n;
    unsigned stored = 0;
    unsigned used = 0;
    for (std::int64_t slot = first; slot < first + p.n; ++slot) {
      const unsigned position = indices[static_cast<std::size_t>(block * layout.row_kept() + slot)];
      const auto where = [&] { return str_cat("block ", block, " group ", group, ": "); };
      if (position >= static_cast<unsigned>(p.m)) {
        problem = str_cat(where(), "position ", position, " lies outside of the group");
        return;
      }
      if (stored >> position != 0) {
        problem = str_cat(where(), "position ", position, " is not above the one before");
        return;
      }
      stored |= 1U << position;
      for (std::int64_t row = g.row_begin; row < g.row_end; ++row) {
        if (values[static_cast<std::size_t>(row * layout.row_kept() + slot)] == 0) continue;
        if (g.elem_begin + position >= g.elem_end) {
          problem = str_cat(where(), "row ", row, " has a value past the end of its run");
          return;
        }
        used |= 1U << position;
      }
    }
    if (kept_positions(used, p.n) != stored) {
      problem = str_cat("block ", block, " group ", group, ": free positions are not filled up from below");
    }
  });
  return problem;
}

std::vector<std::int8_t> decode_vnm(std::span<const std::int8_t> values, std::span<const std::uint8_t> indices,
                                    const VnmLayout& layout) {
  std::vector<std::int8_t> dense(static_cast<std::size_t>(layout.rows * layout.row_elems()));
  for_groups(layout, [&](std::int64_t block, std::int64_t group) {
    const Group g = group_of(layout, block, group);
    for (std::int64_t slot = group * layout.pattern.n; slot < (group + 1) * layout.pattern.n; ++slot) {
      const std::int64_t elem = g.elem_begin + indices[static_cast<std::size_t>(block * layout.row_kept() + slot)];
      if (elem >= g.elem_end) continue;
      for (std::int64_t row = g.row_begin; row < g.row_end; ++row) {
        dense[static_cast<std::size_t>(row * layout.row_elems() + elem)] =
            values[static_cast<std::size_t>(row * layout.row_kept() + slot)];
      }
    }
  });
  return dense;
}

}  // namespace pare::format
