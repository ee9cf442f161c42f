#include <immintrin.h>

#include "pare/kernels/pool/pool_args.h"
#include "pare/kernels/pool/pool_windows.h"

namespace pare::kernels {

namespace {

// Masked stores are slow on some processors, so only what is left past whole vectors goes through masks.
__mmask64 first_bytes(std::int64_t count) { return (__mmask64{1} << count) - 1; }

__m512i max_of_2x2(__m512i a, __m512i b, __m512i c, __m512i d) {
  return _mm512_max_epu8(_mm512_max_epu8(a, b), _mm512_max_epu8(c, d));
}

// is_plain_2x2 windows.
void row_2x2(const std::uint8_t* top, const std::uint8_t* bottom, std::uint8_t* y, std::int64_t out_w,
             std::int64_t channels) {
  for (std::int64_t ox = 0; ox < out_w; ++ox) {
    std::int64_t c = 0;
    for (; c + 64 <= channels; c += 64) {
      _mm512_storeu_si512(
          y + c, max_of_2x2(_mm512_loadu_si512(top + c), _mm512_loadu_si512(bottom + c),
                            _mm512_loadu_si512(top + channels + c), _mm512_loadu_si512(bottom + channels + c)));
    }
    if (c < channels) {
      const __mmask64 mask = first_bytes(channels - c);
      _mm512_mask_storeu_epi8(
          y + c, mask,
          max_of_2x2(_mm512_maskz_loadu_epi8(mask, top + c), _mm512_maskz_loadu_epi8(mask, bottom + c),
                     _mm512_maskz_loadu_epi8(mask, top + channels + c),
                     _mm512_maskz_loadu_epi8(mask, bottom + channels + c)));
    }
    top += 2 * channels;
    bottom += 2 * channels;
    y += channels;
  }
}

// The same for 32 channels: a vector holds both columns of a window.
void row_2x2_of_32(const std::uint8_t* top, const std::uint8_t* bottom, std::uint8_t* y, std::int64_t out_w) {
  for (std::int64_t ox = 0; ox < out_w; ++ox) {
    const __m512i both = _mm512_max_epu8(_mm512_loadu_si512(top + 64 * ox), _mm512_loadu_si512(bottom + 64 * ox));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 32 * ox),
                        _mm256_max_epu8(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1)));
  }
}

}  // namespace

void run_max_pool_avx512(const MaxPoolArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t channels = args.channels;
  const std::int64_t line = args.in_w * channels;
  const bool is_2x2 = is_plain_2x2(args);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* image = args.x + row / args.out_h * args.in_h * line;
    const std::int64_t top = row % args.out_h * args.stride_h - args.pad_top;
    std::uint8_t* y = args.y + row * args.out_w * channels;
    if (is_2x2 && channels == 32) {
      row_2x2_of_32(image + top * line, image + (top + 1) * line, y, args.out_w);
      continue;
    }
    if (is_2x2) {
      row_2x2(image + top * line, image + (top + 1) * line, y, args.out_w, channels);
      continue;
    }
    const Taps rows = taps_within(top, args.kernel_h, args.dilation_h, args.in_h);
    for (std::int64_t ox = 0; ox < args.out_w; ++ox) {
      const std::int64_t left = ox * args.stride_w - args.pad_left;
      const Taps columns = taps_within(left, args.kernel_w, args.dilation_w, args.in_w);
      // Calls tap(x) with the channels of every tap that lies in the input, from `first` on.
      const auto for_each_tap = [&](std::int64_t first, auto tap) {
        for (std::int64_t ky = rows.first; ky < rows.last; ++ky) {
          const std::uint8_t* x = image + (top + ky * args.dilation_h) * line + left * channels + first;
          for (std::int64_t kx = columns.first; kx < columns.last; ++kx) tap(x + kx * args.dilation_w * channels);
        }
      };
      std::int64_t c = 0;
      for (; c + 64 <= channels; c += 64) {
        __m512i largest = _mm512_setzero_si512();
        for_each_tap(c, [&](const std::uint8_t* x) { largest = _mm512_max_epu8(largest, _mm512_loadu_si512(x)); });
        _mm512_storeu_si512(y + ox * channels + c, largest);
      }
      if (c < channels) {
        const __mmask64 mask = first_bytes(channels - c);
        __m512i largest = _mm512_setzero_si512();
        for_each_tap(
            c, [&](const std::uint8_t* x) { largest = _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(mask, x)); });
        _mm512_mask_storeu_epi8(y + ox * channels + c, mask, largest);
      }
    }
  }
}

namespace {

// Sums 64 channels over at most 257 pixels: 257 * 255 is the most that 16 bits hold.
void add_pixels(const std::uint8_t* x, std::int64_t stride, std::int64_t pixels, __mmask64 mask, __m512i sums[4]) {
  __m512i low = _mm512_setzero_si512();
  __m512i high = _mm512_setzero_si512();
  for (std::int64_t p = 0; p < pixels; ++p) {
    const __m512i codes = _mm512_maskz_loadu_epi8(mask, x + p * stride);
    low = _mm512_add_epi16(low, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(codes)));
    high = _mm512_add_epi16(high, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(codes, 1)));
  }
  sums[0] = _mm512_add_epi32(sums[0], _mm512_cvtepu16_epi32(_mm512_castsi512_si256(low)));
  sums[1] = _mm512_add_epi32(sums[1], _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(low, 1)));
  sums[2] = _mm512_add_epi32(sums[2], _mm512_cvtepu16_epi32(_mm512_castsi512_si256(high)));
  sums[3] = _mm512_add_epi32(sums[3], _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(high, 1)));
}

}  // namespace

void run_global_average_pool_avx512(const GlobalAveragePoolArgs& args, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kPixels = 257;
  const __m512 step = _mm512_set1_ps(args.x_scale / static_cast<float>(args.pixels));
  const __m512 reciprocal = _mm512_set1_ps(1.0F / args.y_scale);
  const __m512 lo = _mm512_set1_ps(static_cast<float>(0 - args.y_zero_point));
  const __m512 hi = _mm512_set1_ps(static_cast<float>(255 - args.y_zero_point));
  const __m512i offset = _mm512_set1_epi32(static_cast<int>(args.pixels * args.x_zero_point));
  const __m512i zero_point = _mm512_set1_epi32(args.y_zero_point);
  for (std::int64_t image = begin; image < end; ++image) {
    const std::uint8_t* x = args.x + image * args.pixels * args.channels;
    std::uint8_t* y = args.y + image * args.channels;
    for (std::int64_t c = 0; c < args.channels; c += 64) {
      const __mmask64 mask = args.channels - c >= 64 ? ~__mmask64{0} : first_bytes(args.channels - c);
      __m512i sums[4] = {};
      for (std::int64_t p = 0; p < args.pixels; p += kPixels) {
        const std::int64_t pixels = args.pixels - p < kPixels ? args.pixels - p : kPixels;
        add_pixels(x + p * args.channels + c, args.channels, pixels, mask, sums);
      }
      for (int part = 0; part < 4; ++part) {
        const __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[part], offset)), step);
        const __m512 scaled = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(real, reciprocal), lo), hi);
        const __m512i codes = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), zero_point);
        const auto stored = static_cast<__mmask16>(mask >> (16 * part));
        _mm512_mask_cvtusepi32_storeu_epi8(y + c + 16 * part, stored, codes);
      }
    }
  }
}

}  // namespace pare::kernels
