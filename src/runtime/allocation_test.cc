// A program of its own, because it counts every allocation in the process.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/session.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace {
std::atomic<std::int64_t> allocations{0};
}

// glibc's allocator under the names it exports for this purpose; operator new ends here as well.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  ++allocations;
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
}

namespace pare::runtime {
namespace {

TEST(SessionAllocation, CounterSeesAllocations) {
  const std::int64_t before = allocations;
  const std::vector<int> some(1000);
  EXPECT_GT(allocations, before) << some.size();
}

TEST(SessionAllocation, RunsAllocateNothingAfterTheFirst) {
  for (const bool two_four : {false, true}) {
    for (const std::size_t threads : {1, 2}) {
      const testing::TemporaryArtifact file(graph::testing::odd_artifact(1, two_four));
      Session session = Session::load(file.path(), {.threads = threads, .max_batch = 8});
      constexpr std::int64_t kCount = 20;
      const std::vector<std::uint8_t> images = testing::random_images(1, kCount, session.input_elems());
      const std::vector<float> normalized(images.begin(), images.end());
      std::vector<float> logits(static_cast<std::size_t>(kCount * session.classes()));
      session.enable_profile(true);
      session.run(images, kCount, logits);
      session.run(std::span<const float>(normalized), kCount, logits);
      const std::int64_t before = allocations;
      for (int repeat = 0; repeat < 5; ++repeat) {
        session.run(images, kCount, logits);
        session.run(std::span<const float>(normalized), kCount, logits);
      }
      EXPECT_EQ(allocations, before) << threads << " threads";
    }
  }
}

TEST(SessionAllocation, NorDoMixedGraphs) {
  for (const graph::Artifact& artifact : {graph::testing::encoder_artifact(1), graph::testing::dynamic_artifact(1)}) {
    const testing::TemporaryArtifact file(artifact);
    Session session = Session::load(file.path(), {.threads = 2, .max_batch = 4});
    constexpr std::int64_t kCount = 6;
    const std::vector<float> input(static_cast<std::size_t>(kCount * session.input_elems()), 0.5F);
    std::vector<float> output(static_cast<std::size_t>(kCount * session.classes()));
    session.run(std::span<const float>(input), kCount, output);
    const std::int64_t before = allocations;
    for (int repeat = 0; repeat < 5; ++repeat) session.run(std::span<const float>(input), kCount, output);
    EXPECT_EQ(allocations, before) << artifact.graph.name;
  }
}

// A plan is made once, for the largest batch: smaller ones, larger ones in slices, and none at all run by it, in any
// order, whatever form the weights run in.
TEST(SessionAllocation, BatchesOfAnySizeRunByTheSamePlan) {
  for (const graph::Artifact& artifact :
       {graph::testing::mlp_artifact(2, true), graph::testing::residual_artifact(2, true),
        graph::testing::depthwise_artifact(2, true)}) {
    const testing::TemporaryArtifact file(artifact);
    for (const bool as_stored : {false, true}) {
      for (const std::size_t threads : {1, 2}) {
        SessionOptions options{.threads = threads, .max_batch = 8};
        for (const graph::Node& node : artifact.graph.nodes) options.as_stored[node.name] = as_stored;
        Session session = Session::load(file.path(), options);
        constexpr std::int64_t kMost = 20;
        const std::vector<std::uint8_t> images = testing::random_images(1, kMost, session.input_elems());
        std::vector<float> logits(static_cast<std::size_t>(kMost * session.classes()));
        std::vector<float> expected(logits.size());
        session.run(images, kMost, expected);
        const std::size_t arena = session.arena_bytes();
        const std::int64_t before = allocations;
        for (const std::int64_t count : {1, 8, 3, 0, 20, 9, 2}) {
          const auto pixels = static_cast<std::size_t>(count * session.input_elems());
          const auto numbers = static_cast<std::size_t>(count * session.classes());
          session.run(std::span<const std::uint8_t>(images).first(pixels), count,
                      std::span<float>(logits).first(numbers));
          const bool is_equal =
              std::equal(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(numbers), expected.begin());
          if (!is_equal) ADD_FAILURE() << count << " images, " << threads << " threads";
        }
        EXPECT_EQ(allocations, before) << threads << " threads, " << (as_stored ? "as stored" : "dense");
        EXPECT_EQ(session.arena_bytes(), arena);
      }
    }
  }
}

}  // namespace
}  // namespace pare::runtime
