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

template <typename T>
class HugeBuffer {
 public:
  HugeBuffer() = default;
  explicit HugeBuffer(std::size_t count) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    // Kernels may prefetch past the end, and small buffers shall not share their last line.
    const std::size_t bytes = (count * sizeof(T) + 4096 + kHugePage - 1) / kHugePage * kHugePage;
    data_.reset(static_cast<T*>(std::aligned_alloc(kHugePage, bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    madvise(data_.get(), bytes, MADV_HUGEPAGE);  // only advice: ordinary pages do, too
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
  }
  [[nodiscard]] T* data() { return data_.get(); }
  [[nodiscard]] const T* data() const { return data_.get(); }
  [[nodiscard]] T& operator[](std::size_t index) { return data_.get()[index]; }

 private:
  struct Free {
    void operator()(T* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace pare::bench
