#include <cstring>
#include <new>

#include "pare/kernels/block/block_tile.h"

namespace pare::kernels {

namespace {

// Walks over the stored blocks of one block row after the other.
class StoredBlocks {
 public:
  explicit StoredBlocks(const CanonicalWeights& weights) : w_(weights), values_(weights.values) {}

  [[nodiscard]] std::int64_t block_rows() const { return (w_.n + w_.block.rows - 1) / w_.block.rows; }

  // Calls body(tap, first column within the tap, values of the block) for the stored blocks of the next block row.
  template <typename Body>
  void next_row(const Body& body) {
    const std::int64_t tap_blocks = (w_.segment_elems + w_.block.columns - 1) / w_.block.columns;
    const std::int64_t row_blocks = w_.segments * tap_blocks;
    const std::uint8_t* bits = w_.indices + row_++ * ((row_blocks + 7) / 8);
    for (std::int64_t block = 0; block < row_blocks; ++block) {
      if ((bits[block / 8] >> (block % 8) & 1) == 0) continue;
      body(block / tap_blocks, block % tap_blocks * w_.block.columns, values_);
      values_ += w_.block.elems();
    }
  }

 private:
  const CanonicalWeights& w_;
  const std::int8_t* values_;
  std::int64_t row_ = 0;
};

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Rows of block row `row`.
std::int64_t rows_of(const CanonicalWeights& weights, std::int64_t row) {
  return smaller(weights.block.rows, weights.n - row * weights.block.rows);
}

// Calls body(step, first column, columns) for each step that the block touches, columns counted within the tap.
template <typename Body>
void for_steps(const CanonicalWeights& weights, std::int64_t tap, std::int64_t begin, const Body& body) {
  const std::int64_t end = smaller(begin + weights.block.columns, weights.segment_elems);
  const std::int64_t tap_steps = (weights.segment_elems + 3) / 4;
  for (std::int64_t column = begin; column < end;) {
    const std::int64_t next = smaller(column / 4 * 4 + 4, end);
    body(tap * tap_steps + column / 4, column, next - column);
    column = next;
  }
}

// Steps that the stored blocks of the next block row touch.
std::int64_t count_steps(const CanonicalWeights& weights, StoredBlocks& blocks) {
  std::int64_t last = -1;
  std::int64_t count = 0;
  blocks.next_row([&](std::int64_t tap, std::int64_t begin, const std::int8_t*) {
    for_steps(weights, tap, begin, [&](std::int64_t step, std::int64_t, std::int64_t) {
      count += step != last ? 1 : 0;
      last = step;
    });
  });
  return count;
}

BlockLists lists_for(const CanonicalWeights& weights) {
  BlockLists lists;
  lists.n = weights.n;
  lists.taps = weights.segments;
  lists.c = weights.segment_elems;
  lists.group = weights.block.rows % 4 == 0 ? 4 : 1;
  StoredBlocks blocks(weights);
  for (std::int64_t row = 0; row < blocks.block_rows(); ++row) {
    lists.entries += count_steps(weights, blocks) * ((rows_of(weights, row) + lists.group - 1) / lists.group);
  }
  return lists;
}

}  // namespace

std::size_t packed_block_lists_bytes(const CanonicalWeights& weights) {
  return static_cast<std::size_t>(lists_for(weights).bytes());
}

void pack_block_lists(const CanonicalWeights& weights, void* packed) {
  const BlockLists lists = lists_for(weights);
  std::memset(packed, 0, static_cast<std::size_t>(lists.bytes()));
  static_assert(sizeof(BlockLists) <= BlockLists::sums_offset());
  new (packed) BlockLists(lists);
  auto* const begin = static_cast<std::uint8_t*>(packed);
  auto* const sums = reinterpret_cast<std::int32_t*>(begin + BlockLists::sums_offset());
  auto* const begins = reinterpret_cast<std::uint32_t*>(begin + lists.begins_offset());
  auto* const steps = reinterpret_cast<std::uint16_t*>(begin + lists.steps_offset());
  auto* const values = reinterpret_cast<std::int8_t*>(begin + lists.values_offset());
  StoredBlocks blocks(weights);
  std::int64_t entries = 0;
  for (std::int64_t row = 0; row < blocks.block_rows(); ++row) {
    const std::int64_t first = row * weights.block.rows;
    const std::int64_t row_groups = (rows_of(weights, row) + lists.group - 1) / lists.group;
    // The groups of a block row keep the same steps.
    StoredBlocks counting = blocks;
    const std::int64_t count = count_steps(weights, counting);
    for (std::int64_t g = 0; g < row_groups; ++g) {
      begins[first / lists.group + g] = static_cast<std::uint32_t>(entries + g * count);
    }
    std::int64_t index = -1;
    std::int64_t last = -1;
    blocks.next_row([&](std::int64_t tap, std::int64_t column, const std::int8_t* block) {
      for_steps(weights, tap, column, [&](std::int64_t step, std::int64_t from, std::int64_t columns) {
        index += step != last ? 1 : 0;
        last = step;
        for (std::int64_t r = 0; r < rows_of(weights, row); ++r) {
          const std::int64_t entry = entries + r / lists.group * count + index;
          steps[entry] = static_cast<std::uint16_t>(step);
          const std::int8_t* codes = block + r * weights.block.columns + (from - column);
          std::memcpy(values + 4 * (entry * lists.group + r % lists.group) + from % 4, codes,
                      static_cast<std::size_t>(columns));
          for (std::int64_t i = 0; i < columns; ++i) sums[first + r] += codes[i];
        }
      });
    });
    entries += row_groups * count;
  }
  begins[lists.groups()] = static_cast<std::uint32_t>(entries);
}

}  // namespace pare::kernels
