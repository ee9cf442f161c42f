// How quantize kernels walk through images, and how they write codes of planes in NHWC order.
//
// In an unnamed namespace on purpose: files for different instruction sets include it, and each keeps its own code.
#pragma once

#include <cstdint>

#include "pare/kernels/quantize/quantize_args.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pare::kernels {
namespace {

// Calls plane(image, c, first, last) for the stretch of every image and channel that [begin, end) covers.
template <typename Plane>
inline void for_each_plane(const QuantizeArgs& args, std::int64_t begin, std::int64_t end, Plane plane) {
  while (begin < end) {
    const std::int64_t image = begin / args.pixels;
    const std::int64_t first = begin % args.pixels;
    const std::int64_t left = args.pixels - first;
    const std::int64_t last = first + (end - begin < left ? end - begin : left);
    for (std::int64_t c = 0; c < args.channels; ++c) plane(image, c, first, last);
    begin += last - first;
  }
}

#if defined(__AVX2__)

constexpr std::int64_t kBlockPixels = 64;

// Three runs of 64 codes to 64 pixels of three channels.
inline void interleave_three(const std::uint8_t (*codes)[kBlockPixels], std::uint8_t* y) {
  // Byte j of the 48 that 16 pixels take is channel j % 3 of pixel j / 3; -1 leaves a byte to the other channels.
  const __m128i from[3][3] = {{_mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5),
                               _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1),
                               _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1)},
                              {_mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1),
                               _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10),
                               _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1)},
                              {_mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1),
                               _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1),
                               _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15)}};
  for (std::int64_t p = 0; p < kBlockPixels; p += 16) {
    __m128i channel[3];
    for (int c = 0; c < 3; ++c) channel[c] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes[c] + p));
    for (int part = 0; part < 3; ++part) {
      const __m128i mixed = _mm_or_si128(
          _mm_or_si128(_mm_shuffle_epi8(channel[0], from[part][0]), _mm_shuffle_epi8(channel[1], from[part][1])),
          _mm_shuffle_epi8(channel[2], from[part][2]));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 3 * p + 16 * part), mixed);
    }
  }
}

// Writes the codes of all channels for every block of up to 64 pixels that [begin, end) covers.
// codes(image, c, first, count, out) puts the codes of `count` pixels of one plane, from pixel `first` on, into `out`,
// and may write up to 64 codes there only if `count` is 64.
template <typename Codes>
inline void quantize_blocks(const QuantizeArgs& args, std::int64_t begin, std::int64_t end, Codes codes) {
  const std::int64_t channels = args.channels;
  while (begin < end) {
    const std::int64_t image = begin / args.pixels;
    const std::int64_t first = begin % args.pixels;
    const std::int64_t left = args.pixels - first < end - begin ? args.pixels - first : end - begin;
    const std::int64_t count = left < kBlockPixels ? left : kBlockPixels;
    std::uint8_t* y = args.y + begin * channels;
    if (channels == 1) {
      codes(image, std::int64_t{0}, first, count, y);
    } else if (channels == 3 && count == kBlockPixels) {
      std::uint8_t block[3][kBlockPixels];
      for (std::int64_t c = 0; c < 3; ++c) codes(image, c, first, count, block[c]);
      interleave_three(block, y);
    } else {
      std::uint8_t block[kBlockPixels];
      for (std::int64_t c = 0; c < channels; ++c) {
        codes(image, c, first, count, block);
        for (std::int64_t p = 0; p < count; ++p) y[p * channels + c] = block[p];
      }
    }
    begin += count;
  }
}

#endif

}  // namespace
}  // namespace pare::kernels
