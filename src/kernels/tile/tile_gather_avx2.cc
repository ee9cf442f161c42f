// The gathering of V:N:M activations. It needs no more than AVX2, and serves all instruction sets that have it.
#include "pare/kernels/tile/tile_avx2.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

// Masks keep as many of every 16 activations, so the kept bytes of a 16-byte block have a known place: vpshufb moves
// each block's to theirs, zeros elsewhere, and the blocks are joined.
constexpr char kNone = -128;

template <int kSource, int kKeep>
PARE_ALWAYS_INLINE __m256i places(int pair) {
  constexpr int kBlockKeep = kKeep * 16 / kSource;
  alignas(32) char bytes[32];
  for (int i = 0; i < 32; ++i) {
    const int first = (2 * pair + i / 16) * kBlockKeep;
    bytes[i] = i % 16 >= first && i % 16 < first + kBlockKeep ? 0 : kNone;
  }
  return load(bytes);
}

// The first 16, 8 or 4 bytes of a vector.
template <int kKeep>
PARE_ALWAYS_INLINE __m128i load_kept(const std::uint8_t* bytes) {
  const auto* from = reinterpret_cast<const __m128i*>(bytes);
  if constexpr (kKeep == 16) return _mm_loadu_si128(from);
  if constexpr (kKeep == 8) return _mm_loadl_epi64(from);
  return _mm_loadu_si32(from);
}

template <int kKeep>
PARE_ALWAYS_INLINE void store_kept(std::uint8_t* bytes, __m128i kept) {
  auto* to = reinterpret_cast<__m128i*>(bytes);
  if constexpr (kKeep == 16) {
    _mm_storeu_si128(to, kept);
  } else if constexpr (kKeep == 8) {
    _mm_storel_epi64(to, kept);
  } else {
    _mm_storeu_si32(to, kept);
  }
}

template <int kSource, int kKeep>
void gather(const TileArgs& args) {
  const __m256i places_0 = places<kSource, kKeep>(0);
  const __m256i places_1 = places<kSource, kKeep>(1);
  const std::uint8_t* indices = args.next_indices;
  std::uint8_t* out = args.next_gathered;
  for (std::int64_t tap = 0; tap < args.taps; ++tap) {
    const std::uint8_t* const* row = args.next_rows + tap * kTileRows;
    for (std::int64_t offset = 0; offset < args.c; offset += kSource, indices += kKeep, out += kKeep) {
      const __m256i positions = _mm256_broadcastsi128_si256(load_kept<kKeep>(indices));
      const __m256i low = _mm256_or_si256(_mm256_and_si256(positions, _mm256_set1_epi8(15)), places_0);
      const __m256i high = _mm256_or_si256(_mm256_and_si256(positions, _mm256_set1_epi8(15)), places_1);
      const std::int64_t left = args.c - offset;
      for (std::int64_t r = 0; r < args.next_row_count; ++r) {
        const std::uint8_t* a = row[r] + offset;
        __m256i kept = _mm256_shuffle_epi8(left >= 32 ? load_unaligned(a) : load_some(a, left), low);
        if constexpr (kSource == 64) {
          if (left > 32) {
            const __m256i then = left >= 64 ? load_unaligned(a + 32) : load_some(a + 32, left - 32);
            kept = _mm256_or_si256(kept, _mm256_shuffle_epi8(then, high));
          }
        }
        const __m128i joined = _mm_or_si128(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
        store_kept<kKeep>(out + r * args.gathered_stride, joined);
      }
    }
  }
}

}  // namespace

void gather_vnm_avx2(const TileArgs& args, VnmShape shape) {
  constexpr TileKernel kGathers[] = {gather<32, 16>, gather<64, 16>, gather<64, 8>, gather<32, 8>, gather<32, 4>};
  kGathers[vnm_index(shape)](args);
}

}  // namespace pare::kernels
