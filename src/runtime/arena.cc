#include "pare/runtime/arena.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <numeric>

namespace pare::runtime {

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
constexpr std::size_t kLeastHugePages = 2;

std::align_val_t alignment_of(std::size_t bytes) {
  return std::align_val_t{bytes >= kLeastHugePages * kHugePageBytes ? kHugePageBytes : kAlignmentBytes};
}

}  // namespace

AlignedBytes::AlignedBytes(std::size_t bytes)
    : data_(static_cast<std::byte*>(::operator new[](bytes, alignment_of(bytes))), Free{alignment_of(bytes)}),
      size_(bytes) {
#if defined(__linux__)
  // Whole huge pages only; refusal does no harm.
  if (bytes >= kLeastHugePages * kHugePageBytes) {
    madvise(data_.get(), bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  }
#endif
}

void AlignedBytes::Free::operator()(std::byte* data) const noexcept { ::operator delete[](data, alignment); }

ArenaLayout place_buffers(std::span<const BufferRequest> requests) {
  std::vector<std::size_t> by_size(requests.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](std::size_t a, std::size_t b) { return requests[a].bytes > requests[b].bytes; });
  const auto rounded = [](std::size_t bytes) {
    return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  };

  ArenaLayout layout;
  layout.offsets.resize(requests.size());
  std::vector<std::size_t> placed;  // ascending offsets
  for (const std::size_t index : by_size) {
    const BufferRequest& request = requests[index];
    std::size_t offset = 0;
    for (const std::size_t other : placed) {
      const bool alive_together =
          requests[other].first_step <= request.last_step && request.first_step <= requests[other].last_step;
      if (!alive_together) continue;
      if (offset + request.bytes <= layout.offsets[other]) break;
      offset = std::max(offset, layout.offsets[other] + rounded(requests[other].bytes));
    }
    layout.offsets[index] = offset;
    layout.bytes = std::max(layout.bytes, offset + rounded(request.bytes));
    const auto behind = [&](std::size_t value, std::size_t other) { return value < layout.offsets[other]; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset, behind), index);
  }
  return layout;
}

}  // namespace pare::runtime
