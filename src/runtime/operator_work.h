// How operators cut their work into tiles and find their operands. Internal to runtime/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "pare/base/threads.h"
#include "pare/runtime/operators.h"

namespace pare::runtime {

// Tiles per thread: enough that a thread which the system interrupts does not hold up the others for long.
inline constexpr std::int64_t kTilesPerThread = 4;
// A tile moves at least so many bytes: some 5 us of scalar code, about what handing it over costs.
inline constexpr std::int64_t kLeastWorkPerTile = std::int64_t{1} << 17;
// Multiply-adds of a vector kernel that take as long as moving a byte.
inline constexpr std::int64_t kMacsPerByte = 8;

[[nodiscard]] inline std::size_t tile_items(const ThreadPool& pool, std::int64_t items, std::int64_t work_per_item) {
  const auto tiles = static_cast<std::int64_t>(pool.threads()) * kTilesPerThread;
  const std::int64_t even = (items + tiles - 1) / tiles;
  const std::int64_t least = kLeastWorkPerTile / std::max<std::int64_t>(work_per_item, 1);
  return static_cast<std::size_t>(std::max<std::int64_t>({even, least, 1}));
}

// Into how many blocks `items` of work are cut: one for one thread, which then passes over its weights only once.
[[nodiscard]] inline std::int64_t block_count(const ThreadPool& pool, std::int64_t items, std::int64_t work_per_item) {
  if (pool.threads() == 1 || items == 0) return 1;
  const auto tile = static_cast<std::int64_t>(tile_items(pool, items, work_per_item));
  return (items + tile - 1) / tile;
}

// The piece of scratch of one thread.
[[nodiscard]] inline void* scratch_of(const RunContext& context, std::size_t slot) {
  return context.scratch + slot * context.scratch_stride;
}

// body(begin, end) over [0, items), in parallel.
template <typename Body>
void spread(const RunContext& context, std::int64_t items, std::int64_t work_per_item, const Body& body) {
  auto run = [&body](std::size_t begin, std::size_t end) {
    body(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end));
  };
  context.pool.parallel_for(static_cast<std::size_t>(items), tile_items(context.pool, items, work_per_item), run);
}

template <typename T>
[[nodiscard]] T* at(const RunContext& context, std::size_t offset) {
  return reinterpret_cast<T*>(context.arena + offset);
}

// What may be the graph's input.
template <typename T>
[[nodiscard]] const T* input_at(const RunContext& context, std::size_t offset) {
  return offset == kGraphInput ? reinterpret_cast<const T*>(context.real) : at<const T>(context, offset);
}

// body(m_begin, m_end, n_begin, n_end, scratch) over C[m, n], in parallel; columns begin at multiples of n_tile. They
// are cut first: their weights are then read by one thread only.
template <typename Body>
void spread_product(const RunContext& context, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t n_tile,
                    const Body& body) {
  constexpr std::int64_t kLeastBlockColumns = 64;
  constexpr std::int64_t kLeastBlockRows = 32;
  const std::int64_t unit = (kLeastBlockColumns + n_tile - 1) / n_tile * n_tile;
  const std::int64_t units = (n + unit - 1) / unit;
  const std::int64_t column_blocks = block_count(context.pool, units, m * std::min(unit, n) * k / kMacsPerByte);
  const std::int64_t row_units = (m + kLeastBlockRows - 1) / kLeastBlockRows;
  const std::int64_t row_blocks =
      std::min(row_units, block_count(context.pool, m, n * k / kMacsPerByte) / column_blocks);
  const std::int64_t rows = std::max<std::int64_t>(row_blocks, 1);
  context.pool.parallel_for_slots(
      static_cast<std::size_t>(column_blocks * rows), [&](std::size_t slot, std::size_t index) {
        const std::int64_t column = static_cast<std::int64_t>(index) / rows;
        const std::int64_t row = static_cast<std::int64_t>(index) % rows;
        body(m * row / rows, m * (row + 1) / rows, units * column / column_blocks * unit,
             std::min(units * (column + 1) / column_blocks * unit, n), scratch_of(context, slot));
      });
}

// body(begin, end) over [0, elems), cut at lines of the cache, so that no two threads write one.
template <typename Body>
void spread_elems(const RunContext& context, std::int64_t elems, std::int64_t work_per_elem, const Body& body) {
  constexpr std::int64_t kLine = 64;
  spread(context, (elems + kLine - 1) / kLine, work_per_elem * kLine,
         [&](std::int64_t begin, std::int64_t end) { body(begin * kLine, std::min(end * kLine, elems)); });
}

}  // namespace pare::runtime
