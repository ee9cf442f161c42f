// vpdpbusd adds four products of bytes to one accumulator. Four input rows of one column, interleaved byte by byte, put
// the four taps of a channel side by side; the weights of further rows are 0. Neighbouring outputs of a 3 wide kernel
// share columns, so that each is interleaved once.
//
// Padding is the code x_zero_point, and what the zero point adds to every accumulator is taken off its bias.
#include <immintrin.h>

#include "pare/kernels/depthwise/depthwise_args.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kBlock = 64;  // channels of a block
constexpr std::int64_t kRows = 4;    // of one product

// Blocks follow each other; each is
//   start int32 [4][16], multiplier float [4][16], weights int8 [row groups][kernel_w][4][16][4 rows]
// Quarter t of a vector's 16 accumulators holds channels 16 * (l / 4) + 4 * t + l % 4, as interleaving leaves them.
std::int64_t channel_of(std::int64_t quarter, std::int64_t lane) { return 16 * (lane / 4) + 4 * quarter + lane % 4; }

std::int64_t row_groups(std::int64_t kernel_h) { return (kernel_h + kRows - 1) / kRows; }

std::int64_t block_bytes(std::int64_t kernel_h, std::int64_t kernel_w) {
  return 2 * 4 * kBlock + row_groups(kernel_h) * kernel_w * kRows * kBlock;
}

// Column of up to four rows, ready for products.
struct Column {
  __m512i quarter[4];
};

Column interleave(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab_low = _mm512_unpacklo_epi8(a, b);
  const __m512i ab_high = _mm512_unpackhi_epi8(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi8(c, d);
  const __m512i cd_high = _mm512_unpackhi_epi8(c, d);
  return {{_mm512_unpacklo_epi16(ab_low, cd_low), _mm512_unpackhi_epi16(ab_low, cd_low),
           _mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high)}};
}

struct Sums {
  __m512i quarter[4];

  void add(const Column& column, const std::int8_t* weights) {
    for (int t = 0; t < 4; ++t) {
      quarter[t] = _mm512_dpbusd_epi32(quarter[t], column.quarter[t], _mm512_loadu_si512(weights + 64 * t));
    }
  }
};

// One block of channels, and how its sums become codes.
struct Block {
  const std::int8_t* packed;
  __mmask64 mask;
  bool whole;
  __m512 hi;
  __m512i y_zero_point, qmin, padding;

  [[nodiscard]] Sums start() const {
    Sums sums;
    for (int t = 0; t < 4; ++t) sums.quarter[t] = _mm512_loadu_si512(packed + 64 * t);
    return sums;
  }
  [[nodiscard]] const std::int8_t* weights() const { return packed + 2 * 4 * kBlock; }
  [[nodiscard]] __m512i load(const std::uint8_t* x) const {
    return whole ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi8(mask, x);
  }
  // Clamps as add/add_avx512.cc does; packing undoes the order of the quarters.
  void store(const Sums& sums, std::uint8_t* y) const {
    __m512i v[4];
    for (int t = 0; t < 4; ++t) {
      const __m512 multiplier = _mm512_loadu_ps(packed + 4 * kBlock + 64 * t);
      v[t] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums.quarter[t]), multiplier), hi));
    }
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), y_zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), y_zero_point);
    const __m512i codes = _mm512_max_epu8(_mm512_packus_epi16(low, high), qmin);
    if (whole) {
      _mm512_storeu_si512(y, codes);
    } else {
      _mm512_mask_storeu_epi8(y, mask, codes);
    }
  }
};

// `line`: of the input, at the block's first channel; null for one in the padding.
__m512i load_pixel(const Block& block, const std::uint8_t* line, std::int64_t ix, std::int64_t channels) {
  return line == nullptr ? block.padding : block.load(line + ix * channels);
}

// Any kernel: rows of `image` from `top` on.
void row_of_any(const DepthwiseArgs& args, const Block& block, const std::uint8_t* image, std::int64_t top,
                std::uint8_t* y) {
  const std::int64_t channels = args.channels;
  for (std::int64_t ox = 0; ox < args.out_w; ++ox) {
    const std::int64_t left = ox * args.stride_w - args.pad_left;
    const std::int8_t* weights = block.weights();
    Sums sums = block.start();
    for (std::int64_t first = 0; first < args.kernel_h; first += kRows) {
      const std::uint8_t* lines[kRows];
      for (std::int64_t r = 0; r < kRows; ++r) {
        const std::int64_t iy = top + (first + r) * args.dilation_h;
        const bool inside = first + r < args.kernel_h && iy >= 0 && iy < args.in_h;
        lines[r] = inside ? image + iy * args.in_w * channels : nullptr;
      }
      for (std::int64_t kx = 0; kx < args.kernel_w; ++kx, weights += kRows * kBlock) {
        const std::int64_t ix = left + kx * args.dilation_w;
        if (ix < 0 || ix >= args.in_w) {
          sums.add({{block.padding, block.padding, block.padding, block.padding}}, weights);
          continue;
        }
        sums.add(interleave(load_pixel(block, lines[0], ix, channels), load_pixel(block, lines[1], ix, channels),
                            load_pixel(block, lines[2], ix, channels), load_pixel(block, lines[3], ix, channels)),
                 weights);
      }
    }
    block.store(sums, y + ox * channels);
  }
}

