#include <immintrin.h>

#include "pare/kernels/transpose/transpose_args.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kPixels = 16;
constexpr std::int64_t kChannels = 32;

// Two transpositions of 16 x 16 bytes side by side, one in each 128-bit lane: row i of `m` becomes column i. Each round
// interleaves rows eight apart, which rotates the bits of (row, column) by one place; after four rounds row and column
// have changed places. (With AVX-512, four side by side, storing 16 bytes at a time took longer on Zen 4.)
void transpose_lanes(__m256i m[16]) {
  for (int round = 0; round < 4; ++round) {
    __m256i n[16];
    for (int i = 0; i < 8; ++i) {
      n[2 * i] = _mm256_unpacklo_epi8(m[i], m[i + 8]);
      n[2 * i + 1] = _mm256_unpackhi_epi8(m[i], m[i + 8]);
    }
    for (int i = 0; i < 16; ++i) m[i] = n[i];
  }
}

// 16 pixels of 32 channels, or of 16 (then the second lane is idle).
void transpose_block(const std::uint8_t* x, std::int64_t x_stride, std::uint8_t* y, std::int64_t y_stride,
                     bool both_lanes) {
  __m256i m[16];
  for (std::int64_t p = 0; p < kPixels; ++p) {
    m[p] = both_lanes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + p * x_stride))
                      : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * x_stride)));
  }
  transpose_lanes(m);
  for (std::int64_t i = 0; i < 16; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i * y_stride), _mm256_castsi256_si128(m[i]));
    if (both_lanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + (i + 16) * y_stride), _mm256_extracti128_si256(m[i], 1));
    }
  }
}

void transpose_small(const std::uint8_t* x, std::uint8_t* y, std::int64_t pixels, std::int64_t channels) {
  for (std::int64_t p = 0; p < pixels; ++p) {
    for (std::int64_t c = 0; c < channels; ++c) y[c * pixels + p] = x[p * channels + c];
  }
}

}  // namespace

// Blocks at the ends start earlier and repeat some bytes, as they may not pass the end.
void run_transpose_avx2(const TransposeArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t image = begin; image < end; ++image) {
    const std::uint8_t* x = args.x + image * args.pixels * args.channels;
    std::uint8_t* y = args.y + image * args.pixels * args.channels;
    if (args.pixels < kPixels || args.channels < 16) {
      transpose_small(x, y, args.pixels, args.channels);
      continue;
    }
    const std::int64_t width = args.channels < kChannels ? 16 : kChannels;
    for (std::int64_t c = 0; c < args.channels; c += width) {
      const std::int64_t channel = c + width <= args.channels ? c : args.channels - width;
      for (std::int64_t p = 0; p < args.pixels; p += kPixels) {
        const std::int64_t pixel = p + kPixels <= args.pixels ? p : args.pixels - kPixels;
        transpose_block(x + pixel * args.channels + channel, args.channels, y + channel * args.pixels + pixel,
                        args.pixels, width == kChannels);
      }
    }
  }
}

}  // namespace pare::kernels
