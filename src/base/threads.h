// A pool of worker threads (pthreadpool underneath).
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace pare {

// Not thread-safe: one caller at a time.
class ThreadPool {
 public:
  // threads = 0: one per core that this process may run on. Throws kInvalidArgument above 1024.
  explicit ThreadPool(std::size_t threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] std::size_t threads() const noexcept;

  // Calls body(context, begin, end) over a partition of [0, items) into ranges of at most `tile` items, and returns
  // when all have returned. Allocates nothing. `body` must not throw.
  void parallel_for(std::size_t items, std::size_t tile,
                    void (*body)(void* context, std::size_t begin, std::size_t end), void* context);

  // Calls body(context, slot, index) once for every index in [0, items), in any order. Calls with the same slot, which
  // lies in [0, threads()), never overlap: what a kernel scratches on is kept by slot. Allocates nothing.
  void parallel_for_slots(std::size_t items, void (*body)(void* context, std::size_t slot, std::size_t index),
                          void* context);

  // The same for a callable: body(slot, index).
  template <typename Body>
  void parallel_for_slots(std::size_t items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    parallel_for_slots(
        items, [](void* context, std::size_t slot, std::size_t index) { (*static_cast<Plain*>(context))(slot, index); },
        &body);
  }

  // parallel_for for a callable: body(begin, end).
  template <typename Body>
  void parallel_for(std::size_t items, std::size_t tile, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    parallel_for(
        items, tile,
        [](void* context, std::size_t begin, std::size_t end) { (*static_cast<Plain*>(context))(begin, end); }, &body);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Cores that this process may run on (affinity mask included), at least 1.
[[nodiscard]] std::size_t available_cores();

}  // namespace pare
