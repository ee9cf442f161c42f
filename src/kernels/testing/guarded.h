// Operands for kernel tests, between pages that may not be touched.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

namespace pare::kernels::testing {

// Which end of an operand lies against a page that may not be touched.
enum class Against : std::uint8_t { kEnd, kStart };

// `count` elements whose end lies on the end of the last page before an inaccessible one (up to what `alignment`
// demands), or whose start lies on the start of the first page after one; whatever else the pages hold is poison. A
// read or write past the pages crashes; one that stays within them is found by comparing the results under two poisons,
// or by guards_intact().
template <typename T>
class Guarded {
 public:
  Guarded(std::int64_t count, std::uint8_t poison, std::size_t alignment = alignof(T), Against against = Against::kEnd)
      : count_(static_cast<std::size_t>(count)), poison_(poison) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = count_ * sizeof(T);
    inner_bytes_ = (bytes + alignment + page - 1) / page * page;
    map_bytes_ = inner_bytes_ + 2 * page;
    void* map = mmap(nullptr, map_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = static_cast<std::uint8_t*>(map);
    inner_ = map_ + page;
    if (mprotect(inner_, inner_bytes_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    std::memset(inner_, poison, inner_bytes_);
    offset_ = against == Against::kStart ? 0 : (inner_bytes_ - bytes) / alignment * alignment;
  }
  ~Guarded() { munmap(map_, map_bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  [[nodiscard]] T* data() { return reinterpret_cast<T*>(inner_ + offset_); }
  [[nodiscard]] std::span<T> items() { return {data(), count_}; }
  template <typename Items>
  void assign(const Items& items) {
    std::copy(items.begin(), items.end(), data());
  }
  // False if a byte outside of the operand is no longer poison.
  [[nodiscard]] bool guards_intact() const {
    const auto is_poison = [this](std::uint8_t byte) { return byte == poison_; };
    const std::uint8_t* end = inner_ + offset_ + count_ * sizeof(T);
    return std::all_of(static_cast<const std::uint8_t*>(inner_), static_cast<const std::uint8_t*>(inner_) + offset_,
                       is_poison) &&
           std::all_of(end, static_cast<const std::uint8_t*>(inner_) + inner_bytes_, is_poison);
  }

 private:
  std::size_t count_;
  std::uint8_t poison_;
  std::size_t map_bytes_ = 0;
  std::size_t inner_bytes_ = 0;
  std::size_t offset_ = 0;
  std::uint8_t* map_ = nullptr;
  std::uint8_t* inner_ = nullptr;
};

// Two fillings of everything that a kernel must neither read nor write.
inline constexpr std::uint8_t kPoisons[] = {0x00, 0xA5};

}  // namespace pare::kernels::testing
