#include "pare/base/threads.h"

#include <pthreadpool.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>

#include "pare/base/error.h"
#include "pare/base/strings.h"

// pthreadpool synchronizes with futexes in a library that ThreadSanitizer has not instrumented: tell it of the two
// edges that parallel_for promises (what the caller wrote before, what the bodies wrote after).
#if defined(__SANITIZE_THREAD__)
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#define PARE_TSAN_ACQUIRE(address) __tsan_acquire(address)
#define PARE_TSAN_RELEASE(address) __tsan_release(address)
#else
#define PARE_TSAN_ACQUIRE(address) static_cast<void>(address)
#define PARE_TSAN_RELEASE(address) static_cast<void>(address)
#endif

namespace pare {
namespace {

constexpr std::size_t kMostThreads = 1024;

struct Task {
  void (*body)(void* context, std::size_t begin, std::size_t end);
  void* context;
};

void run_task(void* task_address, std::size_t begin, std::size_t count) {
  auto* const task = static_cast<Task*>(task_address);
  PARE_TSAN_ACQUIRE(task);
  task->body(task->context, begin, begin + count);
  PARE_TSAN_RELEASE(task);
}

// Threads take the next index when they are free; each counts as the slot that it started with.
struct SlotTask {
  void (*body)(void* context, std::size_t slot, std::size_t index);
  void* context;
  std::size_t items;
  std::atomic<std::size_t> next{0};
};

}  // namespace

struct ThreadPool::Impl {
  pthreadpool_t pool = nullptr;  // none for one thread: everything runs on the caller's
  std::size_t threads = 1;
  std::uint32_t flags = 0;
  ~Impl() {
    if (pool != nullptr) pthreadpool_destroy(pool);
  }
};

ThreadPool::ThreadPool(std::size_t threads) : impl_(std::make_unique<Impl>()) {
  if (threads > kMostThreads) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(threads, " threads are more than ", kMostThreads), "threads",
                "0 takes one per core");
  }
  impl_->threads = threads == 0 ? std::min(available_cores(), kMostThreads) : threads;
  if (impl_->threads > 1) {
    impl_->pool = pthreadpool_create(impl_->threads);
    // Idle workers spin for a while, which is quickest as long as they do not take the cores from those that work.
    if (impl_->threads > available_cores()) impl_->flags = PTHREADPOOL_FLAG_YIELD_WORKERS;
    if (impl_->pool == nullptr) {
      throw Error(ErrorCategory::kIo, str_cat("cannot start ", impl_->threads, " threads"), "threads", "ask for fewer");
    }
  }
}

ThreadPool::~ThreadPool() = default;

std::size_t ThreadPool::threads() const noexcept { return impl_->threads; }

void ThreadPool::parallel_for(std::size_t items, std::size_t tile,
                              void (*body)(void* context, std::size_t begin, std::size_t end), void* context) {
  PARE_CHECK(tile > 0);
  if (impl_->pool == nullptr || items <= tile) {
    for (std::size_t begin = 0; begin < items;) {
      const std::size_t end = items - begin > tile ? begin + tile : items;
      body(context, begin, end);
      begin = end;
    }
    return;
  }
  Task task{body, context};
  PARE_TSAN_RELEASE(&task);
  pthreadpool_parallelize_1d_tile_1d(impl_->pool, run_task, &task, items, tile, impl_->flags);
  PARE_TSAN_ACQUIRE(&task);
}

void ThreadPool::parallel_for_slots(std::size_t items, void (*body)(void* context, std::size_t slot, std::size_t index),
                                    void* context) {
  SlotTask task{body, context, items};
  const std::size_t slots = std::min(impl_->threads, items);
  parallel_for(slots, 1, [&task](std::size_t slot, std::size_t /*end*/) {
    for (std::size_t index = task.next.fetch_add(1, std::memory_order_relaxed); index < task.items;
         index = task.next.fetch_add(1, std::memory_order_relaxed)) {
      task.body(task.context, slot, index);
    }
  });
}

std::size_t available_cores() {
  // The mask must be as large as the kernel's, which is not known beforehand.
  for (std::size_t cpus = CPU_SETSIZE; cpus <= (std::size_t{1} << 20); cpus *= 2) {
    cpu_set_t* const mask = CPU_ALLOC(cpus);
    if (mask == nullptr) break;
    const std::size_t mask_bytes = CPU_ALLOC_SIZE(cpus);
    const int failed = ::sched_getaffinity(0, mask_bytes, mask);
    const int error_number = errno;
    const int count = failed == 0 ? CPU_COUNT_S(mask_bytes, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return static_cast<std::size_t>(count);
    if (error_number != EINVAL) break;
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace pare
