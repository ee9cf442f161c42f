#include <immintrin.h>

#include "pare/kernels/pool/pool_args.h"
#include "pare/kernels/pool/pool_windows.h"

namespace pare::kernels {

namespace {

// One window of all channels. `x`: its first tap in the input.
struct Window {
  std::int64_t rows, columns;
  std::int64_t row_stride, column_stride;
};

__m256i load(const std::uint8_t* x) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)); }
__m128i load_half(const std::uint8_t* x) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x)); }

__m256i max_of_32(const std::uint8_t* x, const Window& window) {
  __m256i largest = _mm256_setzero_si256();
  for (std::int64_t ky = 0; ky < window.rows; ++ky) {
    for (std::int64_t kx = 0; kx < window.columns; ++kx) {
      largest = _mm256_max_epu8(largest, load(x + ky * window.row_stride + kx * window.column_stride));
    }
  }
  return largest;
}

__m128i max_of_16(const std::uint8_t* x, const Window& window) {
  __m128i largest = _mm_setzero_si128();
  for (std::int64_t ky = 0; ky < window.rows; ++ky) {
    for (std::int64_t kx = 0; kx < window.columns; ++kx) {
      largest = _mm_max_epu8(largest, load_half(x + ky * window.row_stride + kx * window.column_stride));
    }
  }
  return largest;
}

// Where channels do not fill whole vectors, the last vector ends with the last channel and repeats some.
void pool_window(const std::uint8_t* x, const Window& window, std::uint8_t* y, std::int64_t channels) {
  if (channels >= 32) {
    for (std::int64_t c = 0; c < channels; c += 32) {
      const std::int64_t at = c + 32 <= channels ? c : channels - 32;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + at), max_of_32(x + at, window));
    }
  } else if (channels >= 16) {
    const std::int64_t at = channels - 16;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), max_of_16(x, window));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + at), max_of_16(x + at, window));
  } else {
    for (std::int64_t c = 0; c < channels; ++c) {
      std::uint8_t largest = 0;
      for (std::int64_t ky = 0; ky < window.rows; ++ky) {
        for (std::int64_t kx = 0; kx < window.columns; ++kx) {
          const std::uint8_t code = x[ky * window.row_stride + kx * window.column_stride + c];
          if (code > largest) largest = code;
        }
      }
      y[c] = largest;
    }
  }
}

// is_plain_2x2 windows; channels: a multiple of 32.
void row_2x2(const std::uint8_t* top, const std::uint8_t* bottom, std::uint8_t* y, std::int64_t out_w,
             std::int64_t channels) {
  for (std::int64_t ox = 0; ox < out_w; ++ox) {
    for (std::int64_t c = 0; c < channels; c += 32) {
      const __m256i left = _mm256_max_epu8(load(top + c), load(bottom + c));
      const __m256i right = _mm256_max_epu8(load(top + channels + c), load(bottom + channels + c));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + c), _mm256_max_epu8(left, right));
    }
    top += 2 * channels;
    bottom += 2 * channels;
    y += channels;
  }
}

}  // namespace

void run_max_pool_avx2(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t channels = args.channels;
  const std::int64_t line = args.in_w * channels;
  const bool is_2x2 = is_plain_2x2(args);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* image = args.x + row / args.out_h * args.in_h * line;
    const std::int64_t top = row % args.out_h * args.stride_h - args.pad_top;
    std::uint8_t* y = args.y + row * args.out_w * channels;
    if (is_2x2 && channels % 32 == 0) {
      row_2x2(image + top * line, image + (top + 1) * line, y, args.out_w, channels);
      continue;
    }
    const Taps rows = taps_within(top, args.kernel_h, args.dilation_h, args.in_h);
    for (std::int64_t ox = 0; ox < args.out_w; ++ox) {
      const std::int64_t left = ox * args.stride_w - args.pad_left;
      const Taps columns = taps_within(left, args.kernel_w, args.dilation_w, args.in_w);
      const Window window{rows.last - rows.first, columns.last - columns.first, args.dilation_h * line,
                          args.dilation_w * channels};
      const std::int64_t first =
          (top + rows.first * args.dilation_h) * args.in_w + left + columns.first * args.dilation_w;
      pool_window(image + first * channels, window, y + ox * channels, channels);
    }
  }
}

namespace {

// Sums 16 channels over at most 257 pixels: 257 * 255 is the most that 16 bits hold.
void add_pixels(const std::uint8_t* x, std::int64_t stride, std::int64_t pixels, __m256i sums[2]) {
  __m256i narrow = _mm256_setzero_si256();
  for (std::int64_t p = 0; p < pixels; ++p) {
    narrow = _mm256_add_epi16(narrow, _mm256_cvtepu8_epi16(load_half(x + p * stride)));
  }
  sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(narrow)));
  sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(narrow, 1)));
}

struct Average {
  __m256 step, reciprocal, lo, hi;
  __m256i offset, zero_point;

  // Codes of 8 sums, each in 32 bits.
  [[nodiscard]] __m256i of(__m256i sums) const {
    const __m256 real = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sums, offset)), step);
    const __m256 scaled = _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(real, reciprocal), lo), hi);
    return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), zero_point);
  }
};

void average_of_16(const std::uint8_t* x, const GlobalAveragePoolArgs& args, const Average& average, std::uint8_t* y) {
  constexpr std::int64_t kPixels = 257;
  __m256i sums[2] = {};
  for (std::int64_t p = 0; p < args.pixels; p += kPixels) {
    const std::int64_t pixels = args.pixels - p < kPixels ? args.pixels - p : kPixels;
    add_pixels(x + p * args.channels, args.channels, pixels, sums);
  }
  // Packing interleaves 128-bit lanes: 64-bit quarters 0, 2, 1, 3.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(average.of(sums[0]), average.of(sums[1])), 0xD8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y),
                   _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

// One channel at a time, for fewer than a vector holds.
void average_of_few(const std::uint8_t* x, const GlobalAveragePoolArgs& args, const Average& average, std::uint8_t* y) {
  for (std::int64_t c = 0; c < args.channels; ++c) {
    std::int32_t sum = 0;
    for (std::int64_t p = 0; p < args.pixels; ++p) sum += x[p * args.channels + c];
    y[c] = static_cast<std::uint8_t>(_mm256_extract_epi32(average.of(_mm256_set1_epi32(sum)), 0));
  }
}

}  // namespace

void run_global_average_pool_avx2(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end) {
  const Average average{_mm256_set1_ps(args.x_scale / static_cast<float>(args.pixels)),
                        _mm256_set1_ps(1.0F / args.y_scale),
                        _mm256_set1_ps(static_cast<float>(0 - args.y_zero_point)),
                        _mm256_set1_ps(static_cast<float>(255 - args.y_zero_point)),
                        _mm256_set1_epi32(static_cast<int>(args.pixels * args.x_zero_point)),
                        _mm256_set1_epi32(args.y_zero_point)};
  for (std::int64_t image = begin; image < end; ++image) {
    const std::uint8_t* x = args.x + image * args.pixels * args.channels;
    std::uint8_t* y = args.y + image * args.channels;
    if (args.channels < 16) {
      average_of_few(x, args, average, y);
      continue;
    }
    for (std::int64_t c = 0; c < args.channels; c += 16) {
      const std::int64_t at = c + 16 <= args.channels ? c : args.channels - 16;
      average_of_16(x + at, args, average, y + at);
    }
  }
}

}  // namespace pare::kernels
