// One block of memory for all activations: each buffer gets its place once, at planning time.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace pare::runtime {

inline constexpr std::size_t kAlignmentBytes = 64;

// Memory on a 64-byte boundary, not initialized. Throws std::bad_alloc. From 4 MiB on it lies on huge pages where the
// kernel grants them to who asks (transparent_hugepage `madvise` or `always`); that makes no more of it resident.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t bytes);

  [[nodiscard]] std::byte* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(std::byte* data) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> data_{nullptr, Free{std::align_val_t{kAlignmentBytes}}};
  std::size_t size_ = 0;
};

// A buffer that is written in step `first_step` and read for the last time in step `last_step`.
struct BufferRequest {
  std::size_t bytes = 0;
  std::size_t first_step = 0;
  std::size_t last_step = 0;
};

struct ArenaLayout {
  std::vector<std::size_t> offsets;  // one a request, multiples of kAlignmentBytes
  std::size_t bytes = 0;
};

// Buffers whose steps overlap do not overlap in memory. Greedy by size (Pisarchyk and Lee, arXiv 2001.03288, section
// 5.2): the largest first, each at the lowest place that is free during its steps.
[[nodiscard]] ArenaLayout place_buffers(std::span<const BufferRequest> requests);

}  // namespace pare::runtime
