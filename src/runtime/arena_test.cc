#include "pare/runtime/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "pare/base/rng.h"

namespace pare::runtime {
namespace {

bool overlap_in_time(const BufferRequest& a, const BufferRequest& b) {
  return a.first_step <= b.last_step && b.first_step <= a.last_step;
}

void expect_valid(const std::vector<BufferRequest>& requests, const ArenaLayout& layout) {
  ASSERT_EQ(layout.offsets.size(), requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(layout.offsets[i] % kAlignmentBytes, 0U);
    EXPECT_LE(layout.offsets[i] + requests[i].bytes, layout.bytes);
    for (std::size_t j = 0; j < i; ++j) {
      if (!overlap_in_time(requests[i], requests[j])) continue;
      const bool apart = layout.offsets[i] + requests[i].bytes <= layout.offsets[j] ||
                         layout.offsets[j] + requests[j].bytes <= layout.offsets[i];
      EXPECT_TRUE(apart) << "buffers " << i << " and " << j;
    }
  }
}

TEST(Arena, AChainNeedsOnlyItsTwoLargestNeighbours) {
  const std::vector<BufferRequest> requests = {{640, 0, 1}, {1280, 1, 2}, {320, 2, 3}, {64, 3, 4}};
  const ArenaLayout layout = place_buffers(requests);
  expect_valid(requests, layout);
  EXPECT_EQ(layout.bytes, 1280U + 640U);
}

TEST(Arena, BuffersAliveTogetherNeverOverlap) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    std::vector<BufferRequest> requests(rng.below(20));
    std::size_t sum = 0;
    for (BufferRequest& request : requests) {
      request.first_step = rng.below(12);
      request.last_step = request.first_step + rng.below(5);
      request.bytes = rng.below(1000);
      sum += (request.bytes + 63) / 64 * 64;
    }
    const ArenaLayout layout = place_buffers(requests);
    expect_valid(requests, layout);
    EXPECT_LE(layout.bytes, sum);
  }
}

TEST(AlignedBytes, StandOnTheirBoundary) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{65}, std::size_t{4096}}) {
    const AlignedBytes memory(bytes);
    EXPECT_EQ(memory.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignmentBytes, 0U);
  }
}

TEST(AlignedBytes, LargeOnesBeginAtAHugePageAndAreWritableToTheirEnd) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  for (const std::size_t bytes : {2 * kHugePage, 3 * kHugePage + 1}) {
    AlignedBytes memory;
    memory = AlignedBytes(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % kHugePage, 0U);
    std::memset(memory.data(), 0x5A, bytes);
    EXPECT_EQ(memory.data()[bytes - 1], std::byte{0x5A});
  }
}

}  // namespace
}  // namespace pare::runtime
