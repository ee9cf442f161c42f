// Zeroed memory on huge pages where the kernel grants them, so that translation misses are the same for all
// contestants.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace pare::bench {

namespace internal {
// Multiples of 64 that differ from one buffer to the next: buffers that all began at a huge page's first byte would
// compete for the same cache sets.
inline std::size_t next_stagger() {
  static std::size_t buffers = 0;
  return ++buffers * 4160 % 65536 / 64 * 64;
}
}  // namespace internal

// Aligned to 64 bytes.
template <typename T>
class HugeBuffer {
 public:
  HugeBuffer() = default;
  explicit HugeBuffer(std::size_t count) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    const std::size_t stagger = internal::next_stagger();
    // Kernels may prefetch past the end.
    const std::size_t bytes = (stagger + count * sizeof(T) + 4096 + kHugePage - 1) / kHugePage * kHugePage;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes)));
    if (memory_ == nullptr) throw std::bad_alloc();
    madvise(memory_.get(), bytes, MADV_HUGEPAGE);  // only advice: ordinary pages do, too
    std::memset(memory_.get(), 0, bytes);
    data_ = reinterpret_cast<T*>(memory_.get() + stagger);
  }
  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }

 private:
  struct Free {
    void operator()(std::byte* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  T* data_ = nullptr;
};

}  // namespace pare::bench