// 3 x 3 without horizontal stride and dilation.
void row_of_3x3(const DepthwiseArgs& args, const Block& block, const std::uint8_t* image, std::int64_t top,
                std::uint8_t* y) {
  const std::int64_t channels = args.channels;
  const std::uint8_t* lines[3];
  for (std::int64_t r = 0; r < 3; ++r) {
    const std::int64_t iy = top + r * args.dilation_h;
    lines[r] = iy >= 0 && iy < args.in_h ? image + iy * args.in_w * channels : nullptr;
  }
  const auto column = [&](std::int64_t ix) -> Column {
    if (ix < 0 || ix >= args.in_w) return {{block.padding, block.padding, block.padding, block.padding}};
    const __m512i last = load_pixel(block, lines[2], ix, channels);
    return interleave(load_pixel(block, lines[0], ix, channels), load_pixel(block, lines[1], ix, channels), last, last);
  };
  const std::int8_t* weights = block.weights();
  const auto output = [&](std::int64_t ox, const Column& a, const Column& b, const Column& c) {
    Sums sums = block.start();
    sums.add(a, weights);
    sums.add(b, weights + kRows * kBlock);
    sums.add(c, weights + 2 * kRows * kBlock);
    block.store(sums, y + ox * channels);
  };
  Column a = column(-args.pad_left);
  Column b = column(1 - args.pad_left);
  // Three outputs a round, after which the columns have their names again.
  for (std::int64_t ox = 0; ox < args.out_w; ox += 3) {
    const Column c = column(ox + 2 - args.pad_left);
    output(ox, a, b, c);
    if (ox + 1 == args.out_w) return;
    a = column(ox + 3 - args.pad_left);
    output(ox + 1, b, c, a);
    if (ox + 2 == args.out_w) return;
    b = column(ox + 4 - args.pad_left);
    output(ox + 2, c, a, b);
  }
}

}  // namespace

std::size_t depthwise_packed_bytes_avx512(const DepthwiseWeights& weights) {
  const std::int64_t blocks = (weights.channels + kBlock - 1) / kBlock;
  return static_cast<std::size_t>(blocks * block_bytes(weights.kernel_h, weights.kernel_w));
}

void pack_depthwise_avx512(const DepthwiseWeights& weights, void* packed) {
  auto* block = static_cast<std::int8_t*>(packed);
  const std::int64_t taps = weights.kernel_h * weights.kernel_w;
  const std::int64_t bytes = block_bytes(weights.kernel_h, weights.kernel_w);
  for (std::int64_t first = 0; first < weights.channels; first += kBlock, block += bytes) {
    auto* start = reinterpret_cast<std::int32_t*>(block);
    auto* multiplier = reinterpret_cast<float*>(block) + kBlock;
    for (std::int64_t i = 0; i < kBlock; ++i) {
      const std::int64_t c = first + channel_of(i / 16, i % 16);
      const bool real = c < weights.channels;
      start[i] = real ? weights.bias[c] : 0;
      multiplier[i] = real ? weights.multiplier[c] : 0.0F;
      for (std::int64_t tap = 0; real && tap < taps; ++tap) {
        start[i] -= weights.x_zero_point * weights.values[c * taps + tap];
      }
    }
    std::int8_t* out = block + 2 * 4 * kBlock;
    for (std::int64_t group = 0; group < row_groups(weights.kernel_h); ++group) {
      for (std::int64_t kx = 0; kx < weights.kernel_w; ++kx) {
        for (std::int64_t i = 0; i < kBlock; ++i) {
          const std::int64_t c = first + channel_of(i / 16, i % 16);
          for (std::int64_t r = 0; r < kRows; ++r) {
            const std::int64_t ky = group * kRows + r;
            const bool real = c < weights.channels && ky < weights.kernel_h;
            *out++ = real ? weights.values[c * taps + ky * weights.kernel_w + kx] : std::int8_t{0};
          }
        }
      }
    }
  }
}

void run_depthwise_avx512(const DepthwiseArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t bytes = block_bytes(args.kernel_h, args.kernel_w);
  const bool is_3x3 = args.kernel_h == 3 && args.kernel_w == 3 && args.stride_w == 1 && args.dilation_w == 1;
  Block block;
  block.hi = _mm512_set1_ps(static_cast<float>(255 - args.y_zero_point));
  block.y_zero_point = _mm512_set1_epi16(static_cast<short>(args.y_zero_point));
  block.qmin = _mm512_set1_epi8(static_cast<char>(args.qmin));
  block.padding = _mm512_set1_epi8(static_cast<char>(args.x_zero_point));
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* image = args.x + row / args.out_h * args.in_h * args.in_w * args.channels;
    const std::int64_t top = row % args.out_h * args.stride_h - args.pad_top;
    std::uint8_t* y = args.y + row * args.out_w * args.channels;
    block.packed = static_cast<const std::int8_t*>(args.packed);
    for (std::int64_t c = 0; c < args.channels; c += kBlock, block.packed += bytes) {
      block.whole = args.channels - c >= kBlock;
      block.mask = block.whole ? ~__mmask64{0} : (__mmask64{1} << (args.channels - c)) - 1;
      (is_3x3 ? row_of_3x3 : row_of_any)(args, block, image + c, top, y + c);
    }
  }
}

}  // namespace pare::kernels
