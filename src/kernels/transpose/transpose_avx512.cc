#include <immintrin.h>

#include "pare/kernels/transpose/transpose_args.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kPixels = 16;
constexpr std::int64_t kChannels = 64;

// Four transpositions of 16 x 16 bytes side by side, one in each 128-bit lane: row i of `m` becomes column i.
// Each round interleaves rows eight apart, which rotates the bits of (row, column) by one place; after four rounds row
// and column have changed places.
void transpose_lanes(__m512i m[16]) {
  __m512i n[16];
  for (int i = 0; i < 8; ++i) {
    n[2 * i] = _mm512_unpacklo_epi8(m[i], m[i + 8]);
    n[2 * i + 1] = _mm512_unpackhi_epi8(m[i], m[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    m[2 * i] = _mm512_unpacklo_epi8(n[i], n[i + 8]);
    m[2 * i + 1] = _mm512_unpackhi_epi8(n[i], n[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    n[2 * i] = _mm512_unpacklo_epi8(m[i], m[i + 8]);
    n[2 * i + 1] = _mm512_unpackhi_epi8(m[i], m[i + 8]);
  }
  for (int i = 0; i < 8; ++i) {
    m[2 * i] = _mm512_unpacklo_epi8(n[i], n[i + 8]);
    m[2 * i + 1] = _mm512_unpackhi_epi8(n[i], n[i + 8]);
  }
}

// Up to 16 pixels of up to 64 channels. `x_stride`: channels of the image, `y_stride`: its pixels.
void transpose_block(const std::uint8_t* x, std::int64_t x_stride, std::uint8_t* y, std::int64_t y_stride,
                     std::int64_t pixels, std::int64_t channels) {
  __m512i m[16];
  if (pixels == kPixels && channels >= kChannels) {
    for (std::int64_t p = 0; p < kPixels; ++p) m[p] = _mm512_loadu_si512(x + p * x_stride);
    transpose_lanes(m);
    for (std::int64_t i = 0; i < 16; ++i) {
      std::uint8_t* plane = y + i * y_stride;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(plane), _mm512_castsi512_si128(m[i]));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(plane + 16 * y_stride), _mm512_extracti32x4_epi32(m[i], 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(plane + 32 * y_stride), _mm512_extracti32x4_epi32(m[i], 2));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(plane + 48 * y_stride), _mm512_extracti32x4_epi32(m[i], 3));
    }
    return;
  }
  const __mmask64 loaded = channels >= kChannels ? ~__mmask64{0} : (__mmask64{1} << channels) - 1;
  for (std::int64_t p = 0; p < kPixels; ++p) {
    m[p] = p < pixels ? _mm512_maskz_loadu_epi8(loaded, x + p * x_stride) : _mm512_setzero_si512();
  }
  transpose_lanes(m);
  const auto stored = static_cast<__mmask16>((1U << pixels) - 1);
  for (std::int64_t c = 0; c < channels && c < kChannels; ++c) {
    const __m128i lanes[4] = {_mm512_castsi512_si128(m[c % 16]), _mm512_extracti32x4_epi32(m[c % 16], 1),
                              _mm512_extracti32x4_epi32(m[c % 16], 2), _mm512_extracti32x4_epi32(m[c % 16], 3)};
    _mm_mask_storeu_epi8(y + c * y_stride, stored, lanes[c / 16]);
  }
}

}  // namespace

void run_transpose_avx512(const TransposeArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t image = begin; image < end; ++image) {
    const std::uint8_t* x = args.x + image * args.pixels * args.channels;
    std::uint8_t* y = args.y + image * args.pixels * args.channels;
    for (std::int64_t c = 0; c < args.channels; c += kChannels) {
      for (std::int64_t p = 0; p < args.pixels; p += kPixels) {
        // A short last block of an image that has 16 pixels starts earlier and repeats some: whole blocks are faster.
        const std::int64_t at = p + kPixels <= args.pixels || args.pixels < kPixels ? p : args.pixels - kPixels;
        const std::int64_t pixels = args.pixels - at < kPixels ? args.pixels - at : kPixels;
        transpose_block(x + at * args.channels + c, args.channels, y + c * args.pixels + at, args.pixels, pixels,
                        args.channels - c);
      }
    }
  }
}

}  // namespace pare::kernels
