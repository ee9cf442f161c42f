#include "pare/runtime/arena.h"

#include <algorithm>
#include <new>
#include <numeric>

namespace pare::runtime {

AlignedBytes::AlignedBytes(std::size_t bytes)
    : data_(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{kAlignmentBytes}))), size_(bytes) {}

void AlignedBytes::Free::operator()(std::byte* data) const noexcept {
  ::operator delete[](data, std::align_val_t{kAlignmentBytes});
}

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
