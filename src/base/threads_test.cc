#include "pare/base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "pare/base/testing.h"

namespace pare {
namespace {

TEST(ThreadPool, VisitsEveryItemOnceInRangesOfAtMostATile) {
  for (const std::size_t threads : {1U, 2U, 3U, 7U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::size_t items : {0U, 1U, 7U, 8U, 9U, 1000U}) {
      for (const std::size_t tile : {1U, 8U, 5000U}) {
        std::vector<int> visits(items);
        std::atomic<bool> too_long{false};
        pool.parallel_for(items, tile, [&](std::size_t begin, std::size_t end) {
          if (begin >= end || end - begin > tile) too_long = true;
          for (std::size_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(items, 1)) << threads << " threads, tile " << tile;
        EXPECT_FALSE(too_long) << threads << " threads, " << items << " items, tile " << tile;
      }
    }
  }
}

TEST(ThreadPool, OneThreadIsTheCallers) {
  ThreadPool pool(1);
  std::set<std::thread::id> seen;
  pool.parallel_for(100, 3, [&](std::size_t, std::size_t) { seen.insert(std::this_thread::get_id()); });
  EXPECT_EQ(seen, std::set{std::this_thread::get_id()});
}

TEST(ThreadPool, WorkIsSharedByThreads) {
  ThreadPool pool(2);
  // Each of two items waits for the other: this ends only if two threads run them at once.
  std::atomic<int> arrived{0};
  pool.parallel_for(2, 1, [&](std::size_t, std::size_t) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

TEST(ThreadPool, ResultsAreVisibleToTheCallerManyTimesOver) {
  ThreadPool pool(4);
  std::vector<std::size_t> values(64);
  for (std::size_t round = 0; round < 500; ++round) {
    pool.parallel_for(values.size(), 1, [&](std::size_t begin, std::size_t) { values[begin] += round; });
  }
  for (const std::size_t value : values) EXPECT_EQ(value, 500U * 499U / 2);
}

TEST(ThreadPool, SlotsDoNotOverlapAndEveryIndexIsVisitedOnce) {
  for (const std::size_t threads : {1U, 2U, 5U}) {
    ThreadPool pool(threads);
    for (const std::size_t items : {0U, 1U, 3U, 500U}) {
      std::vector<int> visits(items);
      std::vector<std::atomic<int>> inside(threads);
      std::atomic<bool> overlap{false};
      pool.parallel_for_slots(items, [&](std::size_t slot, std::size_t index) {
        if (slot >= threads || inside[slot].fetch_add(1) != 0) overlap = true;
        std::this_thread::yield();
        ++visits[index];
        inside[slot].fetch_sub(1);
      });
      EXPECT_EQ(visits, std::vector<int>(items, 1)) << threads << " threads";
      EXPECT_FALSE(overlap) << threads << " threads, " << items << " items";
    }
  }
}

TEST(ThreadPool, HugeItemCountsDoNotOverflow) {
  // The last tile begins near the end of size_t; counting begin + tile beyond it would wrap around.
  ThreadPool pool(1);
  constexpr std::size_t kItems = ~std::size_t{0} - 1;
  std::size_t covered = 0;
  pool.parallel_for(kItems, kItems / 2 + 3, [&](std::size_t begin, std::size_t end) { covered += end - begin; });
  EXPECT_EQ(covered, kItems);
}

TEST(ThreadPool, TakesAPlainFunctionAndAContext) {
  ThreadPool pool(2);
  std::atomic<std::size_t> sum{0};
  pool.parallel_for(
      10, 2,
      [](void* context, std::size_t begin, std::size_t end) {
        *static_cast<std::atomic<std::size_t>*>(context) += end - begin;
      },
      &sum);
  EXPECT_EQ(sum.load(), 10U);
}

TEST(ThreadPool, ZeroMeansAllCores) { EXPECT_EQ(ThreadPool().threads(), available_cores()); }

TEST(ThreadPool, RefusesAbsurdNumbers) {
  EXPECT_PARE_ERROR(ThreadPool(1025).threads(), kInvalidArgument, "1025 threads");
  EXPECT_PARE_ERROR(ThreadPool(~std::size_t{0}).threads(), kInvalidArgument, "threads");
}

TEST(AvailableCores, FollowTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(available_cores(), static_cast<std::size_t>(CPU_COUNT(&before)));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_SET(cpu, &one);
    break;
  }
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  const std::size_t cores = available_cores();
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(cores, 1U);
}

}  // namespace
}  // namespace pare
